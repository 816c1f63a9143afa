"""`lungsound data`: download, check and plot a database."""

import sys
from pathlib import Path

import click

from lungsound.errors import DataError, StorageError
from lungsound.storage.places import user_path


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
path_argument = click.argument("path", type=user_path)


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
@name_argument
@path_argument
def check(name: str, path: Path) -> None:
    """Read a whole database: its counts beside the published ones, and every problem.

    PATH is the database's folder (data.root). The exit code is 1 if there is a problem.
    """
    from lungsound.data.tools.audit import audit

    table, problems, remarks = audit(name, path)
    title = _database_title(name, path)
    print(f"{title} in {path.absolute()}: found, and published by its paper and its owners.\n")
    print(table.map(_format_cell).to_string())
    for heading, lines in (("PROBLEMS", problems), ("REMARKS", remarks)):
        print(f"\n{heading}: {len(lines) or 'none'}")
        print("".join(f"  - {line}\n" for line in lines), end="")
    if problems:
        sys.exit(1)


@data.command()
@name_argument
@path_argument
@click.option("--to", "folder", type=user_path, default=".", metavar="FOLDER")
def plot(name: str, path: Path, folder: Path) -> None:
    """Plot a database's classes, durations and patients, from its annotations alone.

    PATH is the database's folder (data.root), FOLDER that of the PNG files: by default this one.
    """
    from lungsound.data.registry import DATABASES
    from lungsound.data.tools.audit import annotated_cycles
    from lungsound.data.tools.plot import database_figures
    from lungsound.storage.figures import write_figure

    spec = DATABASES[name]
    cycles = annotated_cycles(spec.read(path).recordings)
    if cycles.empty:
        raise DataError(
            f"{path.absolute()}: expected annotated cycles, but there are none. "
            f"`lungsound data check {name}` lists the problems"
        )
    figures = database_figures(cycles, spec, _database_title(name, path))
    for figure_name, figure in figures.items():
        file = folder / f"{name}-{figure_name}.png"
        try:
            write_figure(file, figure)
        except StorageError as error:
            message = f"{file.absolute()} cannot be written: {error.__cause__} (--to)"
            raise DataError(message) from error
        print(file)


def _database_title(name: str, path: Path) -> str:
    from lungsound.data.database import is_synthetic
    from lungsound.data.registry import DATABASES

    title = DATABASES[name].title
    if is_synthetic(path.expanduser()):
        return f"SYNTHETIC data in the layout of {title}"
    return title


def _format_cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
