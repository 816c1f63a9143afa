"""Train and score one snapshot ensemble: python train.py [group=option] [key=value]."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lungsound.cli.command import cli_command
from lungsound.config.overrides import compose_run, read_arguments, run_hydra


@cli_command  # also here: Hydra would print a traceback for a LungsoundError
def train(cfg: DictConfig, choices: dict[str, str] | None = None) -> None:
    """Run one training; Hydra passes no `choices`."""
    from lungsound.runs.run import run

    run(cfg, choices or dict(HydraConfig.get().runtime.choices))


@cli_command
def main() -> None:
    """Run the command line."""
    arguments = read_arguments()
    if any(argument.startswith("-") for argument in arguments):
        run_hydra(train, arguments)  # Hydra handles its own flags
    else:
        train(*compose_run(arguments))


if __name__ == "__main__":
    main()
