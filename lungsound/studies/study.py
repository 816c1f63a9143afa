"""A study from start to end: plan and run the jobs of a sweep, write tables and figures."""

import json
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from lungsound.config.overrides import run_hydra
from lungsound.errors import CorruptFileError, LungsoundError, StorageError
from lungsound.results.folder import RunFolder, folder_lock_path
from lungsound.results.report import format_score
from lungsound.results.study_folder import STUDY_FILE, read_study
from lungsound.runs.estimate import experiment_sentence
from lungsound.runs.identity import source_hash
from lungsound.runs.inputs import RunInputs
from lungsound.runs.naming import data_title
from lungsound.runs.run import run
from lungsound.scoring.scores import score_names
from lungsound.storage.files import quarantine, read_file, write_file
from lungsound.storage.keys import content_key
from lungsound.storage.locks import file_lock
from lungsound.storage.signals import defer_signals, raise_if_interrupted
from lungsound.storage.streams import tolerate_output_errors
from lungsound.studies.jobs import format_values
from lungsound.studies.plan import Job, format_cost, format_plan, job_work, plan_jobs
from lungsound.studies.report import leakage_line, write_report
from lungsound.studies.tables import CONSOLE_WIDTH
from lungsound.tracking.background import ERROR_NOTE, BackgroundSync
from lungsound.tracking.state import Status, reset_run_folder, start_tracking
from lungsound.training.progress import format_duration

CONTROL_OVERRIDES = ("-m", "--multirun", "plan=true", "plan=false")
# Overrides that do not change the study's identity.
NON_IDENTITY_PREFIXES = (
    *("redo=", "hydra/", "hydra.", "tracking.", "trainer.num_workers="),
    *("output_dir=", "store_dir="),
)


def run_study(words: list[str]) -> None:
    """Run the jobs of a sweep's command line, and write the study's folder: plan, tables, figures.

    With plan=true only print the plan and its estimated cost. Raises ConfigError, before the first
    job, if one of them cannot be run. Exits with 1 if a job failed.
    """
    dry_run = "plan=true" in map(str.lower, words)
    words = [word for word in words if word.lower() not in CONTROL_OVERRIDES]
    jobs = plan_jobs(words, check_places=not dry_run)
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
    for stale in folder.glob("failed-*.json"):
        stale.unlink()
    tracking = jobs[0].settings.tracking
    tags = {"data": data_titles(jobs)}
    keys = "×".join(key.rpartition(".")[2] for key in sorted(jobs[0].values))
    synthetic = "SYNTHETIC " if "-SYNTHETIC-" in folder.name else ""
    name = f"study {keys} {synthetic}{folder.name.rpartition('-')[2]}"
    state = start_tracking(folder, tracking.uri, tracking.experiment, tags, name)
    write_study_file(folder, words, jobs, plan)
    with defer_signals(False):
        reset_for_redo(jobs)
    background = BackgroundSync(folder, state)
    background.start()
    status: Status = "KILLED"
    failed: list[tuple[str, str]] = []
    try:
        with defer_signals(False):
            launch_jobs(folder, words)
        failed = collect_failures(folder, jobs)
        status = "FAILED" if failed else "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        finalize_study(folder, background, status, jobs, failed)
    return [name for name, _ in failed]


def launch_jobs(folder: Path, words: list[str]) -> None:
    """Let Hydra's launcher call `run_job` once per job.

    Raises LungsoundError if Hydra exits: it prints its own errors before.
    """
    study = QuotedString(str(folder), Quote.single).with_quotes()
    try:
        # redo=false, because `reset_for_redo` has already done the work of redo=true.
        run_hydra(run_job, ["--multirun", *words, f"tracking.study={study}", "redo=false"])
    except SystemExit as error:
        raise LungsoundError(
            "expected Hydra to launch the study's jobs, but it ended with the message above; "
            "perhaps a process of its launcher died. The finished runs are kept, and the same "
            "command runs the others"
        ) from error


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


def run_job(cfg: DictConfig) -> None:
    """Run one job of a study, called by Hydra; a failure does not stop the other jobs."""
    tolerate_output_errors()  # a parallel launcher's process has its own
    hydra = HydraConfig.get()
    folder = Path(cfg.tracking.study)
    study = read_study(folder)
    # A parallel launcher's process may have another default, and the count may change last bits.
    torch.set_num_threads(study["threads"])
    name = job_name(study, hydra.job.num)
    was_complete = RunFolder(Path(planned_jobs(study)[hydra.job.num]["run"])).is_complete
    with record_failure(folder / f"failed-{hydra.job.num}.json", name):
        run_path = run(cfg, dict(hydra.runtime.choices))
        if str(run_path) not in {job["run"] for job in study["jobs"]}:
            raise LungsoundError(
                f"expected this job's run in one of the study's folders, but it is {run_path}: "
                "the data or the source of lungsound changed while the study ran. The same "
                "command runs what is missing"
            )
        note = "finished before" if was_complete else ""
        print(job_line(study, hydra.job.num, folder, note), flush=True)


def job_name(study: dict[str, Any], number: int) -> str:
    """Return the number of a job, from 0, and its values, as a user reads them."""
    jobs = planned_jobs(study)
    return f"job {number + 1}/{len(jobs)}  {format_values(jobs[number]['values'])}"


def planned_jobs(study: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the jobs of the latest command, in its order."""
    jobs: list[dict[str, Any]] = study["jobs"]
    return jobs[len(jobs) - len(study["work"]) :]


def job_line(study: dict[str, Any], number: int, folder: Path, note: str = "") -> str:
    """Return a job's name, test scores, and `note`, or the time left of the study, in 80 columns.

    All but the name is on a second line only if several swept keys are too long for one. The time
    left is the time since the study's start, times the work of the jobs to come, divided by that of
    the finished ones; failed jobs are in neither.
    """
    done = left = 0.0
    runs = [RunFolder(Path(job["run"])) for job in planned_jobs(study)]
    for place, work in enumerate(study["work"]):
        if runs[place].is_complete:
            done += work
        elif not (folder / f"failed-{place}.json").exists():
            left += work
    scores = runs[number].read_json("scores.json")["scores"]["ensemble"][-1]["test"]
    words = []
    for name in score_names(scores):
        words.append(f"{name.removeprefix('score_')}-class {format_score(scores[name])}")
    if note:
        words.append(note)
    elif done and left:
        seconds = (time.time() - study["started"]) * left / done
        words.append(f"{format_duration(seconds)} left")
    name, rest = job_name(study, number), "  ".join(words)
    line = f"{name}  {rest}"
    return line if len(line) <= CONSOLE_WIDTH else f"{name}\n  {rest}"


@contextmanager
def record_failure(path: Path, name: str) -> Iterator[None]:
    """Print an exception of the job `name`, and store it in `path` for `collect_failures`."""
    try:
        yield
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        message = f"error: {error}" if isinstance(error, LungsoundError) else text
        print(f"{name}  {message}", file=sys.stderr, flush=True)
        in_mlflow = any(note.startswith(ERROR_NOTE) for note in getattr(error, "__notes__", ()))
        failure = {"error": str(error), "traceback": text, "shown": in_mlflow}
        with suppress(StorageError):  # disk full: `collect_failures` sees the unfinished run
            write_file(path, json.dumps(failure).encode())


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
    """Write plan.txt, and study.json with the runs of this and of earlier commands."""
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
        "threads": torch.get_num_threads(),
        "started": time.time(),
        "work": job_work(jobs),
        "jobs": [*(job for job in earlier_jobs if job["values"] not in new_values), *new_jobs],
    }
    write_file(path, json.dumps(study, indent=2).encode())
    write_file(folder / "plan.txt", plan.encode())


def collect_failures(folder: Path, jobs: Sequence[Job]) -> list[tuple[str, str]]:
    """Return the failed jobs, each with its traceback unless its own MLflow run has it."""
    failed = []
    for number, job in enumerate(jobs):
        path = folder / f"failed-{number}.json"
        if path.exists():
            failure = json.loads(read_file(path))
            failed.append((str(job), "" if failure["shown"] else failure["traceback"]))
        elif not job.folder.is_complete:  # disk full: its failure file could not be written
            failed.append((str(job), ""))
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
