"""A study's files: study.json with its keys and runs, the latest plan, failures, logs."""

import json
import os
from pathlib import Path
from typing import Any

from lungsound.errors import LungsoundError
from lungsound.results.folder import RunFolder
from lungsound.storage.files import corrupt_file_on_error, read_file, write_file
from lungsound.storage.keys import canonical_json

STUDY_FILE = "study.json"
PLAN_FILE = "plan.json"
MAX_FILENAME_BYTES = 255  # the limit of file systems


def read_study(folder: Path) -> dict[str, Any]:
    """Read study.json.

    Raises LungsoundError if `folder` is not a study's, CorruptFileError if the file is not valid.
    """
    path = folder / STUDY_FILE
    if not path.exists():
        raise LungsoundError(
            f"{folder}: expected the folder of a study, with its {STUDY_FILE}, but there is none"
        )
    content = read_file(path)
    with corrupt_file_on_error(path):
        study: dict[str, Any] = json.loads(content)
        _validate(study["swept"], study["jobs"])
    return study


def _validate(swept: list[Any], jobs: list[dict[str, Any]]) -> None:
    """Raise an exception for keys, values and folder names that no study has."""
    canonical_json([swept, jobs])  # raises for lone surrogates, which cannot be encoded
    if not all(isinstance(key, str) for key in swept) or len(swept) != len(set(swept)):
        raise ValueError("swept: expected keys")
    for job in jobs:
        name, values = Path(job["run"]).name, job["values"]
        plain = all(isinstance(value, str | int | float) for value in values.values())
        if sorted(values) != sorted(swept) or not plain:
            raise ValueError(f"{name[:60]}: expected a value of each swept key")
        if len(os.fsencode(name)) > MAX_FILENAME_BYTES:
            raise ValueError(f"{name[:60]}...: expected the name of a run's folder")


def planned_jobs(study: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the jobs of the latest command, in its order."""
    jobs: list[dict[str, Any]] = study["jobs"]
    return jobs[len(jobs) - len(study.get("work", jobs)) :]  # release 0.1 had no work


def read_plan(folder: Path) -> list[dict[str, Any]]:
    """Return the jobs of the latest command: run, trajectory (from 1), configuration, choices."""
    content = read_file(folder / PLAN_FILE)
    with corrupt_file_on_error(folder / PLAN_FILE):
        plan: list[dict[str, Any]] = json.loads(content)
    return plan


def log_path(folder: Path, trajectory: int) -> Path:
    """Return the log of the processes that trained a trajectory."""
    return folder / "logs" / f"trajectory-{trajectory}.log"


def failure_path(folder: Path, number: int) -> Path:
    """Return the file with the error of a job of the latest command, from 0."""
    return folder / f"failed-{number}.json"


def write_failure(folder: Path, number: int, trajectory: int, error: str, traceback: str) -> None:
    """Store a job's error. `traceback`: empty if the job's own MLflow run has it."""
    log = log_path(folder, trajectory)
    words = [error, *([f"its log: {log}"] if log.exists() else [])]
    failure = {"error": "; ".join(words), "traceback": traceback}
    write_file(failure_path(folder, number), json.dumps(failure).encode())


def record_unfinished(folder: Path, reason: str, trajectory: int | None = None) -> None:
    """Store a failure of each unfinished job without one; `trajectory`: only of its jobs."""
    for number, job in enumerate(read_plan(folder)):
        run = RunFolder(Path(job["run"]))
        is_other = trajectory not in (None, job["trajectory"])
        if is_other or run.is_complete or failure_path(folder, number).exists():
            continue
        error = reason or "ended without a word"
        shown = (run.path / "tracking.json").exists()  # it has an MLflow run
        write_failure(folder, number, job["trajectory"], error, "" if shown else error)


def read_failure(folder: Path, number: int) -> dict[str, str] | None:
    """Return `error` and `traceback` of a failed job, None if it did not fail."""
    path = failure_path(folder, number)
    if not path.exists():
        return None
    with corrupt_file_on_error(path):
        failure: dict[str, str] = json.loads(read_file(path))
    return failure
