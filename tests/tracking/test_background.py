"""How the work ended is stored, whenever a signal comes."""

import shutil
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from support.mlflow import only_run

import lungsound.tracking.background
from lungsound.errors import ConfigError, Interrupted
from lungsound.storage.signals import interruptible
from lungsound.tracking.background import BackgroundSync, background_sync
from lungsound.tracking.state import TrackingState, read_state

MONITOR = "mlflow.system_metrics.system_metrics_monitor"


def test_a_signal_right_after_the_work_leaves_no_running_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lungsound.tracking.background, "sync", lambda *_: "")

    def trace_line(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            sys.settrace(None)
            frame.f_trace = None
            signal.raise_signal(signal.SIGTERM)
        return trace_line

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        return trace_line if frame.f_code.co_name == "background_sync" else None

    state = TrackingState("sqlite:///unused.db", "name", "id", {})
    previous = sys.gettrace()
    try:
        with interruptible(), pytest.raises(Interrupted), background_sync(tmp_path, state, True):
            sys.settrace(trace)
    finally:
        sys.settrace(previous)
    stored = read_state(tmp_path)
    assert stored
    assert (stored.status, stored.synced) == ("KILLED", True)


def test_a_thread_that_is_abandoned_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is just about to clear the event which was set to wake it."""
    monkeypatch.setattr(lungsound.tracking.background, "sync", lambda *_: "")
    work = BackgroundSync(tmp_path, TrackingState("sqlite:///unused.db", "name", "id", {}))
    clear = work.wake_event.clear

    def abandon_first() -> None:
        work.abandoned = True
        work.notify()
        clear()

    monkeypatch.setattr(work.wake_event, "clear", abandon_first)
    work.start()
    work.thread.join(10)
    assert not work.thread.is_alive()


def test_the_machine_is_recorded_while_the_work_goes_on(
    finished_run: Path, tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.01")  # seconds
    folder = Path(shutil.copytree(finished_run, tmp_path / "outputs" / "run"))
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    state = read_state(folder)
    assert state
    state = replace(state, uri=f"sqlite:///{tmp_path / 'mlflow.db'}", status="RUNNING")
    work = BackgroundSync(folder, state, system_metrics=True)
    work.start()
    name = "system/cpu_utilization_percentage"
    while work.monitor is None or name not in only_run(folder).data.metrics:
        assert work.thread.is_alive()
    work.finish("FINISHED")
    assert only_run(folder).info.status == "FINISHED"
    assert not [one for one in threading.enumerate() if one.name == "SystemMetricsMonitor"]


def test_a_machine_that_cannot_be_recorded_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, MONITOR, raising=False)
    monkeypatch.setitem(sys.modules, f"{MONITOR.rpartition('.')[0]}.metrics.cpu_monitor", None)
    state = TrackingState("sqlite:///unused.db", "name", "id", {})
    with pytest.raises(ConfigError, match=r"system_metrics=true.*'lungsound\[system\]'"):
        BackgroundSync(tmp_path, state, system_metrics=True)
    assert not list(tmp_path.iterdir())
