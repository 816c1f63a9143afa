"""Signals: the first one ends the work in order, the second one ends the process at once."""

import contextlib
import signal
import threading
import traceback
from collections.abc import Iterator
from typing import Any

from lungsound.errors import Interrupted, LungsoundError

SIGNALS = (signal.SIGINT, signal.SIGTERM)

RESUME_HINT = "The same command goes on from there."

_received: list[int] | None = None  # the signals that have come; None outside `interruptible`

_put_off = False  # whether the first one waits, too


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Inside, the first Ctrl-C or SIGTERM raises Interrupted, and a second one ends the process at
    once.
    """
    global _received
    if _received is not None or threading.current_thread() is not threading.main_thread():
        yield  # in an outer one, or where no signal arrives
        return
    _received, before = (
        [],
        {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS},
    )
    for number in SIGNALS:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, before[number])
        _received = None


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Inside, the first signal is only noted, and stops at the end. A second one still ends the
    process at once.

    An error that comes out of it is told with the stop.
    """
    global _put_off
    _put_off = True
    try:
        yield
    except Exception as error:
        if not _received:
            raise
        told = (
            f"error: {error}"
            if isinstance(error, LungsoundError)
            else "".join(traceback.format_exception(error))
        )
        raise Interrupted(
            _received[0], f"What is finished is kept. {RESUME_HINT}\n{told}"
        ) from error
    finally:
        _put_off = False
    raise_if_interrupted()


@contextlib.contextmanager
def allow_signals() -> Iterator[None]:
    """Inside `defer_signals`, for a while: the first signal stops at once, also one that has come
    before.
    """
    global _put_off
    _put_off = False
    try:
        raise_if_interrupted()
        yield
    finally:
        _put_off = True


def record_signal(number: int, _: Any = None) -> None:
    """A handler that remembers the first signal for `raise_if_interrupted`; the second one ends the
    process at once.
    """
    global _received
    if _received:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    _received = [number]


def raise_if_interrupted(what: str = "What is finished is kept.") -> None:
    """Raises Interrupted where a signal has come."""
    if _received:
        raise Interrupted(_received[0], f"{what} {RESUME_HINT}")


def _stop(number: int, _: Any) -> None:
    record_signal(number)
    if not _put_off:
        raise_if_interrupted()
