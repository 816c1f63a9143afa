"""Give a study to Hydra's launcher: one job per trajectory, each in a process of its own.

Imports no torch: a launcher's worker only waits for the process that trains.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
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


def launch(folder: Path, words: Sequence[str], trajectories: Sequence[int]) -> None:
    """Let Hydra's launcher call `run_trajectory` once per trajectory of the study.

    Raises LungsoundError if Hydra exits: it prints its own errors before.
    """
    constants = []
    for word, override in zip(words, parse_overrides(words), strict=True):
        if not override.is_sweep_override():
            constants.append(word)
    study = QuotedString(str(folder), Quote.single).with_quotes()
    numbers = ",".join(map(str, trajectories))
    line = [f"tracking.study={study}", "hydra.sweeper.params=null", f"+trajectory={numbers}"]
    # Workers find this package, wherever it is, and know which GPUs there are.
    if gpus := range(gpu_count(0)):
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", ",".join(map(str, gpus)))
    os.environ["PYTHONPATH"] = python_path()
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # two jobs' lines may be alike
    start = time.time()
    try:
        run_hydra(run_trajectory, ["--multirun", *constants, *line])
    except SystemExit as error:
        wait_for_slurm(folder, start)
        raise LungsoundError(
            "expected Hydra to launch the study's jobs, but it ended with the message above; "
            "perhaps a process of its launcher died. The finished runs are kept, and the same "
            "command runs the others"
        ) from error


def python_path() -> str:
    """Return PYTHONPATH, with the folder of this package."""
    parts = filter(None, [PACKAGE_PARENT, *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    return os.pathsep.join(dict.fromkeys(parts))


def wait_for_slurm(folder: Path, start: float) -> None:
    """Wait for the tasks submitted since `start`: submitit stops waiting when one is lost."""
    submitted = folder.glob("logs/*/*_submitted.pkl")
    recent = [path.parent.name for path in submitted if path.stat().st_mtime >= start]
    command = ["squeue", "--noheader", "--jobs", ",".join(recent)]
    if recent and shutil.which("squeue"):
        while subprocess.run(command, capture_output=True, check=False).stdout:
            time.sleep(POLL_S)


def run_trajectory(cfg: DictConfig) -> None:
    """Train a trajectory and finish its runs: called by Hydra's launcher, on any machine."""
    hydra, folder, number = HydraConfig.get(), Path(cfg.tracking.study), cfg.trajectory
    launcher = hydra.runtime.choices["hydra/launcher"]
    if launcher == BASIC:
        from lungsound.studies.work import train_trajectory  # imports torch

        train_trajectory(folder, number)
        return
    with contextlib.chdir(hydra.runtime.cwd), worker_environment(folder, launcher) as environment:
        reason = supervise(folder, number, environment)
        record_unfinished(folder, reason, number)


@contextlib.contextmanager
def worker_environment(folder: Path, launcher: str) -> Iterator[dict[str, str]]:
    """Yield the environment of a process that trains: its threads, its GPU.

    joblib and Ray set the threads; Ray and Slurm the GPU. With joblib it is one that no other
    process of the study uses, if there is one.
    """
    environment = {**os.environ, "PYTHONPATH": python_path()}
    cores = environment.get("SLURM_CPUS_PER_TASK")
    if cores and launcher == "slurm":  # others may run within a Slurm job
        environment["OMP_NUM_THREADS"] = cores  # not those of who submitted it
    with contextlib.ExitStack() as stack:
        gpus = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
        if launcher == "joblib" and len(gpus) > 1:
            for gpu in gpus:
                if stack.enter_context(try_lock(folder / f".gpu-{gpu}.lock")):
                    break
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        yield environment


def supervise(folder: Path, number: int, environment: dict[str, str]) -> str:
    """Wait for a process that trains the trajectory; log and print its output.

    Returns why it ended, empty if it ended by itself. It ends if this process does: its stdin is
    closed then.
    """
    path = log_path(folder, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "lungsound", "study", "work", str(folder), str(number)]
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
