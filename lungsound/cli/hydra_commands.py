"""What train.py and `lungsound train`, sweep.py and `lungsound sweep` do with their words."""

from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lungsound.cli.command import cli_command
from lungsound.config.ellipsis import expand_ellipses
from lungsound.config.overrides import compose_run, prints_only, read_arguments, run_hydra


@cli_command
def train(words: Sequence[str]) -> None:
    """Train and score one run."""
    arguments = read_arguments(words)
    if any(argument.startswith("-") for argument in arguments):
        run_hydra(_run_job, arguments)  # Hydra handles its own flags
    else:
        from lungsound.runs.run import run

        run(*compose_run(arguments))


@cli_command
def sweep(words: Sequence[str]) -> None:
    """Run a study, whose jobs are runs."""
    arguments = expand_ellipses(read_arguments(words))
    if prints_only(arguments):
        run_hydra(lambda _: None, arguments)
    else:
        from lungsound.studies.study import run_study

        run_study(arguments)


@cli_command  # also here: Hydra would print a traceback for a LungsoundError
def _run_job(cfg: DictConfig) -> None:
    from lungsound.runs.run import run

    run(cfg, dict(HydraConfig.get().runtime.choices))
