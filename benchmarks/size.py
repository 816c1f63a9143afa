"""What 2, 4 and 8 times the cycles cost: preparing, an epoch, a run's report, and memory.

python benchmarks/size.py

Of the demo database, in `experiment=demo` at half its width; each size in a process of its own. An
epoch: all that training does, with its log-mels, validation and files. A report: predictions,
scores, figures, report.md and checksums. The exponent is the slope of log(cost) over log(cycles): 1
is linear.
"""

import io
import multiprocessing
import resource
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from rows import Row, print_section, seconds_of

from lungsound.config.overrides import compose_run
from lungsound.data.synthetic.database import demo_root
from lungsound.results.folder import RunFolder
from lungsound.runs.build import build_components
from lungsound.runs.predict import predict_run
from lungsound.runs.report import write_run_report
from lungsound.runs.train import train
from lungsound.runs.validation import validate_config

CYCLES = (216, 432, 864, 1728)
CYCLES_PER_PATIENT = 24
ROUNDS = 2
COSTS = ("preparing, s", "an epoch, s", "a report, s", "memory, MiB")


def main() -> None:
    rounds = []  # [rounds, sizes, costs]
    with tempfile.TemporaryDirectory() as demo:
        for cycles in CYCLES:
            demo_root(Path(demo), 0, cycles // CYCLES_PER_PATIENT, cycles)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as processes:
            for _ in range(ROUNDS):
                rounds.append(list(processes.map(measure, CYCLES, [demo] * len(CYCLES))))
    costs = np.array(rounds)
    rows = []
    for column, name in enumerate(COSTS):
        exponents = [exponent(one[:, column]) for one in costs]
        what = f"{name.partition(',')[0]} of ×1, ×2, ×4, ×8 the cycles"
        rows.append(Row(what, "cycles (exponent)", exponents, "<= 1.05"))
    lines = [
        f"| {cycles} | " + " | ".join(f"{cost:.1f}" for cost in least) + " |"
        for cycles, least in zip(CYCLES, costs.min(0), strict=True)
    ]
    head = f"| cycles | {' | '.join(COSTS)} |\n|---:|---:|---:|---:|---:|"
    title = "Cost against size"
    print_section(title, rows, f"The least of {ROUNDS} rounds:\n", head, *lines)


def exponent(costs: np.ndarray) -> float:
    return float(np.polyfit(np.log(CYCLES), np.log(costs), 1)[0])


def measure(cycles: int, demo: str) -> tuple[float, ...]:
    """Return the COSTS of this many cycles, in a process that has only its imports."""
    imports = highest_mib()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        (Path(folder) / "demo").symlink_to(Path(demo) / "demo")
        sizes = (f"data.demo_cycles={cycles}", f"data.demo_patients={cycles // CYCLES_PER_PATIENT}")
        small = ("model.width=0.0625", "annealing.cycles=1", "annealing.epochs_per_cycle=1")
        cfg, choices = compose_run([*sizes, *small, f"store_dir={folder}"])
        settings = validate_config(cfg)
        preparing = seconds_of(lambda: build_components(settings))
        parts, run = build_components(settings), RunFolder(Path(folder) / "run")

        def report() -> None:
            run.write_predictions(predict_run(settings, parts, run))
            write_run_report(settings, parts, run)
            run.write_checksums()

        epoch = seconds_of(lambda: train(settings, choices, parts, run, lambda: None))
        return preparing, epoch, seconds_of(report), highest_mib() - imports


def highest_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
