"""The databases' own commands: python -m lungsound.data get | check | plot."""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lungsound.errors import DataError
from lungsound.storage.files import write_file

DATABASE_TITLES = {"icbhi": "ICBHI 2017", "sprsound": "SPRSound 2022"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Ends the process with 1 where a check finds a problem, or with an error's
    message.
    """
    options = _parser().parse_args(arguments)
    if options.command == "get":
        from lungsound.data.tools.download import download_database

        print(download_database(options.name, options.destination, options.url))
    elif options.command == "check":
        run_check(options.name, options.path)
    else:
        run_plot(options.name, options.path, options.to)


def run_check(name: str, path: Path) -> None:
    """Print what is there, every problem and every remark. Exit code 1 where there is a problem."""
    from lungsound.data.tools.audit import check as check_database

    table, problems, remarks = check_database(name, path)
    print(
        f"{_database_title(name, path)} in {path.absolute()}: what is here, and what its paper and publishers promise.\n"
    )
    with pd.option_context(
        "display.width", None, "display.max_rows", None, "display.max_columns", None
    ):
        print(table.map(_format_cell).to_string())
    for heading, lines in (("PROBLEMS", problems), ("REMARKS", remarks)):
        print(f"\n{heading}: {len(lines) or 'none'}")
        print("".join(f"  - {line}\n" for line in lines), end="")
    if problems:
        sys.exit(1)


def run_plot(name: str, path: Path, folder: Path) -> None:
    """Draw the database from its annotations, one PNG a figure, into `folder`, and print their
    paths.
    """
    from lungsound.data.database import READERS
    from lungsound.data.tools.audit import cycle_table
    from lungsound.data.tools.plot import database_figures

    cycles = cycle_table(READERS[name](path).recordings)
    if cycles.empty:
        raise DataError(
            f"No annotated cycle in {path.absolute()}: python -m lungsound.data check {name} says why"
        )
    for figure_name, figure in database_figures(cycles, _database_title(name, path)).items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
        target = folder / f"{name}-{figure_name}.png"
        try:
            write_file(target, buffer.getvalue())
        except OSError as error:
            raise DataError(
                f"{target.absolute()} cannot be written: {error.strerror} (--to)"
            ) from error
        print(target)


def _database_title(name: str, path: Path) -> str:
    from lungsound.data.database import SYNTHETIC_MARKER

    root = path.expanduser()
    synthetic = any((folder / SYNTHETIC_MARKER).exists() for folder in (root, root.parent))
    return (
        f"SYNTHETIC data in the layout of {DATABASE_TITLES[name]}"
        if synthetic
        else DATABASE_TITLES[name]
    )


def _format_cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lungsound.data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    get = commands.add_parser("get", help="download a database")
    check = commands.add_parser(
        "check", help="read all of it: what is there, what was promised, what is wrong"
    )
    plot = commands.add_parser("plot", help="draw its classes, durations and patients as PNG")
    for command in (get, check, plot):
        command.add_argument("name", choices=DATABASE_TITLES, help="the database")
    get.add_argument("destination", metavar="DEST", type=Path, help="the folder to make")
    get.add_argument("--url", help="another address of the same archive")
    for command in (check, plot):
        command.add_argument(
            "path", metavar="PATH", type=Path, help="the database's folder, as data.root"
        )
    plot.add_argument(
        "--to", metavar="FOLDER", type=Path, default=Path(), help="where to write; here by default"
    )
    return parser
