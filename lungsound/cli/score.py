"""python -m lungsound.evaluation score RUN icbhi|sprsound PATH: a finished run's members on another
database.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from lungsound.data.registry import DATABASES


def main(arguments: Sequence[str] | None = None) -> None:
    """The side command; `score --help` lists its words."""
    parser = argparse.ArgumentParser(
        prog="python -m lungsound.evaluation", description="Scores of finished runs."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    score = commands.add_parser(
        "score", help="score a run's members and ensemble on every cycle of a database"
    )
    score.add_argument("run", type=Path, help="the run's folder, below outputs")
    score.add_argument(
        "database", choices=[name for name, spec in DATABASES.items() if spec.create is None]
    )
    score.add_argument("path", type=Path, help="the database's folder")
    score.add_argument(
        "--part",
        choices=["train", "test", "inter", "intra"],
        help="of SPRSound; test: inter and intra",
    )
    score.add_argument(
        "--store", type=Path, help="store_dir of the run, where it is not what the run says"
    )
    score.add_argument(
        "--skip-bad", action="store_true", help="leave out recordings that cannot be used"
    )
    chosen = parser.parse_args(arguments)

    from lungsound.runs.rescore import (
        score_on_database,
    )  # here, as it loads torch: --help is instant

    score_on_database(
        chosen.run, chosen.database, chosen.path, chosen.part, chosen.store, chosen.skip_bad
    )
