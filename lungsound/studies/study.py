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

from lungsound.config.schema import CONF, Config
from lungsound.errors import LungsoundError, StorageError
from lungsound.results.folder import lock_path
from lungsound.results.study_folder import STUDY_FILE, read_study
from lungsound.runs.build import source_hash
from lungsound.runs.estimate import announcement
from lungsound.runs.naming import heading
from lungsound.runs.run import make_folders, run
from lungsound.storage.files import read_file, whole_or_aside, write_file
from lungsound.storage.keys import key_of
from lungsound.storage.locks import locked
from lungsound.storage.signals import signals_let_in, signals_put_off, stop_if_asked
from lungsound.studies.plan import Job, plan_jobs, plan_text
from lungsound.studies.report import write_report
from lungsound.studies.store_admin import DAMAGED, disk_use, list_trajectories, remove
from lungsound.tracking.background import KEPT, Sender
from lungsound.tracking.client import check_address
from lungsound.tracking.state import begin, begin_anew
from lungsound.tracking.study_sync import StudyView

OWN_WORDS = ("-m", "--multirun", "plan=true", "plan=false")
# Words that say how and where the runs are made and shown, not what they are: with other ones it is the same study.
HOW = ("redo=", "hydra/", "hydra.", "tracking.", "trainer.num_workers=", "output_dir=", "store_dir=")


def study(words: list[str], launch: Callable[[], None]) -> None:
    """Run the jobs of a sweep's command line and leave the study's folder: plan, tables, figures; shown in MLflow.

    `launch` hands sys.argv to Hydra, which runs the jobs. Exits with 1 where a job failed; raises ConfigError, before
    the first job, where one cannot be run.
    """
    only_plan = "plan=true" in map(str.lower, words)
    words = [word for word in words if word.lower() not in OWN_WORDS]
    jobs = plan_jobs(words, before_data=(lambda _: None) if only_plan else check_paths)
    plan = plan_text(jobs)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        print(announcement(jobs[0].settings, jobs[0].choices["experiment"]), flush=True)
    print(headings(jobs), plan, sep="\n", flush=True)
    if only_plan:
        return
    folder = study_folder(jobs)
    with locked(lock_path(folder), folder):
        failed = run_jobs(folder, words, jobs, plan, launch)
    if failed:
        sys.exit(f"{len(failed)} of {len(jobs)} jobs failed: {', '.join(failed)}. The same command tries them again.")


def check_paths(settings: Config) -> None:
    """Say it before any work where nothing could be written, or MLflow could never answer."""
    make_folders(settings)
    check_address(settings.tracking.uri)


@signals_put_off()
def run_jobs(folder: Path, words: list[str], jobs: Sequence[Job], plan: str, launch: Callable[[], None]) -> list[str]:
    """Fill the study's folder; the names of the jobs that failed."""
    for old in folder.glob("failed-*.json*"):  # and their checksums
        old.unlink()
    tracking = jobs[0].settings.tracking
    record = begin(folder, tracking.uri, tracking.experiment, {"data": headings(jobs)})
    remember(folder, words, jobs, plan)
    with signals_let_in():
        clear(jobs)
    sender = Sender(StudyView(folder), record)
    status, failed = "KILLED", []
    try:
        sender.start()
        place = QuotedString(str(folder), Quote.single).with_quotes()
        sys.argv[1:] = ["--multirun", *words, f"tracking.study={place}", "redo=false"]  # `clear` has done it
        with signals_let_in(), hydras_end():
            launch()
        failed = failures(folder, jobs)
        status = "FAILED" if failed else "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        finish(folder, sender, status, jobs, failed)
    return [name for name, _ in failed]


@contextmanager
def hydras_end() -> Iterator[None]:
    """Inside, where Hydra itself fails it prints why and exits; that becomes an error of ours."""
    try:
        yield
    except SystemExit as error:
        raise LungsoundError(
            "expected Hydra to launch the study's jobs, but it ended as it says above: a process of its launcher died, "
            "say. The finished runs are kept, and the same command does what is missing"
        ) from error


def clear(jobs: Sequence[Job]) -> None:
    """Remove what redo=true trains again, once for all jobs: each by itself would empty the path that they share."""
    for job in (job for job in jobs if job.settings.redo):
        with job.folder.held():
            with job.known.trajectory.held():
                job.known.trajectory.tidy(0)
            begin_anew(job.folder)


def run_job(cfg: DictConfig) -> None:
    """One job of a study, as Hydra launches it. A failure is kept for the study's end, and the other jobs go on."""
    hydra = HydraConfig.get()
    # A launcher's processes may have other defaults: another number of threads would be another trajectory.
    known = read_study(Path(cfg.tracking.study))
    torch.set_num_threads(known["threads"])
    try:
        made = run(cfg, dict(hydra.runtime.choices))
        if str(made) not in {job["run"] for job in known["jobs"]}:
            raise LungsoundError(
                f"expected this job's run in one of the study's folders, but it is {made}: the data or the source of "
                "lungsound changed while the study ran. The same command runs what is missing"
            )
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        print(f"error: {error}" if isinstance(error, LungsoundError) else text, file=sys.stderr, flush=True)
        shown = any(note.startswith(KEPT) for note in getattr(error, "__notes__", ()))
        record = {"error": str(error), "traceback": text, "shown": shown}
        with suppress(StorageError):  # on a full disk the unfinished folder says it
            write_file(Path(cfg.tracking.study) / f"failed-{hydra.job.num}.json", json.dumps(record).encode())


def headings(jobs: Sequence[Job]) -> str:
    """Names the data of all jobs."""
    return "; ".join(dict.fromkeys(heading(job.known) for job in jobs))


def study_folder(jobs: Sequence[Job]) -> Path:
    """Named after what is swept; its key holds what the jobs share and what shapes their results: words, data, source.

    One more value, and it is still this study.
    """
    first = jobs[0]
    swept = sorted(first.values)
    mark = ["SYNTHETIC"] if any(job.known.database.synthetic for job in jobs) else []
    shared = [word for word in first.shared if not word.lstrip("+").startswith(HOW)]
    data = {job.known.database.fingerprint for job in jobs}
    common = [shared, swept, sorted(data) if len(data) == 1 else "swept", source_hash()]
    name = "-".join([first.choices["experiment"], *mark, *swept, key_of(common)[:8]])
    return Path(first.settings.output_dir) / "studies" / name


def remember(folder: Path, words: Sequence[str], jobs: Sequence[Job], plan: str) -> None:
    """study.json: what the study is and the folder of each of its runs, earlier commands' as well."""
    path = folder / STUDY_FILE
    now = [job.values for job in jobs]
    earlier = read_study(folder)["jobs"] if whole_or_aside(path) else []
    study = {
        "words": list(words),
        "swept": sorted(jobs[0].values),
        "threads": torch.get_num_threads(),
        "jobs": [
            *(job for job in earlier if job["values"] not in now),
            *({"run": str(job.folder.path), "values": job.values} for job in jobs),
        ],
    }
    write_file(path, json.dumps(study, indent=2).encode())
    write_file(folder / "plan.txt", plan.encode())


def failures(folder: Path, jobs: Sequence[Job]) -> list[tuple[str, str]]:
    """The jobs that failed, each with its traceback where it failed before it was a run: that one has kept its own."""
    failed = []
    for number, job in enumerate(jobs):
        path = folder / f"failed-{number}.json"
        if path.exists():
            record = json.loads(read_file(path))
            failed.append((str(job), "" if record["shown"] else record["traceback"]))
        elif not job.folder.finished:  # its record found no room, say
            failed.append((str(job), ""))
    return failed


def finish(folder: Path, sender: Sender, status: str, jobs: Sequence[Job], failed: Sequence[tuple[str, str]]) -> None:
    """The report of what is finished, also where a signal ended the study."""
    counts: dict[str, int] = {}
    try:
        done = [job for job in jobs if job.folder.finished]
        runs = {job.folder.path: job.folder for job in done}  # jobs may come to one run
        trained = sum(run.read_json("facts.json")["epochs_trained"] for run in runs.values())
        counts = {"jobs": len(jobs), "jobs_finished": len(done), "jobs_failed": len(failed), "epochs_trained": trained}
        print(write_report(folder), flush=True)
        if status == "FINISHED":
            stop_if_asked()  # one that came while the tables were made
    except LungsoundError as error:
        if status == "FINISHED":
            status = "FAILED"
            raise
        print(f"no tables: {error}", file=sys.stderr)  # what ended the study is told next
    except BaseException as error:  # a signal, for one, while the tables are made
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        raise
    finally:
        sender.end(status, counts=counts, failed={name: error for name, error in failed if error})
        print(*filter(None, [sender.unsent]), f"study: {folder}", sep="\n", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The side commands; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m lungsound.study", description="Studies, and what is stored.")
    commands = parser.add_subparsers(dest="command", required=True)
    places = argparse.ArgumentParser(add_help=False)
    places.add_argument("--store", type=Path, default=Path("store"), help="store_dir of the runs")
    places.add_argument("--outputs", type=Path, default=Path("outputs"), help="output_dir of the runs")
    report = commands.add_parser("report", help="make a study's tables and figures again, without training")
    report.add_argument("study", type=Path, help="the study's folder, below outputs/studies")
    commands.add_parser("ls", parents=[places], help="list the stored trajectories, with sizes and ages")
    commands.add_parser("du", parents=[places], help="how much the store holds of what")
    removal = commands.add_parser("rm", parents=[places], help="remove trajectories: runs that need them train again")
    removal.add_argument("keys", nargs="+", metavar="KEY", help=f"a trajectory's, or {DAMAGED}: what was put aside")
    chosen = parser.parse_args(arguments)
    if chosen.command == "report":
        folder = chosen.study.resolve()  # "." has no name for a lock
        read_study(folder)  # no lock beside what is no study's folder
        with locked(lock_path(folder), folder):
            print(write_report(folder))
    elif chosen.command == "ls":
        print(list_trajectories(chosen.store, chosen.outputs))
    elif chosen.command == "du":
        print(disk_use(chosen.store, chosen.outputs))
    else:
        print(remove(chosen.store, chosen.outputs, chosen.keys))
