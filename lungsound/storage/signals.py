"""SIGINT and SIGTERM: the first ends the work cleanly, the second ends the process at once."""

import contextlib
import signal
import threading
import traceback
from collections.abc import Iterator
from typing import Any

from lungsound.errors import Interrupted, LungsoundError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
KEPT = "What is finished is kept."
RESUME_HINT = "The same command goes on from there."
RESTARTS = "The same command begins again."

_is_interruptible = False  # inside a block of `interruptible`
_received: int | None = None  # the first signal
_deferred = False  # the first signal waits for `raise_if_interrupted`
_hint = RESTARTS


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted in the block on the first SIGINT or SIGTERM; the second ends the process.

    Does nothing inside another such block, or outside the main thread, which alone gets signals.
    """
    global _is_interruptible, _received
    if not _is_main_thread() or _is_interruptible:
        yield
        return
    previous_handlers = {number: signal.getsignal(number) for number in SIGNALS}
    _is_interruptible, _received = True, None
    handle_signals()
    try:
        yield
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        _is_interruptible, _received = False, None


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Let Interrupted say, in the block, that the same command continues its work."""
    global _hint
    previous, _hint = _hint, f"{KEPT} {RESUME_HINT}"
    try:
        yield
    finally:
        _hint = previous


def handle_signals(deferred: bool = False) -> None:
    """Install our handler, replacing any other; `deferred`: only record the first signal.

    Does nothing outside a block of `interruptible`, which removes it again, and outside the main
    thread, as Python allows handlers only there.
    """
    global _deferred
    if not _is_interruptible or not _is_main_thread():
        return
    _deferred = deferred
    for number in SIGNALS:
        signal.signal(number, _on_signal)


@contextlib.contextmanager
def defer_signals(deferred: bool = True) -> Iterator[None]:
    """Record the first signal in the block; raise Interrupted at its end, or if checked there.

    `defer_signals(False)` inside such a block: handle signals immediately again, and
    raise now if one is pending. `raise_if_interrupted` is the check. Does nothing outside the main
    thread.
    """
    global _deferred
    if not _is_main_thread():
        yield
        return
    previous, _deferred = _deferred, deferred
    try:
        if not deferred:
            raise_if_interrupted()
        yield
    except Exception as error:
        if previous or not _received:
            raise
        text = f"error: {error}" if isinstance(error, LungsoundError) else traceback.format_exc()
        raise Interrupted(_received, f"{_hint}\n{text}") from error
    finally:
        _deferred = previous
    if not previous:
        raise_if_interrupted()


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def raise_if_interrupted() -> None:
    """Raise Interrupted if a signal has arrived."""
    if _received:
        raise Interrupted(_received, _hint)


def _on_signal(number: int, _: Any) -> None:
    global _received
    if _received:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    _received = number
    if not _deferred:
        raise_if_interrupted()
