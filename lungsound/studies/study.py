"""The whole story of a study: the runs of one sweep, their plan, their tables and figures.

python -m lungsound.study report STUDY     tables and figures again, from stored predictions
python -m lungsound.study ls | du | rm KEY what the store holds
"""

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from lungsound.config.schema import CONFIG_DIR, Config
from lungsound.errors import CorruptFileError, LungsoundError, StorageError
from lungsound.results.folder import folder_lock_path
from lungsound.results.study_folder import STUDY_FILE, read_study
from lungsound.runs.estimate import cost_message
from lungsound.runs.identity import source_hash
from lungsound.runs.naming import data_title
from lungsound.runs.preflight import ensure_writable
from lungsound.runs.run import run
from lungsound.storage.files import quarantine, read_file, write_file
from lungsound.storage.keys import content_key
from lungsound.storage.locks import file_lock
from lungsound.storage.signals import defer_signals, raise_if_interrupted
from lungsound.studies.plan import Job, format_plan, plan_jobs
from lungsound.studies.report import write_report
from lungsound.studies.store_admin import (
    QUARANTINED,
    disk_usage,
    list_trajectories,
    remove_trajectories,
)
from lungsound.tracking.background import ERROR_NOTE, BackgroundSync
from lungsound.tracking.client import validate_tracking_uri
from lungsound.tracking.state import Status, reset_run_folder, start_tracking

CONTROL_OVERRIDES = ("-m", "--multirun", "plan=true", "plan=false")
# Words that say how and where the runs are made and shown, not what they are: with other ones it is
# the same study.
NON_IDENTITY_PREFIXES = (
    "redo=",
    "hydra/",
    "hydra.",
    "tracking.",
    "trainer.num_workers=",
    "output_dir=",
    "store_dir=",
)


def run_study(words: list[str], launch: Callable[[], None]) -> None:
    """Run the jobs of a sweep's command line and leave the study's folder: plan, tables, figures;
    shown in MLflow.

    `launch` hands sys.argv to Hydra, which runs the jobs. Exits with 1 where a job failed; raises
    ConfigError, before the first job, where one cannot be run.
    """
    dry_run = "plan=true" in map(str.lower, words)
    words = [word for word in words if word.lower() not in CONTROL_OVERRIDES]
    jobs = plan_jobs(words, preflight=(lambda _: None) if dry_run else preflight)
    plan = format_plan(jobs)
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        print(cost_message(jobs[0].settings, jobs[0].choices["experiment"]), flush=True)
    print(data_titles(jobs), plan, sep="\n", flush=True)
    if dry_run:
        return
    folder = study_folder(jobs)
    with file_lock(folder_lock_path(folder), folder):
        failed = run_jobs(folder, words, jobs, plan, launch)
    if failed:
        sys.exit(
            f"{len(failed)} of {len(jobs)} jobs failed: {', '.join(failed)}. The same command tries them again."
        )


def preflight(settings: Config) -> None:
    """Say it before any work where nothing could be written, or MLflow could never answer."""
    ensure_writable(settings)
    validate_tracking_uri(settings.tracking.uri)


@defer_signals()
def run_jobs(
    folder: Path, words: list[str], jobs: Sequence[Job], plan: str, launch: Callable[[], None]
) -> list[str]:
    """Fill the study's folder; the names of the jobs that failed."""
    for stale in folder.glob("failed-*.json"):
        stale.unlink()
    tracking = jobs[0].settings.tracking
    tags = {"data": data_titles(jobs)}
    state = start_tracking(folder, tracking.uri, tracking.experiment, tags)
    write_study_file(folder, words, jobs, plan)
    with defer_signals(False):
        reset_for_redo(jobs)
    background = BackgroundSync(folder, state)
    background.start()
    status: Status = "KILLED"
    failed: list[tuple[str, str]] = []
    try:
        quoted_folder = QuotedString(str(folder), Quote.single).with_quotes()
        sys.argv[1:] = [
            "--multirun",
            *words,
            f"tracking.study={quoted_folder}",
            "redo=false",
        ]  # `reset_for_redo` has done it
        with defer_signals(False), translate_hydra_exit():
            launch()
        failed = collect_failures(folder, jobs)
        status = "FAILED" if failed else "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        finalize_study(folder, background, status, jobs, failed)
    return [name for name, _ in failed]


@contextmanager
def translate_hydra_exit() -> Iterator[None]:
    """Inside, where Hydra itself fails it prints why and exits; that becomes an error of ours."""
    try:
        yield
    except SystemExit as error:
        raise LungsoundError(
            "expected Hydra to launch the study's jobs, but it ended as it says above: a process of its launcher died, "
            "say. The finished runs are kept, and the same command does what is missing"
        ) from error


def reset_for_redo(jobs: Sequence[Job]) -> None:
    """Remove what redo=true trains again, once for all jobs: each by itself would empty the path
    that they share.
    """
    for job in (job for job in jobs if job.settings.redo):
        with job.folder.lock():
            with job.known.trajectory.lock():
                job.known.trajectory.prune(0)
            reset_run_folder(job.folder)


def run_job(cfg: DictConfig) -> None:
    """One job of a study, as Hydra launches it. A failure is kept for the study's end, and the
    other jobs go on.
    """
    hydra = HydraConfig.get()
    # A launcher's processes may have other defaults: another number of threads would be another
    # trajectory.
    known = read_study(Path(cfg.tracking.study))
    torch.set_num_threads(known["threads"])
    try:
        run_path = run(cfg, dict(hydra.runtime.choices))
        if str(run_path) not in {job["run"] for job in known["jobs"]}:
            raise LungsoundError(
                f"expected this job's run in one of the study's folders, but it is {run_path}: the data or the source of "
                "lungsound changed while the study ran. The same command runs what is missing"
            )
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        print(
            f"error: {error}" if isinstance(error, LungsoundError) else text,
            file=sys.stderr,
            flush=True,
        )
        already_logged = any(
            note.startswith(ERROR_NOTE) for note in getattr(error, "__notes__", ())
        )
        record = {"error": str(error), "traceback": text, "shown": already_logged}
        with suppress(StorageError):  # on a full disk the unfinished folder says it
            write_file(
                Path(cfg.tracking.study) / f"failed-{hydra.job.num}.json",
                json.dumps(record).encode(),
            )


def data_titles(jobs: Sequence[Job]) -> str:
    """Names the data of all jobs."""
    return "; ".join(dict.fromkeys(data_title(job.known) for job in jobs))


def study_folder(jobs: Sequence[Job]) -> Path:
    """Named after what is swept; its key holds what the jobs share and what shapes their results:
    words, data, source.

    One more value, and it is still this study.
    """
    first = jobs[0]
    swept = sorted(first.values)
    synthetic_marker = ["SYNTHETIC"] if any(job.known.database.synthetic for job in jobs) else []
    shared = [
        word
        for word in first.fixed_overrides
        if not word.lstrip("+").startswith(NON_IDENTITY_PREFIXES)
    ]
    data = {job.known.database.fingerprint for job in jobs}
    identity = [shared, swept, sorted(data) if len(data) == 1 else "swept", source_hash()]
    name = "-".join(
        [first.choices["experiment"], *synthetic_marker, *swept, content_key(identity)[:8]]
    )
    return Path(first.settings.output_dir) / "studies" / name


def write_study_file(folder: Path, words: Sequence[str], jobs: Sequence[Job], plan: str) -> None:
    """study.json: what the study is and the folder of each of its runs, earlier commands' as well."""
    path = folder / STUDY_FILE
    current_values = [job.values for job in jobs]
    earlier = []
    try:
        earlier = read_study(folder)["jobs"] if path.exists() else []
    except CorruptFileError:
        quarantine(path)
    study = {
        "words": list(words),
        "swept": sorted(jobs[0].values),
        "threads": torch.get_num_threads(),
        "jobs": [
            *(job for job in earlier if job["values"] not in current_values),
            *({"run": str(job.folder.path), "values": job.values} for job in jobs),
        ],
    }
    write_file(path, json.dumps(study, indent=2).encode())
    write_file(folder / "plan.txt", plan.encode())


def collect_failures(folder: Path, jobs: Sequence[Job]) -> list[tuple[str, str]]:
    """The jobs that failed, each with its traceback where it failed before it was a run: that one
    has kept its own.
    """
    failed = []
    for number, job in enumerate(jobs):
        path = folder / f"failed-{number}.json"
        if path.exists():
            record = json.loads(read_file(path))
            failed.append((str(job), "" if record["shown"] else record["traceback"]))
        elif not job.folder.is_complete:  # its record found no room, say
            failed.append((str(job), ""))
    return failed


def finalize_study(
    folder: Path,
    background: BackgroundSync,
    status: Status,
    jobs: Sequence[Job],
    failed: Sequence[tuple[str, str]],
) -> None:
    """The report of what is finished, also where a signal ended the study."""
    counts: dict[str, int] = {}
    try:
        done = [job for job in jobs if job.folder.is_complete]
        runs = {job.folder.path: job.folder for job in done}  # jobs may come to one run
        trained = sum(run.metadata()["epochs_trained"] for run in runs.values())
        counts = {
            "jobs": len(jobs),
            "jobs_finished": len(done),
            "jobs_failed": len(failed),
            "epochs_trained": trained,
        }
        print(write_report(folder), flush=True)
        if status == "FINISHED":
            raise_if_interrupted()  # one that came while the tables were made
    except LungsoundError as error:
        if status == "FINISHED":
            status = "FAILED"
            raise
        print(f"no tables: {error}", file=sys.stderr)  # what ended the study is told next
    except BaseException as error:  # a signal, for one, while the tables are made
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        raise
    finally:
        errors = {name: error for name, error in failed if error}
        background.finish(status, counts=counts, failed=errors)
        print(*filter(None, [background.sync_warning]), f"study: {folder}", sep="\n", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The side commands; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m lungsound.study", description="Studies, and what is stored."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    path_options = argparse.ArgumentParser(add_help=False)
    path_options.add_argument(
        "--store", type=Path, default=Path("store"), help="store_dir of the runs"
    )
    path_options.add_argument(
        "--outputs", type=Path, default=Path("outputs"), help="output_dir of the runs"
    )
    report = commands.add_parser(
        "report", help="make a study's tables and figures again, without training"
    )
    report.add_argument("study", type=Path, help="the study's folder, below outputs/studies")
    commands.add_parser(
        "ls", parents=[path_options], help="list the stored trajectories, with sizes and ages"
    )
    commands.add_parser("du", parents=[path_options], help="how much the store holds of what")
    remove_parser = commands.add_parser(
        "rm", parents=[path_options], help="remove trajectories: runs that need them train again"
    )
    remove_parser.add_argument(
        "keys",
        nargs="+",
        metavar="KEY",
        help=f"a trajectory's, or {QUARANTINED}: what was put aside",
    )
    args = parser.parse_args(arguments)
    if args.command == "report":
        folder = args.study.resolve()  # "." has no name for a lock
        read_study(folder)  # no lock beside what is no study's folder
        with file_lock(folder_lock_path(folder), folder):
            print(write_report(folder))
    elif args.command == "ls":
        print(list_trajectories(args.store, args.outputs))
    elif args.command == "du":
        print(disk_usage(args.store, args.outputs))
    else:
        print(remove_trajectories(args.store, args.outputs, args.keys))
