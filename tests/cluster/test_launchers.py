"""A study by each launcher, on real engines: its runs, its failures, and the same command."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.slurm import wait_for
from support.studies import mlflow_statuses, only_study, result_bytes_by_run

from lungsound.results.study_folder import log_path

pytestmark = pytest.mark.cluster

SLURM = (
    *("hydra/launcher=slurm", "hydra.launcher.gpus_per_node=null"),
    *("hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2"),
)
LAUNCHERS = {
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "slurm": SLURM,
    "ray": ("hydra/launcher=ray",),
}
LEFT_IN_MLFLOW = {"FINISHED": 3, "KILLED": 1}  # the killed job's first run had begun, no more


@pytest.fixture(scope="module", autouse=True)
def limited_study(
    start_study: Callable[..., "subprocess.Popen[str]"],
    slurm: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> "tuple[Path, subprocess.Popen[str]]":
    """A study beside the tests, with more epochs than Slurm gives it time for."""
    words = ("annealing.cycles=1", "annealing.epochs_per_cycle=9999", *SLURM)
    limits = ("timeout_min=2", "signal_delay_s=10", "max_num_timeout=1")
    folder = tmp_path_factory.mktemp("limited") / "study"
    return folder, start_study(folder, slurm, *words, *(f"hydra.launcher.{one}" for one in limits))


def kill_process(study: Path) -> None:
    """Kill the process that trains the study's first trajectory."""
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [])[-4:] == ["study", "work", str(study), "1"]:
            process.kill()


def kill_slurm_task(_: Path) -> None:
    """Kill all processes of the first task: also submitit's, which would report it."""
    shown = subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True)
    first = next(job for job in shown.stdout.split() if job.endswith("_0"))
    subprocess.run(["scancel", "--full", "--signal=KILL", first], check=True)


@pytest.mark.parametrize(
    ("launcher", "kill"),
    [
        ("joblib", kill_process),
        ("ray", kill_process),
        ("slurm", kill_process),
        ("slurm", kill_slurm_task),
    ],
)
def test_killed_job_ends_no_other_and_the_same_command_runs_it(
    request: pytest.FixtureRequest,
    start_study: Callable[..., "subprocess.Popen[str]"],
    basic_study: Path,
    six_runs: tuple[str, ...],
    tmp_path: Path,
    launcher: str,
    kill: Callable[[Path], None],
) -> None:
    engine = {**os.environ} if launcher == "joblib" else request.getfixturevalue(launcher)
    folder, words = tmp_path / "study", (*six_runs, *LAUNCHERS[launcher])
    process = start_study(folder, engine, *words)
    wait_for(lambda: "epoch" in first_log(folder), 240)
    kill(only_study(folder).relative_to(folder))
    printed, _ = process.communicate()
    assert process.returncode == 1, printed
    table = (only_study(folder) / "table3.md").read_text()
    log = log_path(only_study(folder).relative_to(folder), 1)
    for cycles in (1, 2, 3):
        assert f"missing: annealing.cycles={cycles} split.seed=0: ended without a word" in table
    assert f"its log: {log}" in table
    if kill is kill_process:
        assert "ended without a word, by SIGKILL" in first_log(folder)
    status, children = mlflow_statuses(folder)
    assert status == "FAILED"
    assert {name: children.count(name) for name in LEFT_IN_MLFLOW} == LEFT_IN_MLFLOW
    assert "RUNNING" not in children

    process = start_study(folder, engine, *words)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert result_bytes_by_run(folder) == result_bytes_by_run(basic_study)
    assert mlflow_statuses(folder) == ("FINISHED", ["FINISHED"] * 6)
    assert trained_by_trajectory(folder) == trained_by_trajectory(basic_study) == [3, 3]
    metadata = [json.loads(path.read_text()) for path in folder.glob("outputs/*/metadata.json")]
    assert {(run["device"], run["threads"]) for run in metadata} == {("cpu", 1)}


def test_time_limit_queues_a_job_again_and_the_last_one_is_a_failure(
    limited_study: "tuple[Path, subprocess.Popen[str]]",
) -> None:
    folder, process = limited_study
    printed, _ = process.communicate()
    assert process.returncode == 1, printed
    (failure,) = only_study(folder).glob("failed-*.json")
    error = json.loads(failure.read_text())["error"]
    assert error.startswith("Job not requeued because: timed-out too many times.")
    (metadata,) = folder.glob("outputs/*/metadata.json")
    run = json.loads(metadata.read_text())
    # The second task went on after the epochs of the first one, and lost none.
    assert run["epochs_trained"] == run["last_epoch_trained"] > 1
    (task,) = only_study(folder).glob("logs/*/*_log.out")
    assert task.read_text().count("Loading pickle") == 2
    assert mlflow_statuses(folder) == ("FAILED", ["KILLED"])


def first_log(folder: Path) -> str:
    """The output of the processes that trained the first trajectory of the only study."""
    for path in folder.glob("outputs/studies/*/logs/trajectory-1.log"):
        return path.read_text()
    return ""


def trained_by_trajectory(folder: Path) -> list[int]:
    """How many epochs were trained for the runs of each trajectory."""
    trained: dict[str, int] = {}
    for path in folder.glob("outputs/*/metadata.json"):
        run = json.loads(path.read_text())
        trained[run["trajectory"]] = trained.get(run["trajectory"], 0) + run["epochs_trained"]
    return list(trained.values())
