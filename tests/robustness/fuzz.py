"""Bad input, generated from a seed: fuzz.py --inputs N [--seed S] [--only NUMBER].

Every input must end in success or in one of our errors that names the file or key; within SECONDS,
without those in which another process had the processor; with at most MEBIBYTES above the start.
What fails is printed with its number, and kept in a folder.
"""

import argparse
import contextlib
import faulthandler
import io
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from robustness.corrupt_artifacts import Stored
from robustness.fuzz_data import DATA, FuzzCase
from robustness.reliability import update_row

from lungsound.errors import LungsoundError
from lungsound.studies import jobs

SECONDS, MEBIBYTES = 5, 256
JOBS = 5  # of a sweep at most: each takes a tenth of a second
HUNG = 120  # seconds of the clock, for a hang in C: no signal ends it
Kind = Callable[[Random, Path, Path], FuzzCase]


class TooSlow(BaseException):
    """Not an Exception: no reader may take it for one of its own."""


class Fuzzer:
    """Makes input number n of a seed, feeds it, and describes what went wrong."""

    def __init__(self, run: Path, seed: int, folder: Path) -> None:
        kinds: dict[Kind, int] = {**DATA, **Stored(run).kinds}
        self.kinds, self.weights = list(kinds), list(kinds.values())
        self.seed, self.folder = seed, folder
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.seconds: dict[str, float] = defaultdict(float)
        self.start = memory("VmRSS")

    def failure(self, number: int) -> str:
        """Feed one input; "" if all is well, else its files stay in `place(number)`."""
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            kind, case = self.make(number)
            reset_peak()
            outcome, wrong = run_input(case)
        above = memory("VmHWM") - self.start
        if above > MEBIBYTES * 1024:
            wrong += f"\n{above // 1024} MiB above the start"
        self.outcomes[kind.__name__, outcome] += 1
        self.seconds[kind.__name__] += time.perf_counter() - start
        if wrong:
            return f"input {number} of seed {self.seed}, {kind.__name__}: {wrong}"
        shutil.rmtree(self.place(number))
        return ""

    def make(self, number: int) -> tuple[Kind, FuzzCase]:
        """Make an input's files in `place(number)`: they depend on seed and number alone."""
        rng = Random(f"{self.seed}/{number}")
        (kind,) = rng.choices(self.kinds, self.weights)
        self.place(number).mkdir(parents=True)
        return kind, kind(rng, self.place(number), self.folder / "store")

    def place(self, number: int) -> Path:
        return self.folder / f"{self.seed}-{number}"


def run_input(tried: FuzzCase) -> tuple[str, str]:
    """What came of an input, and what is wrong with it."""
    try:
        with time_limit(SECONDS):
            tried.run()
    except LungsoundError as error:
        return type(error).__name__, check_message_names_input(str(error), tried.names)
    except TooSlow:
        return "too slow", f"more than {SECONDS} s\n{traceback.format_exc()}"
    except Exception as error:
        return type(error).__name__, f"not one of our errors\n{traceback.format_exc()}"
    return "success", ""


def check_message_names_input(message: str, names: tuple[str, ...]) -> str:
    """What is wrong with a message that has no name; `data.skip_bad` does not name `data`."""
    if any(re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", message) for name in names):
        return ""
    return f"its message names none of {names}: {message[:2000]}"


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TooSlow if the block takes longer; at its end if no signal came through before."""
    start = time.monotonic() - seconds_preempted()

    def left() -> float:
        return start + seconds - (time.monotonic() - seconds_preempted())

    def stop(*_: Any) -> None:
        if left() <= 0:
            raise TooSlow
        signal.setitimer(signal.ITIMER_REAL, max(left(), 0.001))

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left() <= 0:
            raise TooSlow


def seconds_preempted() -> float:
    """The seconds in which this thread could have worked while another had the processor."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


def memory(field: str) -> int:
    """KiB of this process: VmRSS, now; VmHWM, the most since `reset_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one input again")
    parser.add_argument("--write", action="store_true", help="the figures into docs/reliability.md")
    options = parser.parse_args()
    jobs.MAX_JOBS = JOBS
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    fuzzer = Fuzzer(small_run(folder / "trained"), options.seed, folder)
    numbers = range(options.inputs) if options.only is None else [options.only]
    if options.only is None:
        for number in range(3):  # imports and caches count for no input
            fuzzer.failure(number)
            shutil.rmtree(fuzzer.place(number), ignore_errors=True)
    start, failed = time.perf_counter(), 0
    for number in numbers:
        faulthandler.dump_traceback_later(HUNG, exit=True)
        (folder / "current").write_text(f"{number}\n")  # for a crash that prints nothing
        if failure := fuzzer.failure(number):
            failed += 1
            print(failure, f"kept in {fuzzer.place(number)}", sep="\n", flush=True)
    faulthandler.cancel_dump_traceback_later()
    for (kind, outcome), count in sorted(fuzzer.outcomes.items()):
        print(f"{kind:16} {outcome:20} {count:6}  {fuzzer.seconds[kind]:.1f} s")
    minutes = (time.perf_counter() - start) / 60
    inputs = f"{len(numbers)} inputs (seed {options.seed})"
    figures = f"{inputs} in {minutes:.0f} minutes, failed: {failed}"
    print(figures)
    if options.write:
        update_row(f"make fuzz N={options.inputs}", figures)
    if not failed:
        shutil.rmtree(folder)
    sys.exit(bool(failed))


def small_run(folder: Path) -> Path:
    """A run of the demo, as the tests have it."""
    from support.runs import SMALL_RUN_OVERRIDES, compose_config

    from lungsound.runs.run import run

    folder.mkdir()
    tracking = f"tracking.uri=sqlite:///{folder}/mlflow.db"
    with contextlib.chdir(folder):
        return run(*compose_config(*SMALL_RUN_OVERRIDES, tracking)).resolve()


if __name__ == "__main__":
    faulthandler.enable()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
