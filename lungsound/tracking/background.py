"""Sync a folder to MLflow in a thread, so that the work which fills the folder never waits."""

import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lungsound.errors import ConfigError, StorageError
from lungsound.storage.signals import defer_signals
from lungsound.tracking.client import connection_uri, root_cause
from lungsound.tracking.state import Status, TrackingState, resolve_status, write_state
from lungsound.tracking.sync import sync

RETRY_DELAY_S = 2.0  # after the first failure; longer after each further one
MAX_RETRY_DELAY_S = 60.0
FINAL_RETRY_S = 15.0  # after the work, failed syncs are retried for so long
FINAL_SYNC_S = 120.0  # after the work, the command waits at most so long
ERROR_NOTE = "The run's folder keeps this error"  # in the notes of an error that its MLflow run has


class BackgroundSync:
    """A thread that calls `sync` when notified, and again after a failure."""

    def __init__(
        self,
        folder: Path,
        state: TrackingState,
        retry_at_end: bool = True,
        system_metrics: bool = False,
    ) -> None:
        """Without `retry_at_end`, `finish` does not wait if the last sync failed."""
        self.folder, self.state, self.retry_at_end = folder, state, retry_at_end
        self.monitor_class: Any = None  # of MLflow: records the machine in a thread of its own
        if system_metrics:
            self.monitor_class = load_monitor()
        self.monitor: Any = None
        self.error: Exception | None = None  # of the last sync
        self.retry_until: float | None = None  # monotonic seconds; None while the work goes on
        self.synced = self.abandoned = False
        self.wake_event = threading.Event()
        self.thread = threading.Thread(target=self._loop, daemon=True, name="tracking")

    def start(self) -> None:
        write_state(self.folder, self.state)
        self.thread.start()

    def notify(self) -> None:
        """Wake the thread: the folder has new content."""
        self.wake_event.set()

    def send_weights(self, paths: list[Path]) -> None:
        """Add the members' weights to what is sent."""
        self.state = replace(self.state, weights=[str(path.absolute()) for path in paths])

    def send_model(self) -> None:
        """Add the ensemble as a model to what is sent."""
        self.state = replace(self.state, log_model=True)

    def finish(self, status: Status, **changes: Any) -> None:
        """Store how the work ended, and wait for the last sync, within limits.

        `changes`: new values of other fields of the state.
        """
        state = replace(self.state, status=status, **changes)
        self._store(resolve_status(self.folder, state))
        self.retry_until = time.monotonic() + (FINAL_RETRY_S if self.retry_at_end else 0)
        if self.monitor:
            self.monitor.finish()
        self.notify()
        if self.error is None or self.retry_at_end:
            self.thread.join(FINAL_SYNC_S)
        self.abandoned = True
        if self.synced:
            self._store(replace(self.state, synced=True))

    @property
    def sync_warning(self) -> str | None:
        """One line for the user if MLflow does not have everything."""
        if self.synced:
            return None
        reason = "no answer" if self.error is None else root_cause(self.error)
        return (
            f"tracking.uri={self.state.uri}: MLflow did not take everything ({reason}). Nothing is "
            f"lost: the folder has it all. Send the rest with: lungsound send {self.folder}"
        )

    def _store(self, state: TrackingState) -> None:
        self.state = state
        with suppress(StorageError):  # the user must see what ended the work, not the full disk
            write_state(self.folder, state)

    def _loop(self) -> None:
        failures = 0
        while True:
            self.wake_event.clear()  # first: what is set after this line wakes the thread again
            retry_until = self.retry_until  # before `state`: if it is set, `state` is final
            if self.abandoned:
                return
            try:
                run_id = sync(self.folder, self.state)
            except Exception as error:  # MLflow, its database and its server raise many types
                failures, self.error = failures + 1, error
                if failures == 2 and retry_until is None:  # a single failure is often temporary
                    self._print(f"not sent for now, the training goes on: {root_cause(error)}")
            else:
                if failures > 1:
                    self._print("MLflow answers again, and has what it missed")
                failures, self.error = 0, None
                self.synced = retry_until is not None
                self._start_monitor(run_id)
            if retry_until is not None and (self.synced or time.monotonic() >= retry_until):
                return
            longest = MAX_RETRY_DELAY_S if retry_until is None else RETRY_DELAY_S
            self.wake_event.wait(min(RETRY_DELAY_S * failures, longest) or None)

    def _start_monitor(self, run_id: str) -> None:
        """Record the machine until `finish`; the monitor itself ends with its MLflow run."""
        if self.monitor_class and not self.monitor and self.retry_until is None:
            uri = connection_uri(self.state.uri)
            self.monitor = self.monitor_class(run_id, resume_logging=True, tracking_uri=uri)
            self.monitor.start()

    def _print(self, message: str) -> None:
        print(f"tracking.uri={self.state.uri}: {message}", flush=True)


def load_monitor() -> Any:
    """Return MLflow's class that records the machine. Raises ConfigError without psutil."""
    try:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"tracking.system_metrics=true: expected the package {error.name}, which the extra "
            "`system` installs: pip install 'lungsound[system]'"
        ) from error
    return SystemMetricsMonitor


@contextmanager
def background_sync(
    folder: Path, state: TrackingState, retry_at_end: bool, system_metrics: bool = False
) -> Iterator[BackgroundSync]:
    """Sync the folder: as RUNNING in the block, then as FINISHED, FAILED or KILLED."""
    background = BackgroundSync(folder, state, retry_at_end, system_metrics)
    with defer_signals():  # all but the block: the end is stored whenever a signal comes
        background.start()
        try:
            with defer_signals(False):
                yield background
        except BaseException as error:
            status: Status = "FAILED" if isinstance(error, Exception) else "KILLED"
            background.finish(status, error="".join(traceback.format_exception(error)))
            error.add_note(f"{ERROR_NOTE}: {folder}")
            if background.sync_warning:
                print(background.sync_warning, flush=True)
            raise
        background.finish("FINISHED")
