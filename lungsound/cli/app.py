"""The `lungsound` command. Subcommands import what they need when they run, so --help is fast."""

import shlex
import sys

import click

from lungsound.cli.command import cli_command
from lungsound.cli.compare import compare
from lungsound.cli.data import data
from lungsound.cli.distill import distill
from lungsound.cli.explain import explain
from lungsound.cli.export import export
from lungsound.cli.predict import predict
from lungsound.cli.register import register
from lungsound.cli.score import score
from lungsound.cli.send import send
from lungsound.cli.show import show
from lungsound.cli.study import study
from lungsound.cli.train import sweep, train


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def lungsound() -> None:
    """Databases, runs and studies of respiratory sounds."""


for command in (
    *(compare, data, distill, explain, export, predict, register, score, send, show, study),
    *(sweep, train),
):
    lungsound.add_command(command)


@cli_command
def main(arguments: list[str] | None = None) -> None:
    """Run a command line (without the program's name) and exit."""
    lungsound.main(arguments, prog_name="lungsound")


def run_former_command(module: str, *group: str) -> None:
    """Run a command by its name in release 0.1, and print the new one to stderr."""
    arguments = [*group, *sys.argv[1:]]
    new_line = shlex.join(["lungsound", *arguments])
    print(f"python -m {module} is now: {new_line} (0.3 drops the old name)", file=sys.stderr)
    main(arguments)
