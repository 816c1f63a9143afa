"""300 generated bad inputs, the same every time; make fuzz N=20000 tries more, SEED=1 others."""

import functools
import mmap
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from robustness import fuzz
from robustness.fuzz import JOBS, MEBIBYTES, Fuzzer, TooSlow, run_input, time_limit
from robustness.fuzz_data import FuzzCase

from lungsound.errors import DataError
from lungsound.studies import jobs

INPUTS = 300


@pytest.fixture
def fuzzer(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fuzzer:
    monkeypatch.setattr(jobs, "MAX_JOBS", JOBS)
    return Fuzzer(finished_run, 0, tmp_path)


@pytest.mark.slow
def test_bad_input_ends_in_success_or_in_an_error_that_names_it(
    fuzzer: Fuzzer, record_property: Callable[..., None]
) -> None:
    failures = list(filter(None, map(fuzzer.failure, range(INPUTS))))
    record_property("figures", f"{INPUTS} inputs, {len(failures)} failed")
    assert not failures, "\n\n".join(failures)
    inputs, errors = Counter[str](), 0
    for (kind, outcome), count in fuzzer.outcomes.items():
        inputs[kind] += count
        errors += count * (outcome != "success")
    assert inputs.keys() == {kind.__name__ for kind in fuzzer.kinds}
    assert min(inputs.values()) > 3
    assert INPUTS / 4 < errors < INPUTS * 3 / 4  # neither all harmless nor all refused


def test_an_input_is_its_seeds_and_its_numbers_alone(finished_run: Path, tmp_path: Path) -> None:
    """So a failure can be replayed by `--only`."""

    def files(folder: Path, *numbers: int) -> dict[str, bytes]:
        fuzzer = Fuzzer(finished_run, 7, folder)
        for number in numbers:
            fuzzer.make(number)
        paths = [path for path in folder.glob("7-*/**/*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    one = files(tmp_path / "a", 1, 2, 3)
    assert one
    assert one == files(tmp_path / "b", 3, 1, 2)


# --- what the fuzzer would notice ---


def outcome(run: Any) -> str:
    return run_input(FuzzCase(run, ("my.csv",)))[1]


def test_it_notices_what_is_wrong() -> None:
    def raises(error: Exception) -> Any:
        def run() -> None:
            raise error

        return run

    assert outcome(lambda: None) == ""
    assert outcome(raises(DataError("my.csv, line 3: no"))) == ""
    assert "names none of" in outcome(raises(DataError("line 3: no")))
    assert "not one of our errors" in outcome(raises(KeyError("my.csv")))
    assert "MemoryError" in outcome(raises(MemoryError()))


def test_a_message_that_names_nothing_of_the_input_is_noticed(
    fuzzer: Fuzzer, tmp_path: Path
) -> None:
    """Of every kind: what every message of ours could say names no input."""
    constant = (
        "1 problem. Mend the files, or leave these recordings out with data.skip_bad=true "
        "(--skip-bad of score); at data. and seed. No validation set can be cut from training by "
        "patient. It is damaged: delete it"
    )
    for kind in fuzzer.kinds:
        for number in range(20):
            place = tmp_path / f"{kind.__name__}-{number}"
            place.mkdir()
            names = kind(Random(number), place, tmp_path / "store").names
            assert fuzz.check_message_names_input(constant, names), (kind, number, names)


def test_a_name_is_not_a_piece_of_another_one() -> None:
    assert fuzz.check_message_names_input("expected data.skip_bad=true, or metadata", ("data",))
    for message in ("data=x: not there", "'data'", "expected data"):
        assert not fuzz.check_message_names_input(message, ("data",))


def work() -> None:
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass


def work_without_signals() -> None:
    """As C code does; and an error that comes late is late."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    work()
    raise DataError("my.csv")


@pytest.mark.parametrize("act", [work, functools.partial(time.sleep, 60), work_without_signals])
def test_it_notices_what_takes_too_long(act: Callable[[], None]) -> None:
    with pytest.raises(TooSlow), time_limit(0.05):
        act()


def test_a_busy_machine_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same work is too slow if it had the processor, and is not if others had it."""
    monkeypatch.setattr(fuzz, "SECONDS", 0.05)
    assert outcome(work).startswith("more than 0.05 s")
    monkeypatch.setattr(fuzz, "seconds_preempted", time.monotonic)
    assert outcome(work) == ""


def test_it_notices_what_fills_the_memory(fuzzer: Fuzzer) -> None:
    """Memory that is freed again counts, too."""

    def greedy(rng: Random, folder: Path, store: Path) -> FuzzCase:
        # New memory: malloc may have kept some that this process has freed.
        pages = mmap.mmap(-1, (MEBIBYTES + 64) * 2**20)
        return FuzzCase(lambda: pages.write(bytes(1) * len(pages)), ())

    fuzzer.kinds, fuzzer.weights = [greedy], [1]
    assert "MiB above the start" in fuzzer.failure(0)
