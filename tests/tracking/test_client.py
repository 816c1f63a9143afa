"""Which addresses are accepted, and a sqlite database that is never half made."""

import sqlite3
from pathlib import Path

import pytest

from lungsound.errors import LungsoundError
from lungsound.tracking.client import open_client, validate_tracking_uri


def test_impossible_addresses_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.db").write_text("not a database, but as long as a page of one " * 20)
    monkeypatch.chdir(tmp_path)
    for uri, why in {
        "nonsense://here": "nonsense",
        "": "parse",
        "outputs/mlruns": "parse",
        f"sqlite:///{tmp_path}/nowhere/mlflow.db": "nowhere does not exist",
        f"sqlite:///{tmp_path}/text.db": "not a database",
        f"sqlite:///{tmp_path}": "it is a folder",
    }.items():
        with pytest.raises(LungsoundError, match=f"tracking.uri={uri}.*{why}"):
            validate_tracking_uri(uri)
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
