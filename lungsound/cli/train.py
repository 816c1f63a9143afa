"""`lungsound train` and `lungsound sweep`, which train.py and sweep.py call."""

from typing import Any

import click

from lungsound.cli.command import cli_command
from lungsound.cli.completion import complete_word

HYDRA_LINE = {"ignore_unknown_options": True, "allow_interspersed_args": False}


words_argument = click.argument(
    "words", nargs=-1, type=click.UNPROCESSED, shell_complete=complete_word
)


@click.command(context_settings=HYDRA_LINE, add_help_option=False)  # --help is Hydra's
@words_argument
def train(words: tuple[str, ...]) -> None:
    """Train and score a snapshot ensemble: group=option key=value."""
    from lungsound.config.overrides import read_arguments, run_hydra

    arguments = read_arguments(words)
    if any(argument.startswith("-") for argument in arguments):
        run_hydra(run_job, arguments)  # Hydra handles its own flags
    else:
        from lungsound.runs.run import train_run

        train_run(words)


@cli_command  # also here: Hydra would print a traceback for a LungsoundError
def run_job(cfg: Any) -> float:
    """Run a training for Hydra, whose sweepers search for a high validation score."""
    from hydra.core.hydra_config import HydraConfig

    from lungsound.runs.run import run
    from lungsound.runs.scores import validation_score

    return validation_score(run(cfg, dict(HydraConfig.get().runtime.choices)))


@click.command(context_settings=HYDRA_LINE, add_help_option=False)  # --help is Hydra's
@words_argument
def sweep(words: tuple[str, ...]) -> None:
    """Run a study of several trainings: key=2,3,...,10 plan=true."""
    from lungsound.config.ellipsis import expand_ellipses
    from lungsound.config.overrides import prints_only, read_arguments, run_hydra

    arguments = expand_ellipses(read_arguments(words))
    if prints_only(arguments):
        run_hydra(lambda _: None, arguments)
    else:
        from lungsound.studies.study import run_study

        run_study(arguments)
