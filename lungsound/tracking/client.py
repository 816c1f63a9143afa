"""Access to MLflow: check its address, open its database or server, find runs by our own id."""

import logging
import sqlite3
import uuid
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

# Here, not in the thread that first uses it: DataLoader workers are forked meanwhile, and an
# import's lock that the thread holds at that moment is never released in the worker.
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.file_utils import ExclusiveFileLock

from lungsound.errors import LungsoundError

SQLITE = "sqlite:///"
SERVER_SCHEMES = ("http", "https", "databricks")
RUN_TAG = "lungsound.run"  # its value is the id in the folder's tracking.json
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # opens the page's run list
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

    Raises LungsoundError if the address can never work.
    """
    if uri.startswith(SQLITE):
        uri = f"{SQLITE}{Path(uri.removeprefix(SQLITE)).absolute()}"
    if problem := _uri_problem(uri):
        raise LungsoundError(
            f"tracking.uri={uri}: expected MLflow's database or server, but {problem}. "
            "Name one as sqlite:///PATH.db or http://HOST:PORT"
        )
    return uri


def _uri_problem(uri: str) -> str | None:
    if uri.startswith(SQLITE):
        return _sqlite_problem(Path(uri.removeprefix(SQLITE)))
    plugins = (plugin.name for plugin in entry_points(group="mlflow.tracking_store"))
    if uri.partition(":")[0] in {*SERVER_SCHEMES, *plugins}:
        return None
    try:
        sqlalchemy.create_engine(uri)  # checks dialect and driver; does not connect
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
        return root_cause(error)
    return None


def _sqlite_problem(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist"
    if path.is_dir():
        return "it is a folder"
    try:
        # With sqlite: a plain open() and close() would release this process's locks on the file.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0)) as database:
            database.execute("PRAGMA schema_version")
    except sqlite3.OperationalError:  # locked, or not created yet
        return None
    except sqlite3.DatabaseError as error:
        return f"that {error}"
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
    return MlflowClient(tracking_uri=uri)


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
        MlflowClient(tracking_uri=f"{SQLITE}{temporary}").search_experiments(max_results=1)
        temporary.replace(path)


def open_experiment(uri: str, name: str) -> Experiment:
    """Open the experiment; create it if it does not exist."""
    client = open_client(uri)
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return Experiment(client, experiment.experiment_id)
    artifacts = None
    if uri.startswith(SQLITE):  # else MLflow uses the working folder
        artifacts = (Path(uri.removeprefix(SQLITE)).absolute().parent / "mlruns").as_uri()
    return Experiment(client, client.create_experiment(name, artifacts, EXPERIMENT_TAGS))


def find_unique_run(experiment: Experiment, identity: str) -> Run | None:
    """Return the MLflow run with our id; delete duplicates, which timed-out requests create."""
    newest_first = ["attributes.start_time DESC"]
    found = experiment.runs_with_tag(RUN_TAG, identity, order_by=newest_first)
    for duplicate in found[1:]:
        experiment.client.delete_run(duplicate.info.run_id)
    return found[0] if found else None


def root_cause(error: BaseException) -> str:
    """Return the first line of the error at the start of the chain."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    message = str(error).strip() or type(error).__name__
    return message.splitlines()[0][:MAX_REASON_LENGTH]
