"""A study's files: study.json with its keys and runs, the plans of its commands, failures, logs."""

import json
import os
from pathlib import Path
from typing import Any

from lungsound.errors import LungsoundError
from lungsound.results.folder import RunFolder
from lungsound.storage.files import corrupt_file_on_error, read_file, write_file
from lungsound.storage.keys import canonical_json, content_key

STUDY_FILE = "study.json"
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


def write_plan(folder: Path, jobs: list[dict[str, Any]]) -> Path:
    """Store the jobs of a command in a file of their own, and return it.

    It is named after its content: a launcher may start a job long after other commands.
    """
    path = folder / f"plan-{content_key(jobs)}.json"
    write_file(path, json.dumps(jobs).encode())
    return path


def read_plan(path: Path) -> list[dict[str, Any]]:
    """Return a command's jobs: run, values, trajectory, configuration, choices."""
    content = read_file(path)
    with corrupt_file_on_error(path):
        plan: list[dict[str, Any]] = json.loads(content)
    return plan


def log_path(folder: Path, trajectory: str) -> Path:
    """Return the log of the processes that trained a trajectory, by its key."""
    return folder / "logs" / f"trajectory-{trajectory}.log"


def failure_path(folder: Path, run: str) -> Path:
    """Return the file with the error of the job that makes a run."""
    return folder / f"failed-{content_key(Path(run).name)}.json"


def write_failure(folder: Path, job: dict[str, Any], error: str, traceback: str) -> None:
    """Store a job's error. `traceback`: empty if the job's own MLflow run has it."""
    log = log_path(folder, job["trajectory"])
    words = [error, *([f"its log: {log}"] if log.exists() else [])]
    failure = {"error": "; ".join(words), "traceback": traceback}
    write_file(failure_path(folder, job["run"]), json.dumps(failure).encode())


def record_unfinished(plan: Path, reason: str, trajectory: str | None = None) -> None:
    """Store a failure of each unfinished job without one; `trajectory`: only of its jobs."""
    folder = plan.parent
    for job in read_plan(plan):
        run = RunFolder(Path(job["run"]))
        is_other = trajectory not in (None, job["trajectory"])
        if is_other or run.is_complete or failure_path(folder, job["run"]).exists():
            continue
        error = reason or "ended without a word"
        shown = (run.path / "tracking.json").exists()  # it has an MLflow run
        write_failure(folder, job, error, "" if shown else error)


def read_failure(folder: Path, run: str) -> dict[str, str] | None:
    """Return `error` and `traceback` of the job that makes a run, None if it did not fail."""
    path = failure_path(folder, run)
    try:
        content = read_file(path)
    except FileNotFoundError:
        return None
    with corrupt_file_on_error(path):
        failure: dict[str, str] = json.loads(content)
    return failure
