"""Run a study: python sweep.py [-m] key=2,3,...,10 [plan=true]; each job is a run of train.py."""

from lungsound.cli.command import cli_command
from lungsound.config.ellipsis import expand_ellipses
from lungsound.config.overrides import prints_only, read_arguments, run_hydra


@cli_command
def main() -> None:
    """Run the command line."""
    arguments = expand_ellipses(read_arguments())
    if prints_only(arguments):
        run_hydra(lambda _: None, arguments)
    else:
        from lungsound.studies.study import run_study

        run_study(arguments)


if __name__ == "__main__":
    main()
