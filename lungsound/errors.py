"""The errors a user can mend. Their messages say what was expected, what came, where, and what to do."""

import contextlib
import functools
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class LungsoundError(Exception):
    """Base of every error of ours."""


class ConfigError(LungsoundError):
    """A value of the configuration is out of range or does not fit another one."""


class DataError(LungsoundError):
    """The database cannot be used as it is. Carries every problem found, not only the first."""

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        self.problems = problems
        super().__init__("\n".join([message, *(f"  - {problem}" for problem in problems)]))


class TrainingError(LungsoundError):
    """The training cannot go on."""


class Stopped(BaseException):
    """A signal asked the command to end: what is finished is kept."""

    def __init__(self, signal_number: int, message: str) -> None:
        self.signal_number = signal_number
        super().__init__(signal_number, message)  # both, as a launcher's process pickles it

    def __str__(self) -> str:
        return str(self.args[1])


class StorageError(LungsoundError):
    """A file cannot be stored: its disk is full, or its folder cannot be written to."""


class DamagedFileError(LungsoundError):
    """A stored file does not match its checksum."""


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


def told(command: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A command that ends with an error of ours as one message and exit code 1, without a traceback.

    One that a signal stops ends as the shell counts it: 130 after Ctrl-C, 143 after SIGTERM.
    """

    @functools.wraps(command)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            with stoppable():
                return command(*args, **kwargs)
        except LungsoundError as error:
            sys.exit(f"error: {error}")
        except (KeyboardInterrupt, Stopped) as stop:
            print(f"stopped{f': {stop}' if str(stop) else ''}", file=sys.stderr)
            sys.exit(128 + getattr(stop, "signal_number", signal.SIGINT))

    return wrapped
