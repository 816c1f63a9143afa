"""How a command ends."""

import functools
import signal
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from lungsound.errors import Interrupted, LungsoundError
from lungsound.storage.signals import interruptible

Arguments = ParamSpec("Arguments")

Result = TypeVar("Result")


def told(command: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A command that ends with an error of ours as one message and exit code 1, without a
    traceback.

    One that a signal stops ends as the shell counts it: 130 after Ctrl-C, 143 after SIGTERM.
    """

    @functools.wraps(command)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            with interruptible():
                return command(*args, **kwargs)
        except LungsoundError as error:
            sys.exit(f"error: {error}")
        except (KeyboardInterrupt, Interrupted) as stop:
            print(f"stopped{f': {stop}' if str(stop) else ''}", file=sys.stderr)
            sys.exit(128 + getattr(stop, "signal_number", signal.SIGINT))

    return wrapped
