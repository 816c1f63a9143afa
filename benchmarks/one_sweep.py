"""A sweep over M = 2 ... 10 against the run of M = 10 alone: python benchmarks/one_sweep.py.

The two commands as a user types them, of the demo with two epochs per period instead of three. Each
has a new store, outputs and MLflow file; the demo database and its waveforms are there before.
Times are of the whole commands, imports and MLflow included, and so are the seconds of all cores.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rows import Row, print_section, seconds_of

from lungsound.config.overrides import compose_run
from lungsound.runs.build import build_database
from lungsound.runs.validation import validate_config

ROOT = Path(__file__).parents[1]
EPOCHS = "annealing.epochs_per_cycle=2"
ALONE = ("train.py", "annealing.cycles=10", EPOCHS)
SWEEP = ("sweep.py", "-m", "annealing.cycles=2,3,...,10", EPOCHS)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "prepared"
        cfg, _ = compose_run([f"store_dir={store}"])
        build_database(validate_config(cfg))
        alone, alone_cpu = time_command(ALONE, store)
        sweep, sweep_cpu = time_command(SWEEP, store)
    print_section(
        "A sweep over the number of members",
        [Row("sweep M = 2 ... 10", "the run M = 10 alone", [sweep / alone], "<= 1.25")],
        "| command | s | s of all cores |\n|---|---:|---:|",
        f"| `python {' '.join(ALONE)}` | {alone:.1f} | {alone_cpu:.1f} |",
        f"| `python {' '.join(SWEEP)}` | {sweep:.1f} | {sweep_cpu:.1f} |",
    )


def time_command(words: tuple[str, ...], store: Path) -> tuple[float, float]:
    """Return the seconds of a command, and of all cores in it, with a copy of the store."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(store, Path(folder) / "store")
        command = [sys.executable, str(ROOT / words[0]), *words[1:]]
        before = cpu_seconds()
        seconds = seconds_of(
            lambda: subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        )
        return seconds, cpu_seconds() - before


def cpu_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    main()
