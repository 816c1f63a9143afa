"""The first signal ends a command in order, the second one at once."""

import os
import pickle
import signal
from collections.abc import Callable

import pytest

from lungsound.cli.command import cli_command
from lungsound.errors import Interrupted
from lungsound.storage.signals import SIGNALS, defer_signals, interruptible


def exit_code(do: Callable[[], object]) -> int:
    """Of a forked process that does something; -number if a signal ended it."""
    if not (process := os.fork()):
        code = 99
        try:
            do()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 98
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_with_the_shells_code(number: int, code: int) -> None:
    assert exit_code(lambda: cli_command(signal.raise_signal)(number)) == code


def test_interrupted_survives_pickling() -> None:
    """As a launcher's worker hands it over."""
    error = pickle.loads(pickle.dumps(Interrupted(signal.SIGTERM, "What is finished is kept.")))
    assert error.signal_number == signal.SIGTERM and str(error) == "What is finished is kept."


@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_ends_the_process_at_once(second: int) -> None:
    def twice() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:  # while it is ending
            signal.raise_signal(second)

    def twice_deferred() -> None:
        with defer_signals():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(second)

    assert exit_code(lambda: cli_command(twice)()) == -second
    assert exit_code(lambda: cli_command(twice_deferred)()) == -second


def test_a_deferred_signal_interrupts_at_the_end_or_when_allowed() -> None:
    done = []
    with interruptible(), pytest.raises(Interrupted), defer_signals():
        signal.raise_signal(signal.SIGTERM)
        done.append("the end")
    with interruptible(), pytest.raises(Interrupted), defer_signals():
        signal.raise_signal(signal.SIGTERM)
        done.append("before it is allowed")
        with defer_signals(False):
            done.append("never")
    with interruptible(), pytest.raises(Interrupted), defer_signals(), defer_signals(False):
        signal.raise_signal(signal.SIGTERM)
        done.append("never")
    assert done == ["the end", "before it is allowed"]


def test_an_error_after_a_deferred_signal_is_in_the_message() -> None:
    with interruptible(), pytest.raises(Interrupted, match="the disk is full"), defer_signals():
        signal.raise_signal(signal.SIGTERM)
        raise ValueError("the disk is full")


def test_nested_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with interruptible():
        with pytest.raises(Interrupted, match="The same command goes on") as stop, interruptible():
            signal.raise_signal(signal.SIGINT)
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert stop.value.signal_number == signal.SIGINT
    assert [signal.getsignal(number) for number in SIGNALS] == before
