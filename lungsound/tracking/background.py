"""Sends a folder to MLflow beside the work that fills it. The work never waits for MLflow."""

import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lungsound.errors import LungsoundError
from lungsound.results.folder import RunFolder
from lungsound.storage.signals import allow_signals, defer_signals
from lungsound.tracking.client import reason
from lungsound.tracking.state import Record, read_record, settled, write_record
from lungsound.tracking.sync import FolderView

PAUSE_S = 2.0  # between two tries; longer from try to try while the work goes on
LONGEST_PAUSE_S = 60.0
WAIT_S = 60.0  # how long the end of the work waits for MLflow's next answer
TRIES_S = 15.0  # and tries again where it fails
KEPT = "The run's folder keeps this error"  # the note of an error that MLflow shows with a run


class GivenUp(BaseException):
    """Ends a sender's thread that nobody waits for any more."""


class Sender:
    """A thread that sends what the folder holds and MLflow does not, when it is woken, and again
    where it failed.
    """

    def __init__(self, view: FolderView, record: Record, patient: bool = True) -> None:
        """`patient`: whether the end waits also where MLflow has failed before."""
        self.view, self.record, self.patient = view, record, patient
        self.error: Exception | None = None
        self.failures, self.answered = 0, time.monotonic()
        self.ended = self.sent = self.given_up = False
        self.weights: list[Path] = []  # the members' files, where they are wanted in MLflow
        self.news = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True, name="tracking")
        view.beat = self._beat

    def start(self) -> None:
        if read_record(self.view.path) != self.record:
            write_record(self.view.path, self.record)
        self.thread.start()

    def wake(self) -> None:
        """There is something new in the folder."""
        self.news.set()

    def end(self, status: str, **known: Any) -> None:
        """Write down how the work ended, and wait while MLflow takes what is missing, but not for
        one that is down.
        """
        record = replace(
            self.record,
            status=status,
            weights=tuple(str(path.absolute()) for path in self.weights),
            **known,
        )
        with suppress(
            OSError, LungsoundError
        ):  # on a full disk, say, what ended the work is what a user must see
            if record != self.record:
                write_record(self.view.path, record)
        self.record, self.ended = record, True
        self.answered = began = time.monotonic()
        self.news.set()
        while self.thread.is_alive() and not self.given_up:
            self.thread.join(0.05)
            now = time.monotonic()
            failing = self.error is not None and (not self.patient or now - began > TRIES_S)
            self.given_up = failing or now - self.answered > WAIT_S
        if self.sent:
            with suppress(OSError, LungsoundError):
                write_record(self.view.path, replace(record, told=True))

    @property
    def unsent(self) -> str | None:
        """What a user should know where MLflow has not got everything."""
        if self.sent:
            return None
        why = "no answer" if self.error is None else reason(self.error)
        return (
            f"tracking.uri={self.record.uri}: MLflow did not take everything ({why}). Nothing is lost: the folder has "
            f"it all. Send the rest with: lungsound send {self.view.path}"
        )

    def _work(self) -> None:
        with suppress(GivenUp):
            while not self.sent and not self.given_up:
                self._try()
                longest = PAUSE_S if self.ended else LONGEST_PAUSE_S
                if not self.sent:
                    self.news.wait(min(PAUSE_S * self.failures, longest) or None)

    def _try(self) -> None:
        self.news.clear()
        last, record = self.ended, self.record
        try:
            self.view.send(record)
        except Exception as error:  # whatever MLflow, its database or its server raise: the work must not end of it
            self._failed(error)
            return
        if self.failures > 1:
            print(
                f"tracking.uri={record.uri}: MLflow answers again, and has what it missed",
                flush=True,
            )
        self.failures, self.error, self.sent = 0, None, last

    def _failed(self, error: Exception) -> None:
        """The first failure may be a moment's; of the second one line is told."""
        if self.given_up:
            raise GivenUp
        self.failures, self.error = self.failures + 1, error
        if self.failures == 2 and not self.ended:
            told = "not sent for now, the training goes on"
            print(f"tracking.uri={self.record.uri}: {told}: {reason(error)}", flush=True)

    def _beat(self) -> None:
        if self.given_up:
            raise GivenUp
        self.answered = time.monotonic()


@contextmanager
def sending(view: FolderView, record: Record, patient: bool) -> Iterator[Sender]:
    """A run's folder is shown as running inside, and as what it came to afterwards."""
    if RunFolder(view.path).is_complete:  # and is only listed
        record = replace(record, status="FINISHED")
    sender = Sender(view, record, patient)
    try:
        with defer_signals():  # how it ended is written down and told, whatever comes meanwhile
            try:
                sender.start()
                with allow_signals():
                    yield sender
            except BaseException as error:
                ended = replace(record, status="FAILED" if isinstance(error, Exception) else "KILLED",
                                error="".join(traceback.format_exception(error)))  # fmt: skip
                ended = settled(
                    view.path, ended
                )  # a finished run is one, whatever failed afterwards
                sender.end(ended.status, error=ended.error)
                error.add_note(f"{KEPT}: {view.path}")
                raise
            sender.end("FINISHED")
    except BaseException:
        if sender.unsent:
            print(sender.unsent, flush=True)
        raise
