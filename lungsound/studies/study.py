"""A study from start to end: plan and run the jobs of a sweep, write tables and figures."""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lungsound.config.schema import to_container
from lungsound.errors import CorruptFileError, LungsoundError, StorageError
from lungsound.results.folder import folder_lock_path
from lungsound.results.study_folder import (
    STUDY_FILE,
    failure_path,
    read_failure,
    read_study,
    record_unfinished,
    write_plan,
)
from lungsound.runs.estimate import experiment_sentence
from lungsound.runs.inputs import RunInputs
from lungsound.runs.naming import data_title
from lungsound.runs.trajectory_key import source_hash
from lungsound.storage.files import quarantine, write_file
from lungsound.storage.keys import content_key
from lungsound.storage.locks import file_lock
from lungsound.storage.signals import defer_signals, raise_if_interrupted, resumable
from lungsound.studies.launch import check_launcher, launch
from lungsound.studies.leakage import leakage_line
from lungsound.studies.plan import (
    Job,
    format_cost,
    format_plan,
    group_jobs,
    job_work,
    plan_jobs,
)
from lungsound.studies.report import write_report
from lungsound.studies.work import train_trajectory
from lungsound.tracking.background import BackgroundSync
from lungsound.tracking.state import Status, reset_run_folder, start_tracking

CONTROL_OVERRIDES = ("-m", "--multirun", "plan=true", "plan=false")
# Overrides that do not change the study's identity.
NON_IDENTITY_PREFIXES = (
    *("redo=", "hydra/", "hydra.", "tracking.", "trainer.num_workers="),
    *("output_dir=", "store_dir="),
)


@resumable()
def run_study(words: list[str]) -> None:
    """Run the jobs of a sweep's command line, and write the study's folder: plan, tables, figures.

    With plan=true only print the plan and its estimated cost. Raises ConfigError, before the first
    job, if one of them cannot be run. Exits with 1 if a job failed.
    """
    dry_run = "plan=true" in map(str.lower, words)
    words = [word for word in words if word.lower() not in CONTROL_OVERRIDES]
    jobs = plan_jobs(words, check_places=not dry_run)
    check_launcher(jobs[0].choices["hydra/launcher"])
    plan = format_plan(jobs)
    print(experiment_sentence(jobs[0].settings, jobs[0].choices["experiment"]))
    notes = dict.fromkeys(note for job in jobs for note in job.inputs.notes)
    print(data_titles(jobs), *notes, *leakage_lines(jobs), plan, sep="\n", flush=True)
    if dry_run:
        print(format_cost(jobs))
        return
    folder = study_folder(jobs)
    with file_lock(folder_lock_path(folder), folder):
        failed = run_jobs(folder, words, jobs, plan)
    if failed:
        names = ", ".join(failed)
        sys.exit(
            f"{len(failed)} of {len(jobs)} jobs failed: {names}. The same command tries them again."
        )


@defer_signals()
def run_jobs(folder: Path, words: list[str], jobs: Sequence[Job], plan: str) -> list[str]:
    """Run the jobs, and write the study's folder; return the names of failed jobs."""
    for job in jobs:
        failure_path(folder, str(job.folder.path)).unlink(missing_ok=True)
    tracking = jobs[0].settings.tracking
    tags = {"data": data_titles(jobs)}
    keys = "×".join(key.rpartition(".")[2] for key in sorted(jobs[0].values))
    synthetic = "SYNTHETIC " if "-SYNTHETIC-" in folder.name else ""
    name = f"study {keys} {synthetic}{folder.name.rpartition('-')[2]}"
    state = start_tracking(folder, tracking.uri, tracking.experiment, tags, name)
    write_study_file(folder, words, jobs, plan)
    plan_path = write_plan(folder, plan_entries(folder, jobs))
    with defer_signals(False):
        reset_for_redo(jobs)
    background = BackgroundSync(folder, state)
    background.start()
    status: Status = "KILLED"
    failed: list[tuple[str, str]] = []
    try:
        with defer_signals(False):
            run_trajectories(plan_path, words, jobs)
        failed = collect_failures(plan_path, jobs)
        status = "FAILED" if failed else "FINISHED"
    except Exception:
        status, failed = "FAILED", collect_failures(plan_path, jobs)
        raise
    finally:
        finalize_study(folder, background, status, jobs, failed)
    return [name for name, _ in failed]


def run_trajectories(plan: Path, words: Sequence[str], jobs: Sequence[Job]) -> None:
    """Launch a job per trajectory; list those here whose runs are all finished."""
    unfinished = []
    for group in group_jobs(jobs):
        trajectory = group[0].trajectory
        if all(job.folder.is_complete for job in group):
            train_trajectory(plan, trajectory)
        else:
            unfinished.append(trajectory)
    if unfinished:
        launch(plan, words, unfinished, jobs[0].choices["hydra/launcher"])


def reset_for_redo(jobs: Sequence[Job]) -> None:
    """Remove what redo=true trains again, once for all jobs.

    If each job did it, it would remove the epochs that an earlier job has just trained for both.
    """
    for job in jobs:
        if not job.settings.redo:
            continue
        with job.folder.lock():
            with job.inputs.trajectory.lock():
                job.inputs.trajectory.prune(0)
            reset_run_folder(job.folder)


def leakage_lines(jobs: Sequence[Job]) -> list[str]:
    """Return what leaks in each protocol's splits."""
    inputs: dict[str, list[RunInputs]] = {}
    for job in jobs:
        inputs.setdefault(job.settings.split.protocol, []).append(job.inputs)
    lines = []
    for protocol, group in inputs.items():
        sentences = [one.leakage_sentence for one in group]
        lines.append(f"split={protocol}: {leakage_line([one.leakage for one in group], sentences)}")
    return lines


def data_titles(jobs: Sequence[Job]) -> str:
    """Return the titles of the jobs' databases."""
    return "; ".join(dict.fromkeys(data_title(job.inputs) for job in jobs))


def study_folder(jobs: Sequence[Job]) -> Path:
    """Return the study's folder, named after swept keys, shared overrides, data and source.

    The values of the swept keys do not matter: more values extend the same study.
    """
    first = jobs[0]
    swept = sorted(first.values)
    overrides = []
    for override in first.fixed_overrides:
        if not override.lstrip("+").startswith(NON_IDENTITY_PREFIXES):
            overrides.append(override)
    data = {job.inputs.database.fingerprint for job in jobs}
    identity = [overrides, swept, sorted(data) if len(data) == 1 else "swept", source_hash()]
    synthetic = ["SYNTHETIC"] if any(job.inputs.database.synthetic for job in jobs) else []
    words = [first.choices["experiment"], *synthetic, *swept, content_key(identity)[:8]]
    return Path(first.settings.output_dir) / "studies" / "-".join(words)


def write_study_file(folder: Path, words: Sequence[str], jobs: Sequence[Job], plan: str) -> None:
    """Write the plan's text, and study.json with the runs of this and of earlier commands."""
    path = folder / STUDY_FILE
    new_jobs = [{"run": str(job.folder.path), "values": job.values} for job in jobs]
    new_values = [job.values for job in jobs]
    earlier_jobs: list[dict[str, object]] = []
    try:
        if path.exists():
            earlier_jobs = read_study(folder)["jobs"]
    except CorruptFileError:
        quarantine(path)
    study = {
        "words": list(words),
        "swept": sorted(jobs[0].values),
        "started": time.time(),
        "work": work_by_run(jobs),
        "jobs": [*(job for job in earlier_jobs if job["values"] not in new_values), *new_jobs],
    }
    write_file(path, json.dumps(study, indent=2).encode())
    write_file(folder / "plan.txt", plan.encode())


def work_by_run(jobs: Sequence[Job]) -> dict[str, float]:
    """Return run -> work of its jobs; two jobs may name one run."""
    work: dict[str, float] = defaultdict(float)
    for job, value in zip(jobs, job_work(jobs), strict=True):
        work[str(job.folder.path)] += value
    return work


def plan_entries(folder: Path, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Return what a job needs on any machine: its configuration as it is planned here."""
    entries, source = [], source_hash()
    for job in jobs:
        config = to_container(job.settings)
        config["tracking"]["study"] = str(folder)
        config["redo"] = False  # `reset_for_redo` has already done its work
        entries.append(
            {
                "run": str(job.folder.path),
                "values": job.values,
                "trajectory": job.trajectory,
                "source": source,
                "config": config,
                "choices": job.choices,
            }
        )
    return entries


def collect_failures(plan: Path, jobs: Sequence[Job]) -> list[tuple[str, str]]:
    """Return the failed jobs, each with its traceback unless its own MLflow run has it."""
    with suppress(StorageError):  # disk full
        record_unfinished(plan, "")
    failed = []
    for job in jobs:
        failure = read_failure(plan.parent, str(job.folder.path))
        if not job.folder.is_complete:
            failed.append((str(job), failure["traceback"] if failure else ""))
    return failed


def finalize_study(
    folder: Path,
    background: BackgroundSync,
    status: Status,
    jobs: Sequence[Job],
    failed: Sequence[tuple[str, str]],
) -> None:
    """Write the report of the finished runs, also after a signal, and end the study in MLflow."""
    counts: dict[str, int] = {}
    try:
        counts = count_jobs(jobs, len(failed))
        print(write_report(folder), flush=True)
        if status == "FINISHED":
            raise_if_interrupted()  # one may have arrived during the report
    except LungsoundError as error:
        if status == "FINISHED":
            status = "FAILED"
            raise
        print(f"no tables: {error}", file=sys.stderr)  # the original exception is reported next
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        raise
    finally:
        errors = {name: error for name, error in failed if error}
        background.finish(status, counts=counts, failed=errors)
        print(*filter(None, [background.sync_warning]), f"study: {folder}", sep="\n", flush=True)


def count_jobs(jobs: Sequence[Job], num_failed: int) -> dict[str, int]:
    """Return the study's metrics in MLflow: numbers of jobs, and of epochs trained for them."""
    finished = [job.folder for job in jobs if job.folder.is_complete]
    runs = {folder.path: folder for folder in finished}  # several jobs may be the same run
    return {
        "jobs": len(jobs),
        "jobs_finished": len(finished),
        "jobs_failed": num_failed,
        "epochs_trained": sum(run.metadata()["epochs_trained"] for run in runs.values()),
    }
