"""The jobs of one trajectory, in the process that trains it; a failed one stops no other."""

import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lungsound.config.schema import Config
from lungsound.errors import LungsoundError, StorageError
from lungsound.results.folder import RunFolder
from lungsound.results.report import format_score
from lungsound.results.study_folder import (
    failure_path,
    read_plan,
    read_study,
    write_failure,
)
from lungsound.runs.run import run
from lungsound.runs.trajectory_key import source_hash
from lungsound.scoring.scores import score_names
from lungsound.storage.streams import tolerate_output_errors
from lungsound.studies.jobs import format_values
from lungsound.studies.tables import CONSOLE_WIDTH
from lungsound.tracking.background import ERROR_NOTE
from lungsound.training.progress import format_duration


def train_trajectory(plan: Path, trajectory: str) -> None:
    """Train a trajectory of a study's plan once, and finish each run that needs it."""
    tolerate_output_errors()  # a launcher's process has its own
    jobs = read_plan(plan)
    for number, job in enumerate(jobs):
        if job["trajectory"] == trajectory:
            run_job(plan.parent, jobs, number)


def run_job(folder: Path, jobs: list[dict[str, Any]], number: int) -> None:
    """Run one job of a plan; an exception is printed and stored, success removes a stored one."""
    job = jobs[number]
    was_complete = RunFolder(Path(job["run"])).is_complete
    with record_failure(folder, job, job_name(jobs, number)):
        if job["source"] != source_hash():
            raise LungsoundError(
                "expected the source of lungsound with which this job was launched, but it has "
                "changed since: start the sweep again, as a study of the new source"
            )
        cfg = OmegaConf.merge(OmegaConf.structured(Config), job["config"])
        run_path = run(cfg, job["choices"], not was_complete)  # type: ignore[arg-type]
        if str(run_path) != job["run"]:
            raise LungsoundError(
                f"expected this job's run in {job['run']}, but it is {run_path}: the data changed "
                "while the study ran. Start the sweep again"
            )
    if RunFolder(Path(job["run"])).is_complete:
        failure_path(folder, job["run"]).unlink(missing_ok=True)  # of an earlier command's worker
        note = "finished before" if was_complete else ""
        print(job_line(read_study(folder), jobs, number, folder, note), flush=True)


def job_name(jobs: list[dict[str, Any]], number: int) -> str:
    """Return the number of a job, from 0, and its values, as a user reads them."""
    return f"job {number + 1}/{len(jobs)}  {format_values(jobs[number]['values'])}"


def job_line(
    study: dict[str, Any], jobs: list[dict[str, Any]], number: int, folder: Path, note: str = ""
) -> str:
    """Return a job's name, test scores, and `note`, or the time left of the study, in 80 columns.

    All but the name is on a second line only if several swept keys are too long for one. The time
    left is the time since the study's start, times the work of the jobs to come, divided by that of
    the finished ones; failed jobs are in neither.
    """
    done = left = 0.0
    for path in {job["run"] for job in jobs}:
        work = study["work"].get(path, 0.0)  # none if a later command has written the study
        if RunFolder(Path(path)).is_complete:
            done += work
        elif not failure_path(folder, path).exists():
            left += work
    scores = RunFolder(Path(jobs[number]["run"])).read_json("scores.json")
    test = scores["scores"]["ensemble"][-1]["test"]
    words = []
    for name in score_names(test):
        words.append(f"{name.removeprefix('score_')}-class {format_score(test[name])}")
    if note:
        words.append(note)
    elif done and left:
        seconds = (time.time() - study["started"]) * left / done
        words.append(f"{format_duration(seconds)} left")
    name, rest = job_name(jobs, number), "  ".join(words)
    line = f"{name}  {rest}"
    return line if len(line) <= CONSOLE_WIDTH else f"{name}\n  {rest}"


@contextmanager
def record_failure(folder: Path, job: dict[str, Any], name: str) -> Iterator[None]:
    """Print an exception of the job `name`, and store it for the study's tables and MLflow."""
    try:
        yield
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        message = f"error: {error}" if isinstance(error, LungsoundError) else text
        print(f"{name}  {message}", file=sys.stderr, flush=True)
        in_mlflow = any(note.startswith(ERROR_NOTE) for note in getattr(error, "__notes__", ()))
        with suppress(StorageError):  # disk full: the study's process sees the unfinished run
            write_failure(folder, job, str(error), "" if in_mlflow else text)
