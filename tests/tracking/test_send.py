"""`lungsound send`: what it sends, where to, and what it refuses."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from support.commands import run_lungsound
from support.disk import read_only
from support.mlflow import metric_points, mlflow_client, mlflow_runs, only_run

from lungsound.cli.send import default_tracking_uri, send_folder
from lungsound.errors import LungsoundError, StorageError
from lungsound.results.folder import folder_lock_path
from lungsound.storage.locks import file_lock
from lungsound.tracking.state import read_state, write_state


def test_a_folder_at_work_is_left_to_its_command(finished_run: Path) -> None:
    with file_lock(folder_lock_path(finished_run)), pytest.raises(LungsoundError, match="at work"):
        send_folder(finished_run)


def test_every_folder_without_a_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=f"{tmp_path}: expected the folder of a run") as stop:
        run_lungsound("send", str(tmp_path), str(tmp_path / "none"))
    assert len(str(stop.value).splitlines()) == 2


@pytest.fixture
def outside(finished_run: Path, tmp_path: Path, empty_mlflow: Path) -> Path:
    """A copy of a finished run, and beside it an MLflow that does not have it."""
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    return Path(shutil.copytree(finished_run, tmp_path / "outputs" / "run"))


def test_a_folder_of_release_0_1_is_sent(finished_run: Path, tmp_path: Path, outside: Path) -> None:
    """Its metadata is called facts.json, and checksums lie beside the files."""
    (outside / "metadata.json").rename(outside / "facts.json")
    (outside / "notes.txt.sha256").write_text("0" * 64)
    assert "FINISHED in MLflow" in send_folder(outside, f"sqlite:///{tmp_path / 'mlflow.db'}")
    run, expected = only_run(outside), only_run(finished_run)
    assert run.data.params == expected.data.params
    assert metric_points(outside, run) == metric_points(finished_run, expected)
    files = {file.path for file in mlflow_client(outside).list_artifacts(run.info.run_id)}
    assert "report.md" in files
    assert not [name for name in files if name.endswith(".sha256")]


def test_a_database_that_has_moved_is_given_by_hand(outside: Path, tmp_path: Path) -> None:
    state = read_state(outside)
    assert state
    write_state(outside, replace(state, uri="sqlite:////no/longer/mlflow.db"))
    with pytest.raises(LungsoundError, match=r"/no/longer does not exist.* --uri ADDRESS$"):
        send_folder(outside)
    assert "FINISHED in MLflow" in send_folder(outside, f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_an_edited_state_sends_no_file_of_this_machine(tmp_path: Path, outside: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not for anybody")
    (outside / "link").symlink_to(secret)
    state = read_state(outside)
    assert state
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    write_state(outside, replace(state, uri=address, weights=[str(secret)]))
    with pytest.raises(LungsoundError, match="could not be sent"):
        send_folder(outside)
    sent = {path.name for path in (tmp_path / "mlruns").rglob("*")}
    assert "report.md" in sent
    assert not sent & {"secret", "link"}


def test_a_password_goes_only_to_servers_that_the_user_names(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder, server, asked = tmp_path / "run", "http://stranger.example", []
    shutil.copytree(finished_run, folder)
    state = read_state(folder)
    assert state
    write_state(folder, replace(state, uri=server))

    def refuse(uri: str) -> None:
        assert f"to {uri}" in capsys.readouterr().out
        asked.append(uri)
        raise MlflowException("no answer")

    monkeypatch.setattr("lungsound.tracking.client.open_client", refuse)
    with pytest.raises(LungsoundError, match="no answer"):  # there is no password yet
        send_folder(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    with pytest.raises(LungsoundError, match=rf"tracking\.json names {server}.* --uri {server}$"):
        send_folder(folder)
    assert asked == [server]
    assert default_tracking_uri() == "sqlite:///mlflow.db"
    with pytest.raises(LungsoundError, match="no answer"):
        send_folder(folder, server)
    monkeypatch.setattr("lungsound.cli.send.default_tracking_uri", lambda: server)
    with pytest.raises(LungsoundError, match="no answer"):
        send_folder(folder)
    assert asked == [server] * 3


def test_a_lock_that_cannot_be_made_is_named(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    message = r"\.run\.lock: expected to store .*Permission denied"
    with read_only(tmp_path), pytest.raises(StorageError, match=message):
        send_folder(tmp_path / "run")


def test_two_folders_are_two_runs(finished_run: Path, tmp_path: Path, empty_mlflow: Path) -> None:
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        shutil.copytree(finished_run, folder)
        state = read_state(folder)
        assert state
        write_state(folder, replace(state, id=folder.name, name=""))  # as release 0.2 has it
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    run_lungsound("send", *map(str, folders), "--uri", uri)
    names = {run.info.run_name for run in mlflow_runs(tmp_path / "outputs" / "run")}
    assert names == {"one", "two"}
