"""`lungsound data`: download, check and plot a database."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lungsound.cli.completion import user_path
from lungsound.errors import DataError, StorageError


class DatabaseName(click.ParamType[str]):
    """The name of a registered database that is not synthetic."""

    name = "database"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name; fail with a list of the names if it is unknown."""
        from lungsound.data.registry import DATABASES

        names = [name for name, spec in DATABASES.items() if spec.create is None]
        if value not in names:
            self.fail(f"expected one of {', '.join(names)}, but got {value!r}", param, ctx)
        return value


name_argument = click.argument("name", metavar="DATABASE", type=DatabaseName())
DATABASE_PARAMETERS = (
    name_argument,
    click.argument("path", type=user_path),
    click.option(
        "--table", type=user_path, metavar="FILE", help="data.table; cycles.csv if not given."
    ),
    click.option("--labels", metavar="NORMAL,...", help="data.labels; ICBHI's if not given."),
)


def database_argument(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate `command`, which gets `spec`, a DatabaseSpec, and `path`: DATABASE PATH.

    The options are for the database table.
    """

    @functools.wraps(command)
    def wrapped(name: str, table: Path | None, labels: str | None, **others: Any) -> None:
        from lungsound.data.registry import find_database

        if name != "table" and (table or labels):
            raise click.UsageError(f"--table and --labels are for the database table, not {name}")
        classes = [label.strip() for label in labels.split(",")] if labels else None
        try:
            spec = find_database(name, table, classes)
        except ValueError as error:
            raise click.UsageError(f"--labels {labels}: {error}") from error
        command(spec=spec, **others)

    for parameter in reversed(DATABASE_PARAMETERS):
        wrapped = parameter(wrapped)
    return wrapped


@click.group()
def data() -> None:
    """Databases of respiratory sounds."""


@data.command()
@name_argument
@click.argument("destination", metavar="DEST", type=user_path)
@click.option("--url", help="Another address of the same archive.")
def get(name: str, destination: Path, url: str | None) -> None:
    """Download a database into the new folder DEST."""
    from lungsound.data.tools.download import download_database

    print(download_database(name, destination, url))


@data.command()
@database_argument
def check(spec: Any, path: Path) -> None:
    """Read a whole database: its counts beside the published ones, and every problem.

    PATH is the database's folder (data.root). The exit code is 1 if there is a problem.
    """
    from lungsound.data.tools.audit import audit

    table, problems, remarks = audit(spec, path)
    title = _database_title(spec, path)
    also = ", and published by its paper and its owners" if spec.published else ""
    print(f"{title} in {path.absolute()}: found{also}.\n")
    print(table.map(_format_cell).to_string())
    for heading, lines in (("PROBLEMS", problems), ("REMARKS", remarks)):
        print(f"\n{heading}: {len(lines) or 'none'}")
        print("".join(f"  - {line}\n" for line in lines), end="")
    if problems:
        sys.exit(1)


@data.command()
@database_argument
@click.option("--to", "folder", type=user_path, default=".", metavar="FOLDER")
def plot(spec: Any, path: Path, folder: Path) -> None:
    """Plot a database's classes, durations and patients, from its annotations alone.

    PATH is the database's folder (data.root), FOLDER that of the PNG files: by default this one.
    """
    from lungsound.data.tools.audit import annotated_cycles
    from lungsound.data.tools.plot import database_figures
    from lungsound.storage.figures import write_figure

    cycles = annotated_cycles(spec.read(path).recordings)
    if cycles.empty:
        raise DataError(
            f"{path.absolute()}: expected annotated cycles, but there are none. "
            f"`lungsound data check {spec.name}` lists the problems"
        )
    figures = database_figures(cycles, spec, _database_title(spec, path))
    for figure_name, figure in figures.items():
        file = folder / f"{spec.name}-{figure_name}.png"
        try:
            write_figure(file, figure)
        except StorageError as error:
            message = f"{file.absolute()} cannot be written: {error.__cause__} (--to)"
            raise DataError(message) from error
        print(file)


@data.command("import")
@click.argument("kind", metavar="audacity|hf_lung", type=click.Choice(["audacity", "hf_lung"]))
@click.argument("folder", type=user_path)
@click.option(
    "--out", type=user_path, default="cycles.csv", show_default=True, metavar="FILE", help="Is new."
)
def import_cycles(kind: str, folder: Path, out: Path) -> None:
    """Write the table of cycles (data.table) of the recordings in and below FOLDER.

    audacity: the exported label track BREATH.txt beside BREATH.wav; its regions are the cycles.
    hf_lung: HF_Lung's BREATH_label.txt; a cycle is an inhalation with its exhalation, and has
    ICBHI's four labels.
    """
    from lungsound.data.tools.importers import import_annotations

    for line in import_annotations(kind, folder, out):
        print(line)


def _database_title(spec: Any, path: Path) -> str:
    from lungsound.data.database import is_synthetic

    layout = "SYNTHETIC data in the layout of " if is_synthetic(path.expanduser()) else ""
    return f"{layout}{spec.title}"


def _format_cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
