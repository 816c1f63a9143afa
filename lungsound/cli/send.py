"""`lungsound send`: send to MLflow what it lacks of runs and studies."""

import contextlib
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import click

from lungsound.errors import LungsoundError


@click.command()
@click.argument(
    "folders", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--uri", help="MLflow's database or server, if it is not the one in tracking.json.")
def send(folders: tuple[Path, ...], uri: str | None) -> None:
    """Send to MLflow what it lacks of runs and studies.

    RUN is the folder of a run or of a study. What MLflow has is not sent again.
    """
    failed = []
    for folder in folders:
        try:
            print(send_folder(folder, uri), flush=True)
        except LungsoundError as error:  # the other folders may succeed
            failed.append(f"error: {error}")
    if failed:
        sys.exit("\n".join(failed))


def send_folder(folder: Path, uri: str | None = None) -> str:
    """Send what MLflow lacks of a run, or of a study and its runs; a line with its status there.

    `uri`: another server than the one in tracking.json. Raises LungsoundError if `folder` is no
    run or study, or MLflow does not answer.
    """
    from lungsound.results.study_folder import STUDY_FILE
    from lungsound.tracking.client import SQLITE, check_address, reason
    from lungsound.tracking.state import held_if_free, read_record, settled
    from lungsound.tracking.study_sync import StudyView
    from lungsound.tracking.sync import RunView

    folder = folder.resolve()
    record = read_record(folder) if folder.is_dir() else None
    if record is None:
        raise LungsoundError(
            f"{folder}: expected the folder of a run or a study, with its tracking.json, but there "
            "is none. The command that made the run writes it, even if the run is finished"
        )
    record = replace(record, uri=check_address(uri or record.uri))
    if uri is None:
        require_trusted_server(record.uri, folder)
    view = StudyView(folder) if (folder / STUDY_FILE).exists() else RunView(folder)
    with held_if_free(folder) as acquired:
        if not acquired:
            raise LungsoundError(
                f"{folder}: another command is working on it and sends it. Nothing else to do"
            )
        record = settled(folder, record)
        print(f"{folder}: to {record.uri}", flush=True)
        database = Path(record.uri.removeprefix(SQLITE))
        # MLflow creates the artifact folder of a new sqlite database in the current folder.
        working_folder = database.parent if record.uri.startswith(SQLITE) else Path()
        try:
            with contextlib.chdir(working_folder):
                view.send(record)
        except Exception as error:  # any exception of MLflow, its database or its server
            raise LungsoundError(
                f"tracking.uri={record.uri}: {folder} could not be sent: {reason(error)}. What was "
                "sent is kept; the same command sends the rest"
            ) from error
    return f"{folder}: {record.status} in MLflow, run {view.run_id}"


def require_trusted_server(uri: str, folder: Path) -> None:
    """Raise LungsoundError if MLflow would send a password or token to a server not named here.

    tracking.json may be another person's: only --uri and the own tracking.uri are trusted.
    """
    from lungsound.tracking.client import SQLITE, has_credentials

    if has_credentials(uri) and not uri.startswith(SQLITE) and uri != default_tracking_uri():
        raise LungsoundError(
            f"{folder}: expected a local MLflow database or your own tracking.uri, but "
            f"tracking.json names {uri}, which would receive your MLflow password or token. "
            f"If you trust it: --uri {shlex.quote(uri)}"
        )


def default_tracking_uri() -> str:
    """tracking.uri of a command that sets none."""
    from lungsound.config.overrides import add_experiment_from_env, compose_config

    return str(compose_config(add_experiment_from_env([])).tracking.uri)
