"""Give a study to Hydra's launcher: one job per trajectory, each in a process of its own.

Imports no torch: a launcher's worker only waits for the process that trains.
"""

import contextlib
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from lungsound.config.overrides import parse_overrides, run_hydra
from lungsound.config.schema import gpu_count
from lungsound.errors import ConfigError, LungsoundError
from lungsound.results.study_folder import log_path, record_unfinished
from lungsound.storage.locks import try_lock

BASIC = "basic"
POLL_S = 5.0
MAX_ERRORS = 360  # of squeue, one after the other: half an hour
# Launcher -> the package of its plugin; the extra has the launcher's first word.
PLUGINS = {
    "joblib": "hydra-joblib-launcher",
    "slurm": "hydra-submitit-launcher",
    "slurm_local": "hydra-submitit-launcher",
    "ray": "hydra-ray-launcher",
}
PACKAGE_PARENT = str(Path(__file__).parents[2])


def check_launcher(launcher: str) -> None:
    """Raise ConfigError if the package of a launcher of ours is missing."""
    package = PLUGINS.get(launcher)
    if package and importlib.util.find_spec(f"hydra_plugins.{package.replace('-', '_')}") is None:
        extra = launcher.partition("_")[0]
        raise ConfigError(
            f"hydra/launcher={launcher}: expected the package {package}, which the extra "
            f"`{extra}` installs: pip install 'lungsound[{extra}]'"
        )


def launch(plan: Path, words: Sequence[str], trajectories: Sequence[str], launcher: str) -> None:
    """Let Hydra's launcher call `run_trajectory` once for each of these trajectories of the plan.

    Raises LungsoundError if Hydra exits: it prints its own errors before.
    """
    constants = []
    for word, override in zip(words, parse_overrides(words), strict=True):
        if not override.is_sweep_override():
            constants.append(word)
    keys = ",".join(map(quoted, trajectories))
    line = [f"tracking.study={quoted(plan.parent)}", "hydra.sweeper.params=null"]
    line += [f"+plan={quoted(plan)}", f"+trajectory={keys}"]
    os.environ["PYTHONPATH"] = python_path()  # workers find this package, wherever it is
    if launcher == "joblib" and (gpus := range(gpu_count(0))):  # the others' may be elsewhere
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", ",".join(map(str, gpus)))
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # two jobs' lines may be alike
    earlier = slurm_tasks(plan.parent)
    try:
        run_hydra(run_trajectory, ["--multirun", *constants, *line])
    except SystemExit as error:
        wait_for_slurm(slurm_tasks(plan.parent) - earlier)
        raise LungsoundError(
            "expected Hydra to launch the study's jobs, but it ended with the message above; "
            "perhaps a process of its launcher died. The finished runs are kept, and the same "
            "command runs the others"
        ) from error


def quoted(value: object) -> str:
    """Return a value that Hydra takes as it is: a path with a comma, a key of digits alone."""
    return QuotedString(str(value), Quote.single).with_quotes()


def python_path() -> str:
    """Return PYTHONPATH, with the folder of this package."""
    parts = filter(None, [PACKAGE_PARENT, *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    return os.pathsep.join(dict.fromkeys(parts))


def slurm_tasks(folder: Path) -> set[str]:
    """Return the numbers of all tasks that were submitted for the study."""
    return {path.parent.name for path in folder.glob("logs/*/*_submitted.pkl")}


def wait_for_slurm(tasks: Collection[str]) -> None:
    """Wait for the end of these tasks: submitit stops waiting when one is lost.

    An error of squeue is no end, as the controller may answer again, but many in a row are.
    """
    command = ["squeue", "--noheader", "--jobs", ",".join(tasks)]
    errors = 0 if tasks and shutil.which("squeue") else MAX_ERRORS
    while errors < MAX_ERRORS:
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        is_forgotten = "Invalid job id" in shown.stderr  # it ended minutes ago
        if is_forgotten or not (shown.stdout or shown.returncode):
            return
        errors = errors + 1 if shown.returncode else 0
        if errors == 1:
            print(shown.stderr.strip(), file=sys.stderr, flush=True)
        time.sleep(POLL_S)


def run_trajectory(cfg: DictConfig) -> None:
    """Train a trajectory and finish its runs: called by Hydra's launcher, on any machine."""
    hydra, plan, trajectory = HydraConfig.get(), Path(cfg.plan), cfg.trajectory
    launcher = hydra.runtime.choices["hydra/launcher"]
    if launcher == BASIC:
        from lungsound.studies.work import train_trajectory  # imports torch

        # Its output is here; a log is of an earlier command's launcher.
        log_path(plan.parent, trajectory).unlink(missing_ok=True)
        train_trajectory(plan, trajectory)
        return
    with (
        contextlib.chdir(hydra.runtime.cwd),
        worker_environment(plan.parent, launcher) as environment,
    ):
        reason = supervise(plan, trajectory, environment)
        record_unfinished(plan, reason, trajectory)


@contextlib.contextmanager
def worker_environment(folder: Path, launcher: str) -> Iterator[dict[str, str]]:
    """Yield the environment of a process that trains: its threads, its GPU.

    joblib and Ray set the threads; Ray and Slurm the GPU. With joblib it is the one that the fewest
    processes of the study use.
    """
    environment = {**os.environ, "PYTHONPATH": python_path()}
    # Not the threads of who submitted it. Without cpus_per_task a task has all CPUs of its job.
    cores = environment.get("SLURM_CPUS_PER_TASK") or environment.get("SLURM_CPUS_ON_NODE")
    if cores and launcher == "slurm":  # others may run within a Slurm job
        environment["OMP_NUM_THREADS"] = cores
    with contextlib.ExitStack() as stack:
        gpus = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
        if launcher == "joblib" and len(gpus) > 1:
            for number in itertools.count():
                gpu = gpus[number % len(gpus)]
                if stack.enter_context(try_lock(folder / f".gpu-{number}.lock")):
                    break
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        yield environment


def supervise(plan: Path, trajectory: str, environment: dict[str, str]) -> str:
    """Wait for a process that trains the trajectory; log and print its output.

    Returns why it ended, empty if it ended by itself. It ends if this process does: its stdin is
    closed then.
    """
    path = log_path(plan.parent, trajectory)
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "lungsound", "study", "work", str(plan), trajectory]
    with path.open("a") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C reaches it once, through its stdin
        )
        assert process.stdin
        assert process.stdout
        reason = ""
        try:
            copy_lines(process.stdout, log)
        except Exception as error:  # submitit's, in its signal handler, at the time limit
            reason = str(error)
        finally:
            process.stdin.close()
            copy_lines(process.stdout, log)
            code = process.wait()
        if code < 0:
            reason = reason or f"ended without a word, by {signal.Signals(-code).name}"
        copy_lines([f"{reason}\n"] if reason else [], log)
    return reason


def copy_lines(lines: Iterable[str], log: TextIO) -> None:
    """Write lines to the log, and print them, until nobody reads them any more."""
    for line in lines:
        log.write(line)
        log.flush()
        with contextlib.suppress(BrokenPipeError):  # `| head`: the training goes on
            print(line, end="", flush=True)
