"""Whatever MLflow does, a run trains on and its folder is whole; the rest is sent later, once."""

import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from support.commands import run_lungsound
from support.mlflow import (
    artifact_paths,
    join_tracking_threads,
    metric_points,
    mlflow_client,
    mlflow_runs,
    only_run,
)
from support.runs import ROOT, skip_rendering
from support.server import LOOPBACK, BrokenServer, free_port, mlflow_server

import lungsound.runs.predict
from lungsound.cli.command import cli_command
from lungsound.errors import LungsoundError
from lungsound.results.folder import RunFolder
from lungsound.studies.study import run_study
from lungsound.tracking import background
from lungsound.tracking.background import BackgroundSync
from lungsound.tracking.state import TrackingState, read_state, write_state
from lungsound.tracking.sync import MlflowSync, sync
from lungsound.training.module import SnapshotModule

TrainIn = Callable[..., Path]
ONE_EPOCH = ("annealing.cycles=1", "annealing.epochs_per_cycle=1")


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a run waits for no answer of an MLflow that is down."""
    monkeypatch.setattr(background, "RETRY_DELAY_S", 0.01)
    monkeypatch.setattr(background, "FINAL_SYNC_S", 0.0)
    monkeypatch.setattr(background, "FINAL_RETRY_S", 0.0)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BrokenServer]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with BrokenServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.closed.set()
        join_tracking_threads()
        server.shutdown()


def assert_one_line_of_warning(output: Any, folder: Path, reason: str) -> None:
    lines = output.out.splitlines()
    assert lines[-1].startswith("run: ")
    assert ["did not take everything" in line for line in lines].count(True) == 1
    assert re.search(f"did not take everything.*({reason})", lines[-2]), lines[-2]
    assert lines[-2].endswith(f"lungsound send outputs/{folder.name}")
    for internal in ("Traceback", "sqlalchemy", "sqlite3", "urllib3", "alembic"):
        assert internal not in output.out + output.err


def assert_all_sent(folder: Path, finished_run: Path) -> None:
    run = only_run(folder)
    assert run.info.status == "FINISHED"
    assert metric_points(folder, run) == metric_points(finished_run, only_run(finished_run))
    assert {"report.md", "scores.json"} <= artifact_paths(folder, run)


def fail_to_predict(error: BaseException) -> Callable[..., None]:
    def predict(*_: object) -> None:
        raise error

    return predict


@pytest.mark.usefixtures("no_waiting")
def test_a_locked_database_is_not_waited_for(
    run_training: TrainIn, tmp_path: Path, empty_mlflow: Path, trained_epochs: list[int],
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    other = sqlite3.connect(tmp_path / "mlflow.db")
    other.execute("BEGIN EXCLUSIVE")
    folder = run_training(tmp_path, *ONE_EPOCH)  # ends while it is locked
    assert trained_epochs == [1]
    assert RunFolder(folder).is_complete
    other.rollback()
    other.close()
    join_tracking_threads()
    assert_one_line_of_warning(capfd.readouterr(), folder, "no answer|database is locked")
    (record,) = RunFolder(folder).read_history()
    for _ in range(2):  # the second time there is nothing to send
        run_lungsound("send", str(folder))
        assert "FINISHED in MLflow" in capfd.readouterr().out
        run = only_run(folder)
        assert run.info.status == "FINISHED"
        assert metric_points(folder, run)["train/loss"] == {1: record["train/loss"]}
        assert run.data.metrics.keys() >= {"ensemble/test_score_4", "test/score_4", "leak/patients"}


@pytest.mark.usefixtures("no_waiting")
def test_training_goes_on_while_mlflow_hangs(
    run_training: TrainIn, tmp_path: Path, trained_epochs: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The error is sent later, and the same command goes on under the same MLflow run."""
    answers, callers = threading.Event(), []

    def hang(folder: Path, state: TrackingState) -> str:
        callers.append(threading.current_thread())
        assert answers.wait(60)
        return sync(folder, state)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="the network is gone"):
        patch.setattr(background, "sync", hang)
        error = RuntimeError("the network is gone")
        patch.setattr(lungsound.runs.predict, "predict_run", fail_to_predict(error))
        run_training(tmp_path, *ONE_EPOCH)
    assert trained_epochs == [1]
    assert callers
    assert threading.main_thread() not in callers
    answers.set()
    join_tracking_threads()
    (folder,) = tmp_path.glob("outputs/*/")
    run_lungsound("send", str(folder))
    run = only_run(folder)
    assert run.info.status == "FAILED"
    path = mlflow_client(folder).download_artifacts(run.info.run_id, "error.txt", str(tmp_path))
    assert "the network is gone" in Path(path).read_text()
    monkeypatch.setattr(background, "FINAL_SYNC_S", 60.0)
    run_training(tmp_path, *ONE_EPOCH)
    assert only_run(folder).info.status == "FINISHED"
    assert only_run(folder).info.run_id == run.info.run_id


@pytest.mark.slow
@pytest.mark.usefixtures("store_copy", "no_waiting")
@pytest.mark.parametrize(
    ("mode", "reason"),
    [("refuse", "Connection refused"), ("hang", "no answer|timed out"), ("500", "no answer|500")],
)
def test_a_server_that_is_down_from_the_start(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, server: BrokenServer,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], mode: str, reason: str,
) -> None:  # fmt: skip
    if mode == "refuse":
        monkeypatch.setattr(background, "FINAL_SYNC_S", 60.0)  # it fails at once
    else:  # a run that is only listed is sent in the same way
        shutil.copytree(finished_run.parents[1] / "outputs", tmp_path / "outputs")
    server.mode = mode
    uri = f"http://{LOOPBACK}:{free_port()}" if mode == "refuse" else server.uri
    folder = run_training(tmp_path, f"tracking.uri={uri}")
    output = capfd.readouterr()
    assert RunFolder(folder).is_complete
    assert_one_line_of_warning(output, folder, reason)
    with pytest.raises(SystemExit, match="could not be sent") as stop:
        run_lungsound("send", str(folder))
    assert len(str(stop.value).splitlines()) == 1
    run_lungsound("send", str(folder), "--uri", f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert_all_sent(folder, finished_run)


@pytest.mark.usefixtures("no_waiting")
def test_a_password_in_the_address_is_used_and_stored_nowhere(
    tmp_path: Path, server: BrokenServer, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], decoded_store: Path,
) -> None:  # fmt: skip
    """Not in what a study and its run write and print, Hydra's files included."""
    address = server.uri.replace("//", "//ana:s3cret@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setattr(background, "FINAL_SYNC_S", 60.0)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(decoded_store, "store")
    with skip_rendering():
        run_study(["experiment=tiny", "annealing.cycles=1"])
    basic = "Basic " + b64encode(b"ana:s3cret").decode()
    assert server.authorizations == {basic}
    (study,) = tmp_path.glob("outputs/studies/*/")
    state = read_state(study)
    assert state
    assert state.uri == server.uri
    with pytest.raises(SystemExit, match=f"tracking.uri={server.uri}") as stop:
        run_lungsound("send", str(study))
    assert server.authorizations == {basic}
    with pytest.raises(SystemExit, match="MLFLOW_TRACKING_PASSWORD") as refused:
        run_lungsound("send", str(study), "--uri", address)
    output = capfd.readouterr()
    texts = [output.out, output.err, str(stop.value), str(refused.value)]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.yaml", "tracking.json", "multirun.yaml"} <= {path.name for path in files}
    for secret in (b"s3cret", basic.encode()):
        for content in (*map(str.encode, texts), *(path.read_bytes() for path in files)):
            assert secret not in content


def test_a_deleted_experiment_does_not_stop_the_training(
    run_training: TrainIn, tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """What its message advises brings the run to MLflow."""
    monkeypatch.setattr(background, "FINAL_RETRY_S", 0.0)
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    client = mlflow_client(tmp_path / "outputs" / "run")
    client.delete_experiment(client.create_experiment("lungsound"))
    folder = run_training(tmp_path, *ONE_EPOCH)
    warning = "its experiment lungsound is deleted.*restore --experiment-id 1"
    assert_one_line_of_warning(capfd.readouterr(), folder, warning)
    client.restore_experiment("1")
    run_lungsound("send", str(folder))
    assert only_run(folder).info.status == "FINISHED"


@pytest.mark.parametrize(("retry_at_end", "syncs"), [(True, 3), (False, 1)])
def test_the_end_waits_only_if_it_is_to_retry(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, retry_at_end: bool, syncs: int,
    tmp_path: Path,
) -> None:  # fmt: skip
    """A study's jobs do not wait for an MLflow that has just failed: the study does, once."""
    calls: list[str] = []

    def fail_twice(_: Path, state: TrackingState) -> str:
        calls.append(state.status)
        if len(calls) < 3:
            raise MlflowException("no answer")
        return "the run's id"

    monkeypatch.setattr(background, "RETRY_DELAY_S", 0.01)
    monkeypatch.setattr(background, "sync", fail_twice)
    state = read_state(finished_run)
    assert state
    state = replace(state, status="RUNNING", synced=False)
    work = BackgroundSync(tmp_path / "run", state, retry_at_end)
    with monkeypatch.context() as patch:
        patch.setattr(background, "RETRY_DELAY_S", 60.0)
        work.start()
        deadline = time.monotonic() + 30
        while not work.error:
            assert work.thread.is_alive()
            assert time.monotonic() < deadline
    work.finish("FAILED")
    join_tracking_threads()
    assert calls == ["RUNNING", "FAILED", "FAILED"][:syncs]
    assert (work.sync_warning is None) == retry_at_end
    stored = read_state(tmp_path / "run")
    assert stored
    assert (stored.status, stored.synced) == ("FAILED", retry_at_end)


@pytest.mark.usefixtures("store_copy")
def test_a_temporary_failure_is_reported_once(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    calls, success = [], threading.Event()

    def fail_at_first(folder: Path, state: TrackingState) -> str:
        calls.append(state)
        if len(calls) <= 3:
            raise MlflowException("no answer")
        run_id = sync(folder, state)
        success.set()
        return run_id

    def predict(*arguments: Any) -> Any:
        assert success.wait(60)
        return original(*arguments)

    original = lungsound.runs.predict.predict_run
    monkeypatch.setattr(background, "RETRY_DELAY_S", 0.01)
    monkeypatch.setattr(background, "sync", fail_at_first)
    monkeypatch.setattr(lungsound.runs.predict, "predict_run", predict)
    folder = run_training(tmp_path)
    output = capfd.readouterr().out
    assert output.count("not sent for now, the training goes on: no answer") == 1
    assert output.count("MLflow answers again") == 1
    assert_all_sent(folder, finished_run)


@pytest.mark.long
def test_a_server_that_fails_and_comes_back(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, server: BrokenServer,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], empty_mlflow: Path,
) -> None:  # fmt: skip
    """A real server, which a run meets in all its states, one per epoch."""
    shutil.copy(empty_mlflow, tmp_path / "served.db")
    backend_store = f"sqlite:///{tmp_path / 'served.db'}"
    with mlflow_server(tmp_path, "--backend-store-uri", backend_store) as server.backend:
        modes, original = ["forward", "500", "drop", "hang"], SnapshotModule.on_train_epoch_start

        def next_mode(module: SnapshotModule) -> None:
            server.mode = modes[module.current_epoch]
            original(module)

        def recover(*arguments: Any) -> Any:
            server.mode = "forward"
            return predict(*arguments)

        predict = lungsound.runs.predict.predict_run
        monkeypatch.setattr(background, "RETRY_DELAY_S", 0.05)
        monkeypatch.setattr(SnapshotModule, "on_train_epoch_start", next_mode)
        monkeypatch.setattr(lungsound.runs.predict, "predict_run", recover)
        folder = run_training(tmp_path, f"tracking.uri={server.uri}")
        output = capfd.readouterr()
        assert "did not take everything" not in output.out
        assert "Traceback" not in output.out + output.err
    shutil.copy(tmp_path / "served.db", tmp_path / "mlflow.db")
    run = only_run(folder)
    assert run.info.status == "FINISHED"
    assert metric_points(folder, run) == metric_points(finished_run, only_run(finished_run))
    artifacts = tmp_path / "files" / run.info.experiment_id / run.info.run_id / "artifacts"
    assert (artifacts / "report.md").exists()


@pytest.fixture
def killed_run(
    run_training: TrainIn, store_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of a run as kill -9 leaves it: nobody stores or sends how it ended."""
    synced = threading.Event()

    def note_sync(folder: Path, state: TrackingState) -> str:
        run_id = sync(folder, state)
        synced.set()
        return run_id

    def die(*_: object) -> None:
        assert synced.wait(60)
        raise RuntimeError("killed")

    def abandon(work: BackgroundSync, *_: object, **__: object) -> None:
        work.abandoned = True
        work.notify()

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(background, "sync", note_sync)
        patch.setattr(lungsound.runs.predict, "predict_run", die)
        patch.setattr(BackgroundSync, "finish", abandon)
        run_training(tmp_path)
    (folder,) = tmp_path.glob("outputs/*/")
    join_tracking_threads()
    assert only_run(folder).info.status == "RUNNING"
    return folder


def test_a_killed_run_is_killed_in_mlflow_once_it_is_sent(
    killed_run: Path, run_training: TrainIn, finished_run: Path, tmp_path: Path
) -> None:
    before = only_run(killed_run)
    run_lungsound("send", str(killed_run))
    assert only_run(killed_run).info.status == "KILLED"
    assert run_training(tmp_path) == killed_run
    assert only_run(killed_run).info.run_id == before.info.run_id
    assert_all_sent(killed_run, finished_run)


@pytest.mark.slow
@pytest.mark.parametrize("is_killed_again", [False, True])
def test_redo_reuses_a_run_that_was_left_running(
    killed_run: Path, run_training: TrainIn, finished_run: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, is_killed_again: bool,
) -> None:  # fmt: skip
    before, clear = only_run(killed_run), RunFolder.clear

    def die(*arguments: Any, **options: Any) -> None:
        clear(*arguments, **options)
        raise RuntimeError("killed")

    if is_killed_again:
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
            patch.setattr(RunFolder, "clear", die)
            run_training(tmp_path, "redo=true")
        assert {path.name.split(".")[0] for path in killed_run.iterdir()} == {"tracking"}
    assert run_training(tmp_path, "redo=true") == killed_run
    assert only_run(killed_run).info.run_id == before.info.run_id
    assert_all_sent(killed_run, finished_run)


@pytest.mark.slow
@pytest.mark.parametrize("has_the_end", [False, True])
def test_redo_of_a_finished_run(
    run_training: TrainIn, finished_run: Path, run_copy: Path, tmp_path: Path, has_the_end: bool
) -> None:
    """Without the end, the command was killed after it had stored that it is FINISHED."""
    state, before = read_state(run_copy), only_run(run_copy)
    assert state
    assert (state.status, state.synced) == ("FINISHED", True)
    if not has_the_end:
        write_state(run_copy, replace(state, synced=False))
        mlflow_client(run_copy).update_run(before.info.run_id, status="RUNNING")
    run_training(tmp_path, "redo=true")
    if has_the_end:
        assert [run.info.status for run in mlflow_runs(run_copy)] == ["FINISHED", "FINISHED"]
    else:
        assert only_run(run_copy).info.run_id == before.info.run_id
        assert_all_sent(run_copy, finished_run)


@pytest.mark.slow
@pytest.mark.parametrize("harm", [lambda path: path.write_text("{"), Path.unlink])
def test_a_folder_without_a_readable_state_becomes_another_run(
    killed_run: Path, run_training: TrainIn, finished_run: Path, tmp_path: Path,
    harm: Callable[[Path], object],
) -> None:  # fmt: skip
    """An MLflow run of the same path may be another machine's, so it is left as it is."""
    before = only_run(killed_run)
    harm(killed_run / "tracking.json")
    run_training(tmp_path)
    statuses = {run.info.run_id: run.info.status for run in mlflow_runs(killed_run)}
    assert statuses.pop(before.info.run_id) == "RUNNING"
    assert list(statuses.values()) == ["FINISHED"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "error", "status"),
    [
        (signal.SIGINT, 130, None, "FINISHED"),
        (signal.SIGTERM, 143, LungsoundError("why"), "FAILED"),
        (signal.SIGTERM, 143, RuntimeError("why"), "FAILED"),
    ],
)
def test_a_signal_during_the_last_sync(
    run_training: TrainIn, tmp_path: Path, signal_during_final_sync: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, code: int,
    error: Exception | None, status: str,
) -> None:  # fmt: skip
    signal_during_final_sync(MlflowSync, number)
    if error:
        monkeypatch.setattr(lungsound.runs.predict, "predict_run", fail_to_predict(error))
    with pytest.raises(SystemExit) as end:
        cli_command(run_training)(tmp_path, *ONE_EPOCH)
    (folder,) = tmp_path.glob("outputs/*/")
    assert only_run(folder).info.status == status
    assert end.value.code == code
    lines = capsys.readouterr().err.splitlines()
    assert ("error: why" in lines) == isinstance(error, LungsoundError)
    assert ("RuntimeError: why" in lines) == isinstance(error, RuntimeError)
    state = read_state(folder)
    assert state
    assert state.status == status
    assert RunFolder(folder).is_complete == (status == "FINISHED")


def test_mlflows_page_is_served_to_this_machine_alone() -> None:
    command = ["make", "--dry-run", "ui"]
    lines = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    (line,) = [line for line in lines if "mlflow ui" in line]
    assert "--host 127.0.0.1" in line
    assert line.count("--host") == 1
