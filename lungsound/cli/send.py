"""lungsound send FOLDER [FOLDER ...]: send runs and studies, or what MLflow lacks of them."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hydra import initialize_config_dir

from lungsound.config.overrides import add_experiment_from_env, compose_config
from lungsound.config.schema import CONFIG_DIR
from lungsound.errors import LungsoundError
from lungsound.tracking.client import SQLITE, has_credentials, root_cause, validate_tracking_uri
from lungsound.tracking.state import STATE_FILENAME, read_state, resolve_status, try_lock
from lungsound.tracking.sync import sync


def send(folder: Path, uri: str | None = None) -> str:
    """Send what MLflow lacks of a run, or of a study and its runs; returns a line for the user.

    `uri`: another server than the one in the folder's tracking.json. Raises LungsoundError if the
    folder cannot be sent.
    """
    folder = folder.resolve()
    state = read_state(folder)
    if state is None:
        raise LungsoundError(
            f"{folder}: expected the folder of a run or a study, with its {STATE_FILENAME}, but "
            "there is none. The command that made the run writes it, even if the run is finished"
        )
    state = replace(state, uri=validate_tracking_uri(uri or state.uri))
    if uri is None:
        require_trusted_server(state.uri, folder)
    with try_lock(folder) as acquired:
        if not acquired:
            raise LungsoundError(
                f"{folder}: a command is at work on it and sends it; there is nothing else to do"
            )
        state = resolve_status(folder, state)
        print(f"{folder}: to {state.uri}", flush=True)
        try:
            run_id = sync(folder, state)
        except Exception as error:  # MLflow, its database and its server raise all kinds
            raise LungsoundError(
                f"tracking.uri={state.uri}: {folder} could not be sent: {root_cause(error)}. What "
                "MLflow took stays there; the same command sends the rest"
            ) from error
    return f"{folder}: {state.status} in MLflow, run {run_id}"


def require_trusted_server(uri: str, folder: Path) -> None:
    """Keep the user's password or token for MLflow from a server that only the folder names.

    Raises LungsoundError.
    """
    if has_credentials(uri) and not uri.startswith(SQLITE) and uri != default_tracking_uri():
        raise LungsoundError(
            f"{folder}: expected MLflow in a file of this machine, or at your tracking.uri, but "
            f"{STATE_FILENAME} names {uri}, which would get your password or token for MLflow. If "
            f"you trust it: --uri {shlex.quote(uri)}"
        )


def default_tracking_uri() -> str:
    """The tracking.uri of a command that names none."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return str(compose_config(add_experiment_from_env([])).tracking.uri)


def main(arguments: Sequence[str] | None = None) -> None:
    """Send every folder that can be sent; exits with the errors of the others."""
    parser = argparse.ArgumentParser(prog="lungsound", description="Runs and studies in MLflow.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("send", help="send what MLflow lacks; nothing is sent twice")
    command.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="run or study")
    command.add_argument("--uri", help="MLflow's database or server, if not the folder's own")
    options = parser.parse_args(arguments)
    errors = []
    for folder in options.folders:
        try:
            print(send(folder, options.uri), flush=True)
        except LungsoundError as error:
            errors.append(f"error: {error}")
    if errors:
        sys.exit("\n".join(errors))
