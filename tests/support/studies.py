"""Studies in a folder that has `outputs`, `store` and `mlflow.db`, and their runs in MLflow."""

import os
import subprocess
import sys
from pathlib import Path

from mlflow.entities import Run

from .mlflow import mlflow_client, mlflow_runs
from .runs import ROOT


def only_study(folder: Path) -> Path:
    (path,) = (folder / "outputs" / "studies").glob("*/")
    return path


def study_in_mlflow(folder: Path) -> tuple[Run, list[Run]]:
    """The only study and the runs below it in MLflow's tree, by the number of members."""
    runs = mlflow_runs(folder / "outputs" / "run")
    (parent,) = [run for run in runs if "lungsound.study" in run.data.tags]
    parent_id = parent.info.run_id
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent_id]
    return parent, sorted(children, key=lambda run: run.data.params.get("annealing.cycles", ""))


def mlflow_statuses(folder: Path) -> tuple[str, list[str]]:
    """The status of the only study, and of the runs below it."""
    parent, children = study_in_mlflow(folder)
    return parent.info.status, [run.info.status for run in children]


def error_in_mlflow(folder: Path, run: Run) -> str:
    client = mlflow_client(folder / "outputs" / "run")
    return Path(client.download_artifacts(run.info.run_id, "error.txt", str(folder))).read_text()


def result_bytes_by_run(folder: Path) -> dict[str, list[bytes]]:
    """Each run's predictions and history, by the run's name."""
    names = ("predictions.parquet", "history.jsonl")
    runs = [path.parent for path in folder.glob("outputs/*/metadata.json")]
    return {run.name: [(run / name).read_bytes() for name in names] for run in runs}


def start_command(*words: str, folder: Path, experiment: str = "tiny") -> subprocess.Popen[str]:
    """A command as typed in `folder`, on a machine with a default experiment."""
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(ROOT / words[0]), *words[1:]],
        cwd=folder,
        env={**os.environ, "LUNGSOUND_EXPERIMENT": experiment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: "subprocess.Popen[str]", code: int = 0) -> None:
    """Wait for a command's end; fail with what it printed if its exit code is another."""
    printed, _ = process.communicate()
    assert process.returncode == code, printed
