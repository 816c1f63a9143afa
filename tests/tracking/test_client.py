"""Which addresses are accepted, and a sqlite database that is never half made."""

import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from support.runs import ROOT

from lungsound.errors import LungsoundError
from lungsound.tracking.client import (
    connection_uri,
    open_client,
    open_experiment,
    page_command,
    root_cause,
    validate_tracking_uri,
)


def test_impossible_addresses_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.db").write_text("not a database, but as long as a page of one " * 20)
    with closing(sqlite3.connect(tmp_path / "optuna.db")) as other:
        for table in ("studies", "trials", "alembic_version"):
            other.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY AUTOINCREMENT)")
    sqlite3.connect(tmp_path / "empty.db").execute("VACUUM")
    before = (tmp_path / "optuna.db").read_bytes()
    monkeypatch.chdir(tmp_path)
    for uri, why in {
        "nonsense://here": "nonsense",
        "": "no longer keeps runs in a folder",
        "outputs/mlruns": "no longer keeps runs in a folder",
        "no address://": "parse",
        f"sqlite:///{tmp_path}/nowhere/mlflow.db": "nowhere does not exist",
        f"sqlite:///{tmp_path}/text.db": "not a database",
        f"sqlite:///{tmp_path}": "it is a folder",
        "sqlite://": "it names no file",
        "sqlite:///": "expected a path or an address, but got none",
        "sqlite:///~nosuchuser/x": "home folder for ~nosuchuser",
        f"sqlite:///{tmp_path}/new.db?timeout=60": "has no settings after a",
        f"file://{tmp_path}": "no longer keeps runs in a folder",
        f"sqlite:///{tmp_path}/optuna.db": "of another program, with alembic_version and without",
    }.items():
        with pytest.raises(LungsoundError, match=f"tracking.uri={re.escape(uri)}.*({why})"):
            validate_tracking_uri(uri)
    assert (tmp_path / "optuna.db").read_bytes() == before
    assert validate_tracking_uri("sqlite:///empty.db") == f"sqlite:///{tmp_path}/empty.db"
    (tmp_path / "a?b=1.db").touch()
    assert validate_tracking_uri("sqlite:///a?b=1.db") == f"sqlite:///{tmp_path}/a?b=1.db"
    assert validate_tracking_uri("sqlite:///new.db") == f"sqlite:///{tmp_path}/new.db"
    for uri in ("http://127.0.0.1:1", "https://somewhere.example", "databricks"):
        assert validate_tracking_uri(uri) == uri


def test_a_database_appears_with_all_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, original = tmp_path / "new.db", Path.replace
    leftovers = [tmp_path / ".new.db.killed.half", tmp_path / ".new.db.killed.half-journal"]

    def replace(temporary: Path, target: Path) -> Path:
        assert not path.exists()
        tables = sqlite3.connect(temporary).execute("SELECT name FROM sqlite_master").fetchall()
        assert {("experiments",), ("runs",), ("metrics",)} <= set(tables)
        return original(temporary, target)

    monkeypatch.setattr(Path, "replace", replace)
    for file in leftovers:
        file.write_bytes(b"of a process that was killed")
    assert open_client(f"sqlite:///{path}").search_experiments()[0].name == "Default"
    assert path.exists()
    assert not any(file.exists() for file in leftovers)


def test_a_deleted_experiment_is_named_with_the_command_that_restores_it(
    tmp_path: Path, empty_mlflow: Path
) -> None:
    path = tmp_path / "My Proj%20ect" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(empty_mlflow, path)
    experiment = open_experiment(f"sqlite:///{path}", "my trial")
    experiment.client.delete_experiment(experiment.id)
    with pytest.raises(LungsoundError, match="its experiment my trial is deleted") as error:
        open_experiment(f"sqlite:///{path}", "my trial")
    command = root_cause(error.value).partition("get it back: ")[2]
    command = command.replace(" mlflow ", f" {sys.executable} -m mlflow ")
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert open_experiment(f"sqlite:///{path}", "my trial").id == experiment.id


def test_an_experiment_that_another_process_has_just_created(
    tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{shutil.copy(empty_mlflow, tmp_path)}"
    original = MlflowClient.get_experiment_by_name
    created, answers = open_experiment(uri, "new"), [None]

    def find(client: MlflowClient, name: str) -> object:
        return answers.pop() if answers else original(client, name)

    def refuse(*_: object) -> None:
        raise MlflowException("duplicate key value violates unique constraint")

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", find)
    created.client.delete_experiment_tag(created.id, "mlflow.experimentKind")
    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuse)
    assert open_experiment(uri, "new").id == created.id
    assert not answers


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LungsoundError, match=r"psycopg.*pip install 'lungsound\[postgres\]'"):
        validate_tracking_uri("postgresql+psycopg://host/db")


def test_the_password_of_the_environment_is_for_its_address_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    public, other = "postgresql://ana@host/db", "postgresql://ana@host/other"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ana:s3cret@host/db")
    assert connection_uri(public) == "postgresql://ana:s3cret@host/db"
    assert connection_uri(other) == other
    for password, quoted in {"s3cret/x": "s3cret%2Fx", "s3@?#b": "s3%40%3F%23b"}.items():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ana:{password}@127.0.0.1:9")
        address = connection_uri("http://127.0.0.1:9")
        assert address == f"http://ana:{quoted}@127.0.0.1:9"
        assert urlsplit(address).port == 9
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ana:s3cret@host/db")
    for text in ("postgresql://ana:s3cret@host/db", "ana:s3cret@host", "no host 's3cret@host'"):
        assert "s3cret" not in root_cause(ValueError(f"{text}: is wrong"))
    ending = ' --backend-store-uri "$MLFLOW_TRACKING_URI"'
    assert page_command(public).endswith(ending)
    assert page_command(other).endswith(other)
    assert page_command("http://host:5000") == "http://host:5000"
    assert page_command("sqlite:///mlflow.db") == "mlflow ui"


def test_a_machine_without_git_prints_no_page_of_advice(tmp_path: Path) -> None:
    code = (
        "import lungsound.tracking; from mlflow.utils.git_utils import get_git_commit; "
        f"get_git_commit({str(tmp_path)!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT), "PATH": str(tmp_path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 0)
