"""The databases' own commands: python -m lungsound.data get | check | plot."""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lungsound.data.registry import DATABASES
from lungsound.errors import DataError
from lungsound.storage.files import write_file


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
    from lungsound.data.tools.audit import audit

    table, problems, remarks = audit(name, path)
    print(
        f"{_database_title(name, path)} in {path.absolute()}: what is here, and what its paper and "
        "publishers promise.\n"
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
    from lungsound.data.tools.audit import annotated_cycles
    from lungsound.data.tools.plot import database_figures

    spec = DATABASES[name]
    cycles = annotated_cycles(spec.read(path).recordings)
    if cycles.empty:
        raise DataError(
            f"No annotated cycle in {path.absolute()}: python -m lungsound.data check {name} says why"
        )
    for figure_name, figure in database_figures(cycles, spec, _database_title(name, path)).items():
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
    from lungsound.data.database import is_synthetic

    title = DATABASES[name].title
    synthetic = is_synthetic(path.expanduser())
    return f"SYNTHETIC data in the layout of {title}" if synthetic else title


def _names() -> list[str]:
    return [name for name, spec in DATABASES.items() if spec.create is None]


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
        command.add_argument("name", choices=_names(), help="the database")
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
