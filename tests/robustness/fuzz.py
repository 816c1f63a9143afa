"""Bad input, generated from a seed: python tests/fuzz.py --inputs N [--seed S] [--only NUMBER].

Every input must end in success or in one of our errors that names the file or key; within SECONDS,
those not counted in which it could work and others have the processor; with no more than MEBIBYTES
above the start. What fails is printed with its number, and kept in a folder.
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
from collections import Counter
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
    """Makes input number n of a seed, feeds it, and says what is wrong with what came of it."""

    def __init__(self, run: Path, seed: int, folder: Path) -> None:
        kinds: dict[Kind, int] = {**DATA, **Stored(run).kinds}
        self.kinds, self.weights = list(kinds), list(kinds.values())
        self.seed, self.folder = seed, folder
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.seconds: Counter[str] = Counter()
        self.start = memory("VmRSS")

    def failure(self, number: int) -> str:
        """Feed one input: "" where all is well. Its files stay in `place(number)` where it is not."""
        rng = Random(f"{self.seed}/{number}")
        (kind,) = rng.choices(self.kinds, self.weights)
        place = self.place(number)
        place.mkdir(parents=True)
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            tried = kind(rng, place, self.folder / "store")
            reset_peak()
            outcome, wrong = run_input(tried)
        above = memory("VmHWM") - self.start
        if above > MEBIBYTES * 1024:
            wrong += f"\n{above // 1024} MiB above the start"
        self.outcomes[kind.__name__, outcome] += 1
        self.seconds[kind.__name__] += time.perf_counter() - start
        if wrong:
            return f"input {number} of seed {self.seed}, {kind.__name__}: {wrong}"
        shutil.rmtree(place)
        return ""

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
    """What is wrong with a message that has none of the names by itself: `data` is not named by
    `data.skip_bad`.
    """
    if any(re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", message) for name in names):
        return ""
    return f"its message names none of {names}: {message[:2000]}"


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TooSlow where what is inside works or waits for longer, at the end where no signal
    came through before.
    """
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
    """The seconds in which this thread could have worked, and another one had the processor."""
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
    parser.add_argument(
        "--run", type=Path, help="a small finished run, with its store two folders above it"
    )
    options = parser.parse_args()
    jobs.MAX_JOBS = JOBS
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    fuzzer = Fuzzer(options.run or small_run(folder / "trained"), options.seed, folder)
    numbers = range(options.inputs) if options.only is None else [options.only]
    for number in (
        (0, 1, 2) if options.only is None else ()
    ):  # imports and caches are no input's doing
        fuzzer.failure(number), shutil.rmtree(fuzzer.place(number), ignore_errors=True)
    start, failed = time.perf_counter(), 0
    for number in numbers:
        faulthandler.dump_traceback_later(HUNG, exit=True)
        (folder / "current").write_text(f"{number}\n")  # for a crash that leaves no word
        if told := fuzzer.failure(number):
            failed += 1
            print(told, f"kept in {fuzzer.place(number)}", sep="\n", flush=True)
    faulthandler.cancel_dump_traceback_later()
    for (kind, outcome), count in sorted(fuzzer.outcomes.items()):
        print(f"{kind:16} {outcome:20} {count:6}  {fuzzer.seconds[kind]:.1f} s")
    seconds = time.perf_counter() - start
    figures = f"{len(numbers)} inputs (seed {options.seed}) in {seconds / 60:.0f} minutes, failed: {failed}"
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
    with (
        contextlib.chdir(folder),
        compose_config(*SMALL_RUN_OVERRIDES, f"tracking.uri=sqlite:///{folder}/mlflow.db") as (
            cfg,
            choices,
        ),
    ):
        return run(cfg, choices).resolve()


if __name__ == "__main__":
    faulthandler.enable()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
