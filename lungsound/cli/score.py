"""`lungsound score`: score a finished run's members on another database."""

from pathlib import Path
from typing import Any

import click

from lungsound.cli.completion import user_path
from lungsound.cli.data import database_argument


@click.command()
@click.argument("run", type=user_path)
@database_argument
@click.option(
    "--part",
    type=click.Choice(["train", "test", "inter", "intra"]),
    help="A part of SPRSound; test is inter and intra.",
)
@click.option(
    "--store",
    type=user_path,
    metavar="PATH",
    help="The folder of the run's trajectory, if store_dir has moved.",
)
@click.option("--skip-bad", is_flag=True, help="Leave out recordings that cannot be used.")
def score(
    run: Path,
    spec: Any,
    path: Path,
    part: str | None,
    store: Path | None,
    skip_bad: bool,
) -> None:
    """Score a finished run's members and ensemble on every cycle of a database.

    RUN is the run's folder below outputs, PATH the database's.
    """
    from lungsound.runs.rescore import score_on_database

    score_on_database(run, spec, path, part, store, skip_bad)
