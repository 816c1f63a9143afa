"""How a command ends: its errors, signals and exit codes."""

import functools
import signal
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from lungsound.errors import Interrupted, LungsoundError
from lungsound.storage.signals import interruptible
from lungsound.storage.streams import tolerate_output_errors

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def cli_command(command: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate `command`: a LungsoundError becomes one message and exit code 1.

    After a signal the exit code is the usual one: 130 for Ctrl-C, 143 for SIGTERM.
    """

    @functools.wraps(command)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        tolerate_output_errors()
        try:
            with interruptible():
                return command(*args, **kwargs)
        except LungsoundError as error:
            sys.exit(f"error: {error}")
        except (KeyboardInterrupt, Interrupted) as stop:
            print(f"stopped{f': {stop}' if str(stop) else ''}", file=sys.stderr)
            sys.exit(128 + getattr(stop, "signal_number", signal.SIGINT))

    return wrapped
