"""How MLflow is reached: quietly, never with a half-made database, and its runs found by our own
id.
"""

import logging
import os
import sqlite3
import uuid
from importlib.metadata import entry_points
from pathlib import Path

import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.file_utils import ExclusiveFileLock

from lungsound.errors import LungsoundError

SQLITE = "sqlite:///"
RUN_TAG = "lungsound.run"  # the id in the folder's tracking.json
PARENT_TAG = "mlflow.parentRunId"  # what the page makes a tree of
TRAINING = {
    "mlflow.experimentKind": "custom_model_development"
}  # the page opens on the list of runs
SERVERS = ("http", "https", "databricks")
REASON_LENGTH = 200  # characters; MLflow's messages hold whole statements and pages


def check_address(uri: str) -> str:
    """The address, a sqlite file's with its full path. MLflow is not asked: it may be down now and
    answer later.

    Raises LungsoundError where nothing can ever answer there.
    """
    if uri.startswith(SQLITE):
        path = Path(uri.removeprefix(SQLITE)).absolute()
        wrong, uri = _wrong_file(path), f"{SQLITE}{path}"
    else:
        wrong = _wrong_scheme(uri)
    if wrong:
        raise LungsoundError(
            f"tracking.uri={uri}: expected MLflow's database or server, but {wrong}. "
            "Name one as sqlite:///PATH.db or http://HOST:PORT"
        )
    return uri


def _wrong_file(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist"
    if not path.exists():
        return None
    try:
        # By sqlite, not by open(): closing a plain handle would drop the locks that this process
        # holds on the file.
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0)
        try:
            connection.execute("PRAGMA schema_version")
        finally:
            connection.close()
    except sqlite3.OperationalError:  # locked, say; that may pass
        return "it is a folder" if path.is_dir() else None
    except sqlite3.DatabaseError as error:
        return f"that {error}"
    return None


def _wrong_scheme(uri: str) -> str | None:
    scheme = uri.partition(":")[0]
    if scheme in SERVERS or scheme in {
        plugin.name for plugin in entry_points(group="mlflow.tracking_store")
    }:
        return None
    try:
        sqlalchemy.create_engine(
            uri
        )  # knows the kind of database and has its driver; connects to nothing
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
        return reason(error)
    return None


def has_credentials(uri: str) -> bool:
    """Whether MLflow would send this server a password or a token."""
    known = get_default_host_creds(uri)
    return bool(known.username or known.password or known.token)


def open_client(uri: str) -> MlflowClient:
    """A client that says nothing by itself: what goes wrong is raised, and told by us."""
    for noisy in ("mlflow", "alembic", "sqlalchemy", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    if uri.startswith(SQLITE):
        _make_database(Path(uri.removeprefix(SQLITE)))
    return MlflowClient(tracking_uri=uri)


def _make_database(path: Path) -> None:
    """Make the tables aside, by one process alone: MLflow cannot go on with a database that was
    left half made.
    """
    if path.exists() and path.stat().st_size:
        return
    with ExclusiveFileLock(f"{path}.lock"):
        if not path.exists() or not path.stat().st_size:
            for left in path.parent.glob(f".{path.name}.*.half*"):  # and sqlite's journals
                left.unlink()
            # A new name each time: a process's MLflow keeps what it has once opened under a name.
            half = path.with_name(f".{path.name}.{uuid.uuid4().hex}.half")
            MlflowClient(tracking_uri=f"{SQLITE}{half}").search_experiments(max_results=1)
            os.replace(half, path)


def experiment_id(client: MlflowClient, name: str) -> str:
    """The id of the experiment, which is made where it is not there."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # MLflow would put the files of a sqlite database's runs into the working folder, wherever
        # the database is.
        uri = client.tracking_uri
        database = Path(uri.removeprefix(SQLITE)).absolute()
        beside = (database.parent / "mlruns").as_uri() if uri.startswith(SQLITE) else None
        try:
            return str(client.create_experiment(name, artifact_location=beside, tags=TRAINING))
        except MlflowException:  # another process was faster
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    return str(experiment.experiment_id)


def find_run(client: MlflowClient, experiment: str, identity: str) -> Run | None:
    """The MLflow run of a folder's id. Its twins go: they are of requests that were done after we
    stopped waiting.
    """
    found = client.search_runs(
        [experiment], f"tags.`{RUN_TAG}` = '{identity}'", order_by=["attributes.start_time ASC"]
    )
    for twin in found[1:]:
        client.delete_run(twin.info.run_id)
    return found[0] if found else None


def reason(error: BaseException) -> str:
    """The first line of what began it all."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:REASON_LENGTH]
