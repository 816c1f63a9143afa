"""python -m lungsound.tracking send RUN [RUN ...]: sends to MLflow what it does not have of runs
and studies.
"""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hydra import initialize_config_dir

from lungsound.config.overrides import add_experiment_from_env, compose_config
from lungsound.config.schema import CONFIG_DIR
from lungsound.errors import LungsoundError
from lungsound.results.study_folder import STUDY_FILE
from lungsound.tracking.client import SQLITE, check_address, has_credentials, reason
from lungsound.tracking.state import held_if_free, read_record, settled
from lungsound.tracking.study_sync import StudyView
from lungsound.tracking.sync import RunView


def send(folder: Path, uri: str | None = None) -> str:
    """Send what MLflow lacks of a run, or of a study and its runs; a line that says what is there
    now.

    `uri`: another server than the one the folder was made for. Raises LungsoundError where it could
    not be sent.
    """
    folder = folder.resolve()
    known = read_record(folder) if folder.is_dir() else None
    if known is None:
        raise LungsoundError(
            f"{folder}: expected the folder of a run or a study, with its tracking.json, but there is none. The "
            "command that made the run writes it, also where the run is finished"
        )
    known = replace(known, uri=check_address(uri or known.uri))
    if uri is None:
        check_named(known.uri, folder)
    view = StudyView(folder) if (folder / STUDY_FILE).exists() else RunView(folder)
    with held_if_free(folder) as free:
        if not free:
            raise LungsoundError(
                f"{folder}: a command is at work on it, and sends it. Nothing else is to be done"
            )
        known = settled(folder, known)
        # MLflow puts the files of a new sqlite database where it is called.
        beside = (
            Path(known.uri.removeprefix(SQLITE)).parent if known.uri.startswith(SQLITE) else Path()
        )
        print(f"{folder}: to {known.uri}", flush=True)
        try:
            with contextlib.chdir(beside):
                view.send(known)
        except Exception as error:  # whatever MLflow, its database or its server raise
            raise LungsoundError(
                f"tracking.uri={known.uri}: {folder} could not be sent: {reason(error)}. What came through stays; the "
                "same command sends the rest"
            ) from error
    return f"{folder}: {known.status} in MLflow, run {view.run_id}"


def check_named(uri: str, folder: Path) -> None:
    """Raises LungsoundError for a server that nobody here named, where MLflow would send it a
    password or token.
    """
    if has_credentials(uri) and not uri.startswith(SQLITE) and uri != own_address():
        raise LungsoundError(
            f"{folder}: expected MLflow in a file of this machine, or at your tracking.uri, but tracking.json names "
            f"{uri}, which would get your password or token for MLflow. If you know it: --uri {shlex.quote(uri)}"
        )


def own_address() -> str:
    """tracking.uri of a command that names none."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return str(compose_config(add_experiment_from_env([])).tracking.uri)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lungsound.tracking", description="Runs and studies in MLflow."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    sending = commands.add_parser(
        "send", help="send what MLflow does not have; what it has is not sent again"
    )
    sending.add_argument(
        "folders", nargs="+", type=Path, metavar="RUN", help="a run's folder, or a study's"
    )
    sending.add_argument(
        "--uri",
        help="MLflow's database or server, where the folder's is another one, or not yours",
    )
    chosen = parser.parse_args(arguments)
    failed = []
    for folder in chosen.folders:
        try:
            print(send(folder, chosen.uri), flush=True)
        except LungsoundError as error:  # the others may go through
            failed.append(str(error))
    if failed:
        sys.exit("\n".join(f"error: {message}" for message in failed))
