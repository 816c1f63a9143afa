"""The first signal ends a command in order, the second one at once."""

import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest

from lungsound.errors import Interrupted
from lungsound.storage.signals import (
    SIGNALS,
    defer_signals,
    handle_signals,
    interruptible,
    resumable,
)

COMMAND = """
import sys; from signal import SIGTERM, raise_signal
from lungsound.cli.command import cli_command
from lungsound.storage.signals import defer_signals
number = int(sys.argv[1])
@cli_command
def run():
    {}
run()
"""
TWICE = ("try: raise_signal(SIGTERM)", "finally: raise_signal(number)")  # while it is ending
TWICE_DEFERRED = ("with defer_signals():", "    raise_signal(SIGTERM)", "    raise_signal(number)")


def exit_code(number: int, *lines: str) -> int:
    """Of a command with these lines; -number if a signal ended it."""
    code = COMMAND.format("\n    ".join(lines))
    done = subprocess.run([sys.executable, "-c", code, str(int(number))], timeout=60)
    return done.returncode


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_with_the_shells_code(number: int, code: int) -> None:
    assert exit_code(number, "raise_signal(number)") == code


@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("lines", [TWICE, TWICE_DEFERRED])
def test_a_second_signal_ends_the_process_at_once(second: int, lines: tuple[str, ...]) -> None:
    assert exit_code(second, *lines) == -second


def test_interrupted_survives_pickling() -> None:
    """As a launcher's worker hands it over."""
    error = pickle.loads(pickle.dumps(Interrupted(signal.SIGTERM, "What is finished is kept.")))
    assert (error.signal_number, str(error)) == (signal.SIGTERM, "What is finished is kept.")


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
    expected = r"(?s)Traceback.*ValueError: the disk is full"
    with interruptible(), pytest.raises(Interrupted, match=expected), defer_signals():
        signal.raise_signal(signal.SIGTERM)
        raise ValueError("the disk is full")


def test_only_work_that_is_kept_goes_on() -> None:
    for place, expected in (
        (resumable, r"^What is finished is kept\. The same command goes on from there\.$"),
        (nullcontext, r"^The same command begins again\.$"),
    ):
        with pytest.raises(Interrupted, match=expected), interruptible(), place():
            signal.raise_signal(signal.SIGINT)


def test_nested_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with interruptible():
        with pytest.raises(Interrupted, match="The same command begins") as stop, interruptible():
            signal.raise_signal(signal.SIGINT)
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert stop.value.signal_number == signal.SIGINT
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_thread_leaves_signals_to_the_main_thread() -> None:
    """Python sets handlers in the main thread alone; work in another goes on without them."""
    before = [signal.getsignal(number) for number in SIGNALS]

    def work() -> int:
        with interruptible(), defer_signals():
            handle_signals(deferred=True)
            return 7

    with ThreadPoolExecutor() as pool:
        assert pool.submit(work).result() == 7
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_handlers_are_installed_only_where_they_are_removed_again() -> None:
    """Otherwise a later block would take itself for an inner one, and keep an old signal."""
    before = [signal.getsignal(number) for number in SIGNALS]
    handle_signals()
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with interruptible():
        handle_signals(deferred=True)
        assert signal.getsignal(signal.SIGTERM) not in before
        handle_signals()
    assert [signal.getsignal(number) for number in SIGNALS] == before
