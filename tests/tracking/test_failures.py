"""Whatever MLflow does, a run trains on and its folder is whole; what was not sent is sent later,
and nothing twice.
"""

import functools
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from support.commands import run_lungsound
from support.disk import read_only
from support.files import flip_bit
from support.mlflow import (
    join_tracking_threads,
    metric_points,
    mlflow_client,
    mlflow_runs,
    only_run,
)
from support.runs import ROOT

import lungsound.runs.run
from lungsound.cli.command import cli_command
from lungsound.cli.send import default_tracking_uri, send_folder
from lungsound.errors import LungsoundError, StorageError
from lungsound.results.folder import RunFolder, folder_lock_path
from lungsound.storage.files import write_file
from lungsound.storage.locks import file_lock
from lungsound.tracking import background as sender
from lungsound.tracking import client
from lungsound.tracking.client import check_address, open_client
from lungsound.tracking.state import read_record, write_record
from lungsound.tracking.sync import RunView
from lungsound.training.module import SnapshotModule

TrainIn = Callable[..., Path]
LOOPBACK = "127.0.0.1"
ONE_EPOCH = ("annealing.cycles=1", "annealing.epochs_per_cycle=1")


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a run waits for no answer of an MLflow that is down."""
    monkeypatch.setattr(sender, "PAUSE_S", 0.01)
    monkeypatch.setattr(sender, "WAIT_S", 0.0)
    monkeypatch.setattr(sender, "TRIES_S", 0.0)


def waveforms_of(trained: Path, folder: Path) -> None:
    """Spare a run in `folder` what is not tested here: decoding."""
    shutil.copytree(
        trained.parents[1] / "store",
        folder / "store",
        ignore=shutil.ignore_patterns("trajectories"),
    )


class Server(ThreadingHTTPServer):
    """A server that says 500, hangs, drops every connection, or hands what it is asked on to a real
    one.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), Handler)
        self.mode, self.backend, self.over = "500", 0, threading.Event()

    def handle_error(self, *_: Any) -> None:
        pass  # those who ask do not wait for ever

    @property
    def uri(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        assert isinstance(self.server, Server)
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.mode == "hang":
            self.server.over.wait()
        if self.server.mode in ("hang", "drop"):
            self.close_connection = True
            return
        status, told = 500, b"out of order"
        if self.server.mode == "forward":
            behind = http.client.HTTPConnection(LOOPBACK, self.server.backend)
            headers = {name: value for name, value in self.headers.items() if name != "Host"}
            behind.request(self.command, self.path, content, headers)
            response = behind.getresponse()
            status, told = response.status, response.read()
        self.send_response(status)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_: Any) -> None:
        pass  # nothing of the server in what the run prints


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.over.set()
        join_tracking_threads()
        server.shutdown()


def free_port() -> int:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        return int(free.getsockname()[1])


def assert_told_in_one_line(told: str, errors: str, folder: Path, why: str) -> None:
    lines = told.splitlines()
    assert lines[-1].startswith("run: ")
    (line,) = [line for line in lines if "did not take everything" in line]
    assert line == lines[-2]
    assert re.search(why, line), line
    assert line.endswith(f"lungsound send outputs/{folder.name}")
    for depths in ("Traceback", "sqlalchemy", "sqlite3", "urllib3", "alembic"):
        assert depths not in told + errors


def assert_sent(folder: Path, trained: Path) -> None:
    run = only_run(folder)
    assert run.info.status == "FINISHED"
    assert metric_points(folder, run) == metric_points(trained, only_run(trained))
    files = {file.path for file in mlflow_client(folder).list_artifacts(run.info.run_id)}
    assert {path.name for path in folder.iterdir()} == files


def test_a_locked_database_is_not_waited_for(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, no_waiting: None, empty_mlflow: Path,
    capfd: pytest.CaptureFixture[str], trained_epochs: list[int],
) -> None:  # fmt: skip
    waveforms_of(finished_run, tmp_path)
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    other = sqlite3.connect(tmp_path / "mlflow.db")
    other.execute("BEGIN EXCLUSIVE")
    folder = run_training(tmp_path, *ONE_EPOCH)  # ends while it is locked
    assert trained_epochs == [1]
    assert RunFolder(folder).is_complete
    other.rollback()
    other.close()
    join_tracking_threads()
    told = capfd.readouterr()
    assert_told_in_one_line(told.out, told.err, folder, "no answer|database is locked")
    (record,) = RunFolder(folder).read_history()
    for _ in range(2):  # the second time there is nothing to send
        run_lungsound("send", str(folder))
        assert "FINISHED in MLflow" in capfd.readouterr().out
        run = only_run(folder)
        assert run.info.status == "FINISHED"
        assert metric_points(folder, run)["train/loss"] == {1: record["train/loss"]}
        assert run.data.metrics.keys() >= {"ensemble/test_score_4", "test/score_4", "leak/patients"}


def test_a_training_goes_on_while_mlflow_hangs(
    run_training: TrainIn,
    finished_run: Path,
    tmp_path: Path,
    no_waiting: None,
    monkeypatch: pytest.MonkeyPatch,
    trained_epochs: list[int],
) -> None:
    """What ended the run is told, too, when MLflow answers later; and then it goes on under the
    same id.
    """
    answers, original, asking = threading.Event(), RunView._find, []

    def find(view: RunView, record: Any) -> None:
        asking.append(threading.current_thread())
        if asking[-1] is not threading.main_thread():
            answers.wait()
        original(view, record)

    def broken(*_: object) -> None:
        raise RuntimeError("the network is gone")

    waveforms_of(finished_run, tmp_path)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="the network is gone"):
        patch.setattr(RunView, "_find", find)
        patch.setattr(lungsound.runs.run, "predict", broken)
        run_training(tmp_path, *ONE_EPOCH)
    assert trained_epochs == [1]
    assert threading.main_thread() not in asking
    assert not answers.is_set()
    answers.set()
    join_tracking_threads()
    (folder,) = tmp_path.glob("outputs/*/")
    run_lungsound("send", str(folder))
    run = only_run(folder)
    assert run.info.status == "FAILED"
    error = mlflow_client(folder).download_artifacts(run.info.run_id, "error.txt", str(tmp_path))
    assert "the network is gone" in Path(error).read_text()
    monkeypatch.setattr(sender, "WAIT_S", 60.0)
    run_training(tmp_path, *ONE_EPOCH)
    assert only_run(folder).info.status == "FINISHED"
    assert only_run(folder).info.run_id == run.info.run_id


@pytest.mark.parametrize(("mode", "why"), [("refuse", "Connection refused"), ("hang", "no answer|timed out"),
                                           ("500", "500")])  # fmt: skip
def test_a_server_that_is_down_from_the_start(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, no_waiting: None, server: Server,
    capfd: pytest.CaptureFixture[str], mode: str, why: str,
) -> None:  # fmt: skip
    shutil.copytree(finished_run.parents[1] / "store", tmp_path / "store")
    if mode != "refuse":  # a run that is only listed is sent no other way
        shutil.copytree(finished_run.parents[1] / "outputs", tmp_path / "outputs")
    server.mode = mode
    uri = f"http://{LOOPBACK}:{free_port()}" if mode == "refuse" else server.uri
    folder = run_training(tmp_path, f"tracking.uri={uri}")
    told = capfd.readouterr()
    assert RunFolder(folder).is_complete
    assert_told_in_one_line(told.out, told.err, folder, why)
    with pytest.raises(SystemExit, match="could not be sent") as stop:
        run_lungsound("send", str(folder))
    assert len(str(stop.value).splitlines()) == 1
    run_lungsound("send", str(folder), "--uri", f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = only_run(folder)
    assert run.info.status == "FINISHED"
    assert metric_points(folder, run) == metric_points(finished_run, only_run(finished_run))


def test_what_fails_for_a_while_is_said_once(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    original, tries, back = RunView.send_points, [], threading.Event()

    def send_points(view: RunView, new: Any) -> None:
        tries.append(new)
        if len(tries) <= 3:
            raise MlflowException("no answer")
        back.set()
        original(view, new)

    def predict(*arguments: Any) -> None:
        back.wait()
        lungsound_predict(*arguments)

    lungsound_predict = lungsound.runs.run.predict
    monkeypatch.setattr(sender, "PAUSE_S", 0.01)
    monkeypatch.setattr(RunView, "send_points", send_points)
    monkeypatch.setattr(lungsound.runs.run, "predict", predict)
    shutil.copytree(finished_run.parents[1] / "store", tmp_path / "store")
    folder = run_training(tmp_path)
    told = capfd.readouterr().out
    assert told.count("not sent for now, the training goes on: no answer") == 1
    assert told.count("MLflow answers again") == 1
    assert_sent(folder, finished_run)


@pytest.mark.slow
def test_a_server_that_fails_and_comes_back(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], empty_mlflow: Path,
) -> None:  # fmt: skip
    """A real server, which a run meets in all its states, one an epoch."""
    shutil.copy(empty_mlflow, tmp_path / "served.db")
    server.backend = free_port()
    words = ["server", "--host", LOOPBACK, "--port", str(server.backend), "--workers", "1", "--backend-store-uri",
             f"sqlite:///{tmp_path / 'served.db'}", "--artifacts-destination", str(tmp_path / "files")]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout
        assert any(
            "startup complete" in line for line in process.stdout
        )  # reads until it is up, or has ended
        modes, original = ["forward", "500", "drop", "hang"], SnapshotModule.on_train_epoch_start

        def next_state(module: SnapshotModule) -> None:
            server.mode = modes[module.current_epoch]
            original(module)

        def back(*arguments: Any) -> Any:
            server.mode = "forward"
            return predict(*arguments)

        predict = lungsound.runs.run.predict
        monkeypatch.setattr(sender, "PAUSE_S", 0.05)
        monkeypatch.setattr(SnapshotModule, "on_train_epoch_start", next_state)
        monkeypatch.setattr(lungsound.runs.run, "predict", back)
        folder = run_training(tmp_path, f"tracking.uri={server.uri}")
        told = capfd.readouterr()
        assert "did not take everything" not in told.out
        assert "Traceback" not in told.out + told.err
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    shutil.copy(tmp_path / "served.db", tmp_path / "mlflow.db")
    run = only_run(folder)
    assert run.info.status == "FINISHED"
    assert metric_points(folder, run) == metric_points(finished_run, only_run(finished_run))
    assert (
        tmp_path / "files" / run.info.experiment_id / run.info.run_id / "artifacts" / "report.md"
    ).exists()


@pytest.fixture
def killed_run(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of a run as kill -9 leaves it: nothing of the end is written down or told."""
    shown, original = threading.Event(), RunView._send

    def sent(view: RunView, record: Any) -> None:
        original(view, record)
        shown.set()

    def die(*_: object) -> None:
        shown.wait()
        raise RuntimeError("killed")

    def nothing(ending: sender.Sender, *_: object, **__: object) -> None:
        ending.given_up = True
        ending.wake()

    shutil.copytree(finished_run.parents[1] / "store", tmp_path / "store")
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(RunView, "_send", sent)
        patch.setattr(lungsound.runs.run, "predict", die)
        patch.setattr(sender.Sender, "end", nothing)
        run_training(tmp_path)
    (folder,) = tmp_path.glob("outputs/*/")
    assert only_run(folder).info.status == "RUNNING"
    return folder


def test_a_killed_run_is_right_once_a_command_was_typed(
    killed_run: Path, run_training: TrainIn, finished_run: Path, tmp_path: Path
) -> None:
    before = only_run(killed_run)
    run_lungsound("send", str(killed_run))
    assert only_run(killed_run).info.status == "KILLED"
    assert run_training(tmp_path) == killed_run
    assert only_run(killed_run).info.run_id == before.info.run_id
    assert_sent(killed_run, finished_run)


def test_a_killed_run_that_is_made_anew_is_the_same_in_mlflow(
    killed_run: Path, run_training: TrainIn, finished_run: Path, tmp_path: Path
) -> None:
    before = only_run(killed_run)
    assert run_training(tmp_path, "redo=true") == killed_run
    assert only_run(killed_run).info.run_id == before.info.run_id
    assert_sent(killed_run, finished_run)


def damaged(record: Path) -> None:
    record.write_bytes(flip_bit(record.read_bytes(), 30))


@pytest.mark.parametrize("harm", [damaged, Path.unlink])
def test_a_killed_run_without_a_record_goes_on_as_the_same_in_mlflow(
    killed_run: Path,
    run_training: TrainIn,
    finished_run: Path,
    tmp_path: Path,
    harm: Callable[[Path], None],
) -> None:
    before = only_run(killed_run)
    harm(killed_run / "tracking.json")
    run_training(tmp_path)
    run = only_run(killed_run)
    assert (run.info.run_id, run.info.status) == (before.info.run_id, "FINISHED")
    assert metric_points(killed_run, run) == metric_points(finished_run, only_run(finished_run))


def test_a_killed_run_without_a_record_that_is_made_anew_is_the_same_in_mlflow(
    killed_run: Path, run_training: TrainIn, finished_run: Path, tmp_path: Path
) -> None:
    before = only_run(killed_run)
    damaged(killed_run / "tracking.json")
    run_training(tmp_path, "redo=true")
    assert only_run(killed_run).info.run_id == before.info.run_id
    assert_sent(killed_run, finished_run)


def test_what_was_killed_of_other_work_in_a_folder_without_a_record_is_ended(
    killed_run: Path, run_training: TrainIn, tmp_path: Path
) -> None:
    before = only_run(killed_run)
    mlflow_client(killed_run).set_tag(before.info.run_id, "trajectory", "of another source")
    damaged(killed_run / "tracking.json")
    run_training(tmp_path)
    statuses = {
        run.info.run_id == before.info.run_id: run.info.status for run in mlflow_runs(killed_run)
    }
    assert statuses == {True: "KILLED", False: "FINISHED"}


def test_a_new_folder_takes_no_mlflow_run_of_another_machine(
    killed_run: Path, run_training: TrainIn, tmp_path: Path
) -> None:
    """Whose folder may have the same path."""
    before = only_run(killed_run)
    shutil.rmtree(killed_run)
    run_training(tmp_path)
    statuses = {
        run.info.run_id == before.info.run_id: run.info.status for run in mlflow_runs(killed_run)
    }
    assert statuses == {True: "RUNNING", False: "FINISHED"}


def test_a_kill_while_a_folder_is_emptied_loses_no_mlflow_run(
    killed_run: Path,
    run_training: TrainIn,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, clear = only_run(killed_run), RunFolder.clear

    def die(*arguments: Any, **known: Any) -> None:
        clear(*arguments, **known)
        raise RuntimeError("killed")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(RunFolder, "clear", die)
        run_training(tmp_path, "redo=true")
    assert {path.name for path in killed_run.iterdir()} == {"tracking.json", "tracking.json.sha256"}
    run_training(tmp_path, "redo=true")
    assert only_run(killed_run).info.run_id == before.info.run_id
    assert_sent(killed_run, finished_run)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_a_finished_run_waits_for_mlflow(
    run_training: TrainIn,
    finished_run: Path,
    tmp_path: Path,
    signal_during_final_sync: Callable[..., None],
    number: int,
    code: int,
) -> None:
    waveforms_of(finished_run, tmp_path)
    signal_during_final_sync(RunView, number)
    with pytest.raises(SystemExit) as end:
        cli_command(run_training)(tmp_path, *ONE_EPOCH)
    (folder,) = tmp_path.glob("outputs/*/")
    assert only_run(folder).info.status == "FINISHED"
    assert end.value.code == code
    known = read_record(folder)
    assert known and known.status == "FINISHED"
    assert RunFolder(folder).is_complete


@pytest.mark.parametrize(
    "error", [LungsoundError("the real reason"), RuntimeError("the real reason")]
)
def test_a_signal_while_a_failed_run_waits_for_mlflow(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, signal_during_final_sync: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception,
) -> None:  # fmt: skip
    def broken(*_: object) -> None:
        raise error

    waveforms_of(finished_run, tmp_path)
    signal_during_final_sync(RunView, signal.SIGTERM)
    monkeypatch.setattr(lungsound.runs.run, "predict", broken)
    with pytest.raises(SystemExit) as end:
        cli_command(run_training)(tmp_path, *ONE_EPOCH)
    (folder,) = tmp_path.glob("outputs/*/")
    assert only_run(folder).info.status == "FAILED"
    assert end.value.code == 143
    name = "error" if isinstance(error, LungsoundError) else "RuntimeError"
    assert re.search(rf"^{name}: the real reason$", capsys.readouterr().err, re.MULTILINE)


def test_a_redo_ends_the_run_whose_end_mlflow_was_not_told(
    run_training: TrainIn, finished_run: Path, tmp_path: Path
) -> None:
    """The command was killed after it wrote down that it is FINISHED."""
    shutil.copytree(finished_run.parents[1], tmp_path, dirs_exist_ok=True)
    folder = tmp_path / finished_run.relative_to(finished_run.parents[1])
    known, run = read_record(folder), only_run(folder)
    assert known and known.status == "FINISHED" and known.told
    write_record(folder, replace(known, told=False))
    mlflow_client(folder).update_run(run.info.run_id, status="RUNNING")
    run_training(tmp_path, "redo=true")
    assert only_run(folder).info.run_id == run.info.run_id
    assert_sent(folder, finished_run)


def test_a_folder_at_work_is_left_to_its_command(finished_run: Path) -> None:
    with (
        file_lock(folder_lock_path(finished_run)),
        pytest.raises(LungsoundError, match="working on it"),
    ):
        send_folder(finished_run)


def test_a_folder_without_a_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=f"{tmp_path}: expected the folder of a run") as stop:
        run_lungsound("send", str(tmp_path), str(tmp_path / "none"))
    assert len(str(stop.value).splitlines()) == 2


def test_a_strangers_record_sends_no_file_of_this_machine(
    finished_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_run.parents[1], tmp_path, dirs_exist_ok=True)
    folder, secret = (
        tmp_path / finished_run.relative_to(finished_run.parents[1]),
        tmp_path / "secret",
    )
    secret.write_text("not for anybody")
    (folder / "link").symlink_to(secret)
    known = read_record(folder)
    assert known
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    write_record(folder, replace(known, uri=address, id="another", weights=(str(secret),)))
    with pytest.raises(LungsoundError, match="secret is damaged"):
        send_folder(folder)
    assert not [
        path
        for path in tmp_path.rglob("*")
        if path.name in ("secret", "link") and "artifacts" in path.parts
    ]


def test_a_strangers_server_is_asked_only_where_a_user_names_it(
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It would be told the user's password."""
    shutil.copytree(finished_run, tmp_path / "run")
    known, server, asked = read_record(finished_run), "http://stranger.example", []
    assert known
    write_record(tmp_path / "run", replace(known, uri=server))

    def ask(uri: str) -> None:
        assert f"to {uri}" in capsys.readouterr().out
        asked.append(uri)
        raise MlflowException("no answer")

    monkeypatch.setattr("lungsound.tracking.sync.open_client", ask)
    with pytest.raises(LungsoundError, match="no answer"):  # there is nothing that it could be told
        send_folder(tmp_path / "run")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    with pytest.raises(LungsoundError, match=f"tracking.json names {server}.* --uri {server}$"):
        send_folder(tmp_path / "run")
    assert asked == [server]
    assert default_tracking_uri() == "sqlite:///mlflow.db"
    with pytest.raises(LungsoundError, match="no answer"):
        send_folder(tmp_path / "run", server)
    monkeypatch.setattr("lungsound.cli.send.default_tracking_uri", lambda: server)
    with pytest.raises(LungsoundError, match="no answer"):
        send_folder(tmp_path / "run")
    assert asked == [server] * 3


def test_send_says_where_it_cannot_lock(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    with (
        read_only(tmp_path),
        pytest.raises(StorageError, match=r"\.run\.lock: expected to store .*Permission denied"),
    ):
        send_folder(tmp_path / "run")


@pytest.mark.parametrize(
    "wrong",
    [{"uri": 5}, {"id": None}, {"study": []}, {"tags": {"data": 1}}, {"tags": ["data"]}, {"failed": {"job": {}}},
     {"status": "DONE"}, {"counts": {"jobs": "1"}}, {"weights": [1]}],
)  # fmt: skip
def test_a_record_with_other_types_is_none(
    wrong: dict[str, Any], finished_run: Path, tmp_path: Path
) -> None:
    stored = json.loads((finished_run / "tracking.json").read_text())
    write_file(tmp_path / "tracking.json", json.dumps(stored).encode())
    assert read_record(tmp_path)
    write_file(tmp_path / "tracking.json", json.dumps({**stored, **wrong}).encode())
    assert read_record(tmp_path) is None


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"id": 1}', b"not JSON", b'{"weights": 3}'])
def test_a_record_that_is_not_ours_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tracking.json").write_bytes(content)
    assert read_record(tmp_path) is None


@pytest.fixture
def new_database(empty_mlflow: Path, tmp_path: Path) -> str:
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_a_request_that_is_done_after_all_doubles_nothing(
    finished_run: Path, tmp_path: Path, new_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that hangs may still do what it was asked, after it was asked again."""
    late: list[Callable[[], object]] = []

    def hanging(real: Callable[..., object]) -> Callable[..., None]:
        def hangs(*args: Any, **known: Any) -> None:
            if "params" in known:  # those are written once as it is
                real(*args, **known)
                return
            late.append(functools.partial(real, *args, **known))
            raise MlflowException("timed out")

        return hangs

    for name in ("create_run", "log_batch"):
        with monkeypatch.context() as patch, pytest.raises(LungsoundError, match="timed out"):
            patch.setattr(MlflowClient, name, hanging(getattr(MlflowClient, name)))
            send_folder(finished_run, new_database)
    original = RunView.end

    def end(view: RunView, *args: Any) -> None:
        for request in late:
            request()
        original(view, *args)

    monkeypatch.setattr(RunView, "end", end)
    send_folder(finished_run, new_database)
    assert len(late) == 2
    folder = tmp_path / "outputs" / finished_run.name
    assert metric_points(folder, only_run(folder)) == metric_points(
        finished_run, only_run(finished_run)
    )


def test_a_database_is_there_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, original = tmp_path / "new.db", os.replace
    left = [tmp_path / ".new.db.killed.half", tmp_path / ".new.db.killed.half-journal"]

    def replace(half: Path, whole: Path) -> None:
        assert not path.exists()
        tables = sqlite3.connect(half).execute("SELECT name FROM sqlite_master").fetchall()
        assert {("experiments",), ("runs",), ("metrics",)} <= set(tables)
        original(half, whole)

    monkeypatch.setattr(client.os, "replace", replace)
    for file in left:
        file.write_bytes(b"of a process that was killed")
    assert open_client(f"sqlite:///{path}").search_experiments()[0].name == "Default"
    assert path.exists()
    assert not any(file.exists() for file in left)


def test_addresses_that_can_never_work_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.db").write_text(
        "not a database, but long enough to look like a page of one " * 20
    )
    monkeypatch.chdir(tmp_path)
    for uri, why in {
        "nonsense://here": "nonsense", "": "parse", "outputs/mlruns": "parse",
        f"sqlite:///{tmp_path}/nowhere/mlflow.db": "nowhere does not exist",
        f"sqlite:///{tmp_path}/text.db": "not a database", f"sqlite:///{tmp_path}": "it is a folder",
    }.items():  # fmt: skip
        with pytest.raises(LungsoundError, match=f"tracking.uri={uri}.*{why}"):
            check_address(uri)
    assert check_address("sqlite:///new.db") == f"sqlite:///{tmp_path}/new.db"
    for uri in ("http://127.0.0.1:1", "https://somewhere.example", "databricks"):
        assert check_address(uri) == uri


def test_the_page_is_shown_to_this_machine_alone() -> None:
    told = subprocess.run(
        ["make", "--dry-run", "ui"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    (line,) = [line for line in told.splitlines() if "mlflow ui" in line]
    assert "--host 127.0.0.1" in line
    assert line.count("--host") == 1
