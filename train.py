"""Train and score one snapshot ensemble: python train.py [group=option] [key=value]."""

import sys

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lungsound.cli.command import cli_command
from lungsound.config.overrides import add_experiment_from_env, compose_run, run_hydra


@cli_command  # here, as Hydra would print its own traceback for an error of ours
def train(cfg: DictConfig, choices: dict[str, str] | None = None) -> None:
    from lungsound.runs.run import run

    run(cfg, choices or dict(HydraConfig.get().runtime.choices))


@cli_command
def main() -> None:
    arguments = add_experiment_from_env(sys.argv[1:])
    if any(argument.startswith("-") for argument in arguments):
        run_hydra(train, arguments)  # flags are Hydra's
    else:
        train(*compose_run(arguments))


if __name__ == "__main__":
    main()
