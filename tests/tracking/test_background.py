"""How the work ended is stored, whenever a signal comes."""

import signal
import sys
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

import lungsound.tracking.background
from lungsound.errors import Interrupted
from lungsound.storage.signals import interruptible
from lungsound.tracking.background import BackgroundSync, background_sync
from lungsound.tracking.state import TrackingState, read_state
from lungsound.tracking.sync import MlflowSync


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


def test_a_swept_key_that_is_a_param_already_is_left_out() -> None:
    """MLflow takes a param once: one sync that sends a run and its swept values sent it twice."""
    sent: list[str] = []

    def log_batch(_: str, params: Any) -> None:
        sent.extend(param.key for param in params)

    target = MlflowSync.__new__(MlflowSync)
    target.client, target.run_id = SimpleNamespace(log_batch=log_batch), "run"  # type: ignore[assignment]
    target.run = SimpleNamespace(data=SimpleNamespace(params={}))  # type: ignore[assignment]
    target.log_params({"annealing.cycles": 1})  # annealing=constant has one period
    target.log_params({"annealing.cycles": 2, "seed": 3})
    assert sent == ["annealing.cycles", "seed"]
