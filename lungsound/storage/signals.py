"""Signals: the first one ends the work in order, the second one ends the process at once."""

import contextlib
import signal
import threading
import traceback
from collections.abc import Iterator
from typing import Any

from lungsound.errors import LungsoundError, Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)

GOES_ON = "The same command goes on from there."

_received: list[int] | None = None  # the signals that have come; None outside `stoppable`

_put_off = False  # whether the first one waits, too


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Inside, the first Ctrl-C or SIGTERM raises Stopped, and a second one ends the process at once."""
    global _received
    if _received is not None or threading.current_thread() is not threading.main_thread():
        yield  # in an outer one, or where no signal arrives
        return
    _received, before = [], {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, before[number])
        _received = None


@contextlib.contextmanager
def signals_put_off() -> Iterator[None]:
    """Inside, the first signal is only noted, and stops at the end. A second one still ends the process at once.

    An error that comes out of it is told with the stop.
    """
    global _put_off
    _put_off = True
    try:
        yield
    except Exception as error:
        if not _received:
            raise
        told = f"error: {error}" if isinstance(error, LungsoundError) else "".join(traceback.format_exception(error))
        raise Stopped(_received[0], f"What is finished is kept. {GOES_ON}\n{told}") from error
    finally:
        _put_off = False
    stop_if_asked()


@contextlib.contextmanager
def signals_let_in() -> Iterator[None]:
    """Inside `signals_put_off`, for a while: the first signal stops at once, also one that has come before."""
    global _put_off
    _put_off = False
    try:
        stop_if_asked()
        yield
    finally:
        _put_off = True


def note_signal(number: int, _: Any = None) -> None:
    """A handler that remembers the first signal for `stop_if_asked`; the second one ends the process at once."""
    global _received
    if _received:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    _received = [number]


def stop_if_asked(what: str = "What is finished is kept.") -> None:
    """Raises Stopped where a signal has come."""
    if _received:
        raise Stopped(_received[0], f"{what} {GOES_ON}")


def _stop(number: int, _: Any) -> None:
    note_signal(number)
    if not _put_off:
        stop_if_asked()
