"""500 generated bad inputs, the same every time: make fuzz N=20000 tries more, and SEED=1 others."""

import os
import signal
import time
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

INPUTS = 500


@pytest.fixture
def fuzzer(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fuzzer:
    monkeypatch.setattr(jobs, "MAX_JOBS", JOBS)
    return Fuzzer(finished_run, 0, tmp_path)


def test_bad_input_ends_in_success_or_in_an_error_that_names_it(
    fuzzer: Fuzzer, record_property: Callable[..., None]
) -> None:
    told = [failure for number in range(INPUTS) if (failure := fuzzer.failure(number))]
    record_property("figures", f"{INPUTS} inputs, {len(told)} failed")
    assert not told, "\n\n".join(told)
    kinds = {kind for kind, _ in fuzzer.outcomes}
    assert kinds == {
        kind.__name__ for kind in fuzzer.kinds
    }  # every kind had its turn, and was not all success
    assert all(
        sum(fuzzer.outcomes[one] for one in fuzzer.outcomes if one[0] == kind) > 3 for kind in kinds
    )
    failed = sum(count for (_, outcome), count in fuzzer.outcomes.items() if outcome != "success")
    assert INPUTS / 4 < failed < INPUTS * 3 / 4


def test_an_input_is_its_seeds_and_its_numbers_alone(finished_run: Path, tmp_path: Path) -> None:
    """So a failure can be replayed by `--only`."""

    def files(folder: Path) -> dict[str, bytes]:
        fuzzer = Fuzzer(finished_run, 7, folder)
        made = {}
        for number in (3, 1, 2) if folder.name == "b" else (1, 2, 3):
            place = fuzzer.place(number)
            place.mkdir(parents=True)
            rng = Random(f"7/{number}")
            (kind,) = rng.choices(fuzzer.kinds, fuzzer.weights)
            kind(rng, place, folder / "store")
            made |= {
                str(path.relative_to(folder)): path.read_bytes()
                for path in place.rglob("*")
                if path.is_file()
            }
        return made

    one = files(tmp_path / "a")
    assert one and one == files(tmp_path / "b")


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
        "1 problem. Mend the files, or leave these recordings out with data.skip_bad=true (--skip-bad of score); see "
        "data. and seed. No validation set can be cut from training by patient. It is damaged: delete it"
    )
    for kind in fuzzer.kinds:
        for number in range(20):
            place = tmp_path / f"{kind.__name__}-{number}"
            place.mkdir()
            tried = kind(Random(number), place, tmp_path / "store")
            assert fuzz.check_message_names_input(constant, tried.names), (
                kind.__name__,
                number,
                tried.names,
            )


def test_a_name_is_not_a_piece_of_another_one() -> None:
    assert fuzz.check_message_names_input("expected data.skip_bad=true, or metadata", ("data",))
    for message in ("data=x: not there", "'data'", "expected data"):
        assert not fuzz.check_message_names_input(message, ("data",))


def test_it_notices_what_works_for_too_long() -> None:
    with pytest.raises(TooSlow), time_limit(0.05):
        while True:
            pass


def test_it_notices_what_waits_for_too_long() -> None:
    reader, writer = os.pipe()
    with pytest.raises(TooSlow), time_limit(0.05):
        os.read(reader, 1)
    os.close(reader), os.close(writer)


def test_it_notices_at_the_end_what_no_signal_reached() -> None:
    """C may work on; and an error that comes late is late."""
    with pytest.raises(TooSlow), time_limit(0.05):
        signal.setitimer(signal.ITIMER_REAL, 0)
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
        raise DataError("my.csv")


def test_a_busy_machine_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same work is too slow where it had the processor, and is not where others had it all of
    the time.
    """
    monkeypatch.setattr(fuzz, "SECONDS", 0.05)

    def work() -> None:
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            pass

    assert outcome(work).startswith("more than 0.05 s")
    monkeypatch.setattr(fuzz, "seconds_preempted", time.monotonic)
    assert outcome(work) == ""


def test_it_notices_what_fills_the_memory(fuzzer: Fuzzer) -> None:
    """Memory that is freed again counts, too."""

    def greedy(rng: Random, folder: Path, store: Path) -> FuzzCase:
        return FuzzCase(lambda: len(bytearray(os.urandom(1)) * (MEBIBYTES + 64) * 2**20), ())

    fuzzer.kinds, fuzzer.weights = [greedy], [1]
    assert "MiB above the start" in fuzzer.failure(0)
