"""Access to MLflow: check its address, open its database or server, find runs by our own id."""

import json
import logging
import os
import re
import shlex
import sqlite3
import uuid
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import quote

# Here, not in the thread that first uses it: DataLoader workers are forked meanwhile, and an
# import's lock that the thread holds at that moment is never released in the worker.
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import sqlalchemy
from mlflow import MlflowClient, entities
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.file_utils import ExclusiveFileLock

from lungsound.errors import ConfigError, LungsoundError
from lungsound.storage.places import (
    SECRETS_HINT,
    SQLITE,
    URI_VARIABLE,
    expand_user,
    quote_credentials,
    reject_secrets,
    without_secrets,
)
from lungsound.tracking.location import (
    FILES_FOLDER,
    correct_addresses,
    files_root,
    has_moved,
    require_folder,
)

DEFAULT_URI = f"{SQLITE}mlflow.db"  # the default of `mlflow ui` and `make ui`
SERVER_SCHEMES = ("http", "https", "databricks")
RUN_TAG = "lungsound.run"  # its value is the id in the folder's tracking.json
# Of the list of runs that the experiment's description links: MLflow's own list has no scores.
VIEW_COLUMNS = [
    *("metrics.`test/score_4`", "metrics.`test/score_2`", "params.`annealing.cycles`"),
    *("params.`segment`", "params.`padding`", "params.`split`", "params.`split.seed`"),
]
VIEW = {"selectedColumns": VIEW_COLUMNS, "orderByKey": VIEW_COLUMNS[0], "orderByAsc": False}
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # opens the page's run list
    "mlflow.sharedViewState.scores": json.dumps(VIEW),
    "mlflow.note.content": "[Runs by score](#/experiments/{id}/runs?viewStateShareKey=scores)",
}
MLFLOW_TABLES = {"experiments", "runs", "metrics"}
TABLE_NAMES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
POSTGRES_HINT = ": pip install 'lungsound[postgres]', and name postgresql+psycopg://HOST/DATABASE"
MAX_REASON_LENGTH = 200  # characters; MLflow's messages hold whole statements and pages


@dataclass(frozen=True)
class Experiment:
    """An experiment of MLflow, and the client to access it."""

    client: MlflowClient
    id: str

    def runs_with_tag(self, tag: str, value: str, **options: Any) -> list[Run]:
        """Return its runs that are not deleted; `options` of MlflowClient.search_runs."""
        return list(self.client.search_runs([self.id], f"tags.`{tag}` = '{value}'", **options))


def validate_tracking_uri(uri: str) -> str:
    """Return the address, with the full path of a sqlite file. A server that is down is valid.

    Raises LungsoundError if the address can never work, or has a password.
    """
    reject_secrets(uri)
    if uri.startswith(SQLITE):
        try:
            uri = f"{SQLITE}{Path(expand_user(uri).removeprefix(SQLITE)).absolute()}"
        except ConfigError as error:
            raise ConfigError(f"tracking.uri={uri}: {error}") from error
    if problem := _uri_problem(uri):
        raise LungsoundError(
            f"tracking.uri={uri}: expected MLflow's database or server, but {problem}. "
            f"Name one as sqlite:///PATH.db or http://HOST:PORT, here or as {URI_VARIABLE}"
        )
    return uri


def _uri_problem(uri: str) -> str | None:
    if uri.startswith(SQLITE):
        return _sqlite_problem(Path(uri.removeprefix(SQLITE)))
    if uri == "sqlite://":
        return "it names no file"
    plugins = (plugin.name for plugin in entry_points(group="mlflow.tracking_store"))
    if uri.partition(":")[0] in {*SERVER_SCHEMES, *plugins}:
        return None
    if uri.startswith("file:") or "://" not in uri:
        return "it is a path, and MLflow no longer keeps runs in a folder"
    try:
        sqlalchemy.create_engine(uri)  # checks dialect and driver; does not connect
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
        lacks_driver = isinstance(error, ImportError) and uri.startswith("postgres")
        return root_cause(error) + POSTGRES_HINT * lacks_driver
    return None


def _sqlite_problem(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist"
    if path.is_dir():
        return "it is a folder"
    if re.search(r"\?\w+=", path.name) and not path.exists():
        return "a file's address has no settings after a ?"
    try:
        # With sqlite: a plain open() and close() would release this process's locks on the file.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0)) as database:
            tables = {name for (name,) in database.execute(TABLE_NAMES)}
    except sqlite3.OperationalError:  # locked, or not created yet
        tables = set()
    except sqlite3.DatabaseError as error:
        return f"that {error}"
    if tables and not tables >= MLFLOW_TABLES:
        return f"the file is of another program, with {min(tables)} and without MLflow's tables"
    return None


def has_credentials(uri: str) -> bool:
    """Return whether MLflow would send this server a password or a token."""
    credentials = get_default_host_creds(uri)  # type: ignore[no-untyped-call,unused-ignore]
    return bool(credentials.username or credentials.password or credentials.token)


def open_client(uri: str) -> MlflowClient:
    """Open a client; silence MLflow's logging, as our callers report its errors."""
    for logger_name in ("mlflow", "alembic", "sqlalchemy", "urllib3"):
        logging.getLogger(logger_name).setLevel(logging.CRITICAL)
    if uri.startswith(SQLITE):
        _create_database(Path(uri.removeprefix(SQLITE)))
    return MlflowClient(tracking_uri=connection_uri(uri))


def connection_uri(uri: str) -> str:
    """Return the address for MLflow: a quoted path, and the password of MLFLOW_TRACKING_URI."""
    if uri.startswith(SQLITE):
        path = quote(uri.removeprefix(SQLITE))
        # By this name MLflow (3.17) makes no folder of the quoted path.
        return uri if uri == SQLITE + path else f"sqlite+pysqlite:///{path}"
    own = _own_uri()
    return quote_credentials(own) if without_secrets(own) == uri else uri


def _own_uri() -> str:
    """Return the user's MLFLOW_TRACKING_URI; it may have a password."""
    return os.environ.get(URI_VARIABLE, "").strip()


def page_command(uri: str) -> str:
    """Return how to open MLflow's page on this address: a command, or the server's address."""
    if uri == DEFAULT_URI:
        return "mlflow ui"
    if uri.partition(":")[0] in SERVER_SCHEMES:
        return uri
    return f"mlflow ui --backend-store-uri {_shell_uri(uri)}"


def _shell_uri(uri: str) -> str:
    """Return the address for a command line, without a password of the environment's."""
    if uri == without_secrets(_own_uri()) != _own_uri():
        return f'"${URI_VARIABLE}"'
    return shlex.quote(connection_uri(uri))


def _create_database(path: Path) -> None:
    """Create the tables in a temporary file: MLflow cannot continue an interrupted creation."""
    if path.exists() and path.stat().st_size:
        return
    with ExclusiveFileLock(f"{path}.lock"):
        if path.exists() and path.stat().st_size:
            return
        for leftover in path.parent.glob(f".{path.name}.*.half*"):  # also sqlite's journals
            leftover.unlink()
        # A new name each time: MLflow caches database connections by name.
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.half")
        client = MlflowClient(tracking_uri=connection_uri(f"{SQLITE}{temporary}"))
        client.search_experiments(max_results=1)
        temporary.replace(path)


def open_experiment(uri: str, name: str) -> Experiment:
    """Open the experiment; create it if it does not exist.

    Raises LungsoundError if it is deleted.
    """
    client = open_client(uri)
    experiment = client.get_experiment_by_name(name)
    database = Path(uri.removeprefix(SQLITE)).absolute() if uri.startswith(SQLITE) else None
    if experiment is None:  # without a location MLflow uses the working folder
        location = (database.parent / FILES_FOLDER).as_uri() if database else None
        experiment = _create_experiment(client, name, location)
    if experiment.lifecycle_stage != "active":
        raise LungsoundError(
            f"its experiment {name} is deleted; name another with tracking.experiment=NAME, or "
            f"get it back: {URI_VARIABLE}={_shell_uri(uri)} mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}"
        )
    root = files_root(experiment.artifact_location)
    if database and root and has_moved(root, database):
        correct_addresses(database, root)
    elif database:
        require_folder(experiment.artifact_location, name)
    for tag in EXPERIMENT_TAGS.keys() - experiment.tags:
        value = EXPERIMENT_TAGS[tag].replace("{id}", experiment.experiment_id)
        with suppress(MlflowException):  # another process just sets it
            client.set_experiment_tag(experiment.experiment_id, tag, value)
    return Experiment(client, experiment.experiment_id)


def _create_experiment(
    client: MlflowClient, name: str, location: str | None
) -> entities.Experiment:
    try:
        return client.get_experiment(client.create_experiment(name, location))
    except MlflowException:
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise
        return experiment  # another process has just created it


def find_unique_run(experiment: Experiment, identity: str) -> Run | None:
    """Return the MLflow run with our id; delete duplicates, which timed-out requests create."""
    newest_first = ["attributes.start_time DESC"]
    found = experiment.runs_with_tag(RUN_TAG, identity, order_by=newest_first)
    for duplicate in found[1:]:
        experiment.client.delete_run(duplicate.info.run_id)
    return found[0] if found else None


def root_cause(error: BaseException) -> str:
    """Return the first line of the error at the start of the chain, without passwords."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    if getattr(error, "error_code", "") == "UNAUTHENTICATED":  # MLflow's names a web page
        return f"the server accepts no such user, password or token. {SECRETS_HINT}"
    message = str(error).strip() or type(error).__name__
    own = _own_uri()
    if own != without_secrets(own):  # MLflow's messages may quote it, or a part of it
        message = re.sub(r"\S*@", "", message.replace(own, without_secrets(own)))
    limit = None if isinstance(error, LungsoundError) else MAX_REASON_LENGTH
    return message.splitlines()[0][:limit]
