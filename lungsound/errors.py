"""The errors a user can mend. Their messages say what was expected, what came, where, and what to do."""

import functools
import signal
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

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
    """A signal asked the training to end: the batch is done, and what is finished is kept."""

    def __init__(self, signal_number: int, message: str) -> None:
        self.signal_number = signal_number
        super().__init__(message)


class StorageError(LungsoundError):
    """A file cannot be stored: its disk is full, or its folder cannot be written to."""


class DamagedFileError(LungsoundError):
    """A stored file does not match its checksum."""


def told(command: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A command that ends with an error of ours as one message and exit code 1, without a traceback.

    One that a signal stops ends as the shell counts it: 130 after Ctrl-C, 143 after SIGTERM.
    """

    @functools.wraps(command)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except LungsoundError as error:
            sys.exit(f"error: {error}")
        except (KeyboardInterrupt, Stopped) as stop:
            print(f"stopped{f': {stop}' if str(stop) else ''}", file=sys.stderr)
            sys.exit(128 + getattr(stop, "signal_number", signal.SIGINT))

    return wrapped
