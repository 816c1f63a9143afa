"""How long commands take to start and to end.

python benchmarks/start.py [SPRSOUND]

Each command is started three times, in a folder where the databases are prepared and a small run of
the demo is finished. SPRSOUND is the real database; without it, the one in LUNGSOUND_REAL_DATA.
Processor seconds are of all threads, and less noisy than the clock on a busy machine.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
REAL_DATA = os.environ.get("LUNGSOUND_REAL_DATA", "../shared/data")
STARTS = 3
EPOCHS = 2
SMALL = ("annealing.cycles=2", "annealing.epochs_per_cycle=1")
LISTING = "train, lungsound.runs.run"
TRAINING = f"{LISTING}, lungsound.runs.train, lungsound.runs.report"
FIRST_BATCH = (
    "import os, sys; from lungsound.cli.app import main; from lungsound.training.module import "
    "SnapshotModule; SnapshotModule.training_step = lambda *_: os._exit(0); "
    "main(['train', *sys.argv[1:]])"
)
TRAIN, LUNGSOUND = str(ROOT / "train.py"), ("-m", "lungsound")


class Duration(NamedTuple):
    """Medians of several starts, in seconds; `end` is that after the last epoch."""

    clock: float
    processor: float
    end: float = 0.0


def time_command(folder: Path, *words: str) -> Duration:
    """Return the duration of `python WORDS` in the folder."""
    starts = [start(folder, words) for _ in range(STARTS)]
    return Duration(*map(statistics.median, zip(*starts, strict=True)))


def start(folder: Path, words: tuple[str, ...]) -> Duration:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before, begin = processor_seconds(), time.perf_counter()
    last_epoch = begin
    command = [sys.executable, *words]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith(f"epoch {EPOCHS}/{EPOCHS} "):
                last_epoch = time.perf_counter()
    end = time.perf_counter()
    if process.returncode:
        sys.exit(f"{command} failed in {folder}")
    return Duration(end - begin, processor_seconds() - before, end - last_epoch)


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def print_row(name: str, duration: Duration, imports: Duration) -> None:
    seconds = (duration.clock, duration.processor)
    cells = [*seconds, *(one - other for one, other in zip(seconds, imports, strict=False))]
    print(f"| {name} |", *(f"{cell:.1f} |" for cell in cells), flush=True)


def measure(folder: Path, sprsound: Path) -> None:
    """Print a row per command; `folder` is empty."""
    real = ("experiment=sprsound_cpu", f"data.root={sprsound}", "output_dir=real")
    start(folder, (TRAIN, *SMALL))
    start(folder, ("-c", FIRST_BATCH, *real))
    (run,) = map(str, folder.glob("outputs/demo-*"))
    scored = (*LUNGSOUND, "score", run, "sprsound", str(sprsound), "--part", "intra")
    start(folder, scored)

    imports = time_command(folder, "-c", f"import {TRAINING}")
    print_row("imports of a training", imports, imports)
    for name, words in (("demo", (*SMALL, "output_dir=new")), ("SPRSound", real)):
        first_batch = time_command(folder, "-c", FIRST_BATCH, *words)
        print_row(f"to the first batch, {name}", first_batch, imports)
    print_row("`lungsound score`, SPRSound's part intra", time_command(folder, *scored), imports)

    imports = time_command(folder, "-c", f"import {LISTING}")
    print_row("imports of a finished run", imports, imports)
    print_row("a finished run's listing", time_command(folder, TRAIN, *SMALL), imports)

    imports = time_command(folder, "-c", "pass")
    print_row("Python alone", imports, imports)
    print_row("`train.py --help`", time_command(folder, TRAIN, "--help"), imports)
    for line in ("--help", "study ls", f"data check sprsound {sprsound}"):
        name = line.removesuffix(str(sprsound)).strip()
        print_row(f"`lungsound {name}`", time_command(folder, *LUNGSOUND, *line.split()), imports)

    redo = time_command(folder, TRAIN, *SMALL, "redo=true")
    print(f"\nA small run ends {redo.end:.1f} s after its last epoch: answers, figures, MLflow.")


def main() -> None:
    sprsound = Path(sys.argv[1] if len(sys.argv) > 1 else f"{REAL_DATA}/sprsound").absolute()
    print("## Start and end of commands\n")
    print(f"Made by `python benchmarks/start.py`: {os.cpu_count()} cores, medians of {STARTS}.\n")
    print("| command | s | processor s | s above its imports | processor s above |")
    print("|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), sprsound)


if __name__ == "__main__":
    main()
