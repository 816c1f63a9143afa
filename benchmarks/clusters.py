"""The figures of docs/clusters.md, from one run on a quiet machine: make bench-cluster.

A study by each launcher with one worker and with two, then MLflow's stores (benchmarks/stores.py).
The engines are those of tests/cluster. `JOBS=1 EPOCHS=1 make bench-cluster` is a rehearsal, which
leaves the page as it is.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path

from mlflow import MlflowClient
from stores import WRITERS, metrics_per_second
from support.ray import NODES, running_ray
from support.runs import ROOT, compose_settings
from support.server import LOOPBACK, mlflow_server, postgres_server
from support.slurm import running_slurm

from lungsound.runs.inputs import build_database

PAGE = ROOT / "docs" / "clusters.md"
FIGURES = re.compile(r"(?s)(?<=<!-- make bench-cluster -->\n).*(?=<!-- end of its output -->)")
JOBS = int(os.environ.get("JOBS", "4"))
EPOCHS = int(os.environ.get("EPOCHS", "20"))
SEEDS = ",".join(map(str, range(JOBS)))
STUDY = f"experiment=tiny annealing.cycles=1 annealing.epochs_per_cycle={EPOCHS} split.seed={SEEDS}"
SLURM = ("gpus_per_node=null", "cpus_per_task=1", "mem_gb=2")


def main() -> None:
    tables = ""
    with tempfile.TemporaryDirectory() as folder:
        for measure in (store_rows, launcher_rows):
            table = measure(Path(folder))
            print(table, flush=True)
            tables += f"{table}\n\n"
    if not {"JOBS", "EPOCHS"} & os.environ.keys():
        PAGE.write_text(FIGURES.sub(lambda _: tables, PAGE.read_text()))


def launcher_rows(folder: Path) -> str:
    """Return a table: the study's seconds with each launcher, by its number of workers."""
    build_database(compose_settings("experiment=tiny", f"store_dir={folder / 'store'}"))
    basic = study_seconds(folder, {**os.environ}, "basic")
    rows = [f"| `basic` | {basic:.0f} | | |"]
    for launcher in ("joblib", "slurm", "ray"):
        seconds = []
        for workers in (1, 2):
            with engine(launcher, workers) as (environment, words):
                seconds.append(study_seconds(folder, environment, launcher, words))
        one, two = seconds
        rows.append(f"| `{launcher}` | {one:.0f} | {two:.0f} | {(one - basic) / JOBS:.1f} |")
    text = (
        f"`sweep.py {STUDY}`\n"
        f"({JOBS} jobs of one thread, {os.cpu_count()} cores, {date.today()}; seconds of the whole "
        "command, once each;\nper job: the time above `basic`, whose jobs have no process of their "
        "own):"
    )
    head = ("| launcher | 1 worker | 2 workers | overhead per job |", "|---|---:|---:|---:|")
    return "\n".join([text, "", *head, *rows])


@contextmanager
def engine(launcher: str, workers: int) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Yield its users' environment, and the words for that many workers."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words: tuple[str, ...] = (f"n_jobs={workers}",)
    with ExitStack() as stack:
        if launcher == "slurm":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            stack.enter_context(running_slurm(Path(folder)))
            environment["SLURM_CONF"] = os.environ["SLURM_CONF"]
            words = (*SLURM, f"array_parallelism={workers}")
        if launcher == "ray":
            environment = stack.enter_context(running_ray(environment, NODES[:workers]))
            words = ()
        yield environment, [f"hydra.launcher.{word}" for word in words]


def study_seconds(
    prepared: Path, environment: dict[str, str], launcher: str, words: Sequence[str] = ()
) -> float:
    """Return the seconds of the study, with decoded recordings and an empty MLflow."""
    line = [str(ROOT / "sweep.py"), *STUDY.split(), f"hydra/launcher={launcher}", *words]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(prepared / "store", Path(folder) / "store")
        shutil.copy(prepared / "mlflow.db", folder)
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, *line],
            cwd=folder,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - start


def store_rows(folder: Path) -> str:
    """Return a table: the metrics per second that each of MLflow's stores takes."""
    sqlite = f"sqlite:///{folder / 'benchmark.db'}"
    for name in ("mlflow.db", "benchmark.db"):  # empty tables
        MlflowClient(f"sqlite:///{folder / name}").search_experiments()
    with postgres_server("s3cret") as postgres:
        os.environ["PGPASSWORD"] = "s3cret"
        with mlflow_server(folder, "--backend-store-uri", postgres) as port:
            served = f"http://{LOOPBACK}:{port}"
            stores = {"a sqlite file": sqlite, "PostgreSQL": postgres,
                      "`mlflow server` on PostgreSQL": served}  # fmt: skip
            MlflowClient(served).search_experiments()
            rows = [
                f"| {name} | {' | '.join(f'{metrics_per_second(uri, n):.0f}' for n in WRITERS)} |"
                for name, uri in stores.items()
            ]
    head = ("| metrics per second | 1 writer | 8 writers |", "|---|---:|---:|")
    return "\n".join([*head, *rows])


if __name__ == "__main__":
    main()
