"""How a command ends: its errors, signals and exit codes."""

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from lungsound.errors import ConfigError, Interrupted, LungsoundError
from lungsound.storage.places import expand_user
from lungsound.storage.signals import interruptible

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class UserPath(click.Path):
    """A path that may begin with `~`: shells do not replace it in --option=~/x."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; fail if it is empty or there is no such home folder."""
        try:
            return super().convert(expand_user(os.fspath(value)), param, ctx)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


def cli_command(command: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate `command`: a LungsoundError becomes one message and exit code 1.

    After a signal the exit code is the usual one: 130 for Ctrl-C, 143 for SIGTERM.
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
