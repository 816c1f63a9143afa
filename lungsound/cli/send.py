"""`lungsound send`: send to MLflow the parts of runs and studies that it lacks."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import click

from lungsound.cli.completion import user_path
from lungsound.errors import LungsoundError
from lungsound.storage.places import SQLITE, without_secrets
from lungsound.storage.signals import resumable


@click.command()
@click.argument("folders", metavar="RUN...", nargs=-1, required=True, type=user_path)
@click.option("--uri", help="MLflow's database or server, if it is not the one in tracking.json.")
def send(folders: tuple[Path, ...], uri: str | None) -> None:
    """Send to MLflow the parts of runs and studies that it lacks.

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


@resumable()
def send_folder(folder: Path, uri: str | None = None, model: str | None = None) -> str:
    """Send a run, or a study and its runs; return a line with its status in MLflow.

    `uri`: another address than that in tracking.json. `model`: the name under which the run's
    ensemble is registered; its address is then returned. Raises LungsoundError if `folder` is
    neither a run nor a study, or if MLflow cannot be reached.
    """
    from lungsound.results.folder import folder_lock_path
    from lungsound.storage.locks import try_lock
    from lungsound.tracking.client import root_cause, validate_tracking_uri
    from lungsound.tracking.model import register_model
    from lungsound.tracking.state import STATE_FILENAME, read_state, resolve_status
    from lungsound.tracking.sync import sync

    folder = folder.resolve()
    state = read_state(folder)
    if state is None:
        raise LungsoundError(
            f"{folder}: expected the folder of a run or a study, with its {STATE_FILENAME}, but "
            "there is none. The command that made the run writes it, even if the run is finished"
        )
    try:
        # Release 0.1 stored passwords.
        state = replace(state, uri=validate_tracking_uri(uri or without_secrets(state.uri)))
    except LungsoundError as error:
        hint = "" if uri else f". If the database has moved: lungsound send {folder} --uri ADDRESS"
        raise LungsoundError(f"{error}{hint}") from error
    if uri is None:
        require_trusted_server(state.uri, folder)
    with try_lock(folder_lock_path(folder)) as acquired:
        if not acquired:
            raise LungsoundError(
                f"{folder}: a command is at work on it and sends it; there is nothing else to do"
            )
        state = resolve_status(folder, state)
        print(f"{folder}: to {state.uri}", flush=True)
        try:
            run_id = sync(folder, replace(state, log_model=state.log_model or model is not None))
            if model is not None:
                return register_model(state.uri, run_id, model)
        except Exception as error:  # MLflow, its database and its server raise many types
            raise LungsoundError(
                f"tracking.uri={state.uri}: {folder} could not be sent: {root_cause(error)}. What "
                "MLflow took stays there; the same command sends the rest"
            ) from error
    return f"{folder}: {state.status} in MLflow, run {run_id}"


def require_trusted_server(uri: str, folder: Path) -> None:
    """Raise LungsoundError if MLflow would send a password or token to an unknown server.

    tracking.json may come from someone else: only --uri and the user's tracking.uri are trusted.
    """
    from lungsound.tracking.client import has_credentials

    if has_credentials(uri) and not uri.startswith(SQLITE) and uri != default_tracking_uri():
        raise LungsoundError(
            f"{folder}: expected a local MLflow database or your own tracking.uri, but "
            f"tracking.json names {uri}, which would receive your MLflow password or token. "
            f"If you trust it: --uri {shlex.quote(uri)}"
        )


def default_tracking_uri() -> str:
    """Return the tracking.uri of a command that does not set it."""
    from lungsound.config.overrides import add_experiment_from_env, compose_config

    return str(compose_config(add_experiment_from_env([])).tracking.uri)
