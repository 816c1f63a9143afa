"""`lungsound score`: score a finished run's members on another database."""

from pathlib import Path

import click

from lungsound.cli.data import DatabaseName
from lungsound.storage.places import user_path


@click.command()
@click.argument("run", type=user_path)
@click.argument("database", type=DatabaseName())
@click.argument("path", type=user_path)
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
    run: Path, database: str, path: Path, part: str | None, store: Path | None, skip_bad: bool
) -> None:
    """Score a finished run's members and ensemble on every cycle of a database.

    RUN is the run's folder below outputs, PATH the database's.
    """
    from lungsound.runs.rescore import score_on_database

    score_on_database(run, database, path, part, store, skip_bad)
