"""A study by each launcher, on real engines: its runs, its failures, and the same command."""

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.ray import running_ray
from support.runs import ROOT
from support.slurm import wait_for
from support.studies import finish, mlflow_statuses, only_study, result_bytes_by_run

from lungsound.results.study_folder import log_path, read_plan

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
) -> "Iterator[tuple[Path, subprocess.Popen[str]]]":
    """A study beside the tests, with more epochs than Slurm gives it time for."""
    words = ("annealing.cycles=1", "annealing.epochs_per_cycle=9999", *SLURM)
    limits = ("timeout_min=2", "signal_delay_s=10", "max_num_timeout=1")
    folder = tmp_path_factory.mktemp("limited") / "study"
    process = start_study(folder, slurm, *words, *(f"hydra.launcher.{one}" for one in limits))
    yield folder, process
    process.kill()
    process.wait()


def training_processes() -> dict[str, psutil.Process]:
    """The processes that train, by the key of their trajectory."""
    found = {}
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if line[-4:-2] == ["study", "work"]:
            found[line[-1]] = process
    return found


def kill_process(folder: Path) -> None:
    """Kill the process that trains the study's first trajectory."""
    training_processes()[trajectories(folder)[0]].kill()


def kill_process_and_queue_the_other_task_again(folder: Path) -> None:
    """As Slurm does it before the time limit, but without its pause of two minutes."""
    kill_process(folder)
    wait_for(lambda: "epoch" in log(folder, 1), 240)
    task = slurm_task("_1")
    subprocess.run(["scancel", "--signal=USR2", task], check=True)
    wait_for(lambda: slurm_task("_1", state="PENDING"), 240)
    subprocess.run(["scontrol", "update", f"JobId={task}", "StartTime=now"], check=True)


def lose_node(address: str) -> None:
    """Kill the processes of a node, as when its machine breaks."""
    for process in psutil.process_iter(["cmdline"]):
        if any(word.endswith(f"address={address}") for word in process.info["cmdline"] or []):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def slurm_task(end: str, state: str = "RUNNING") -> str:
    """The number of an array's task in that state, by its end; empty if there is none."""
    command = ["squeue", "--noheader", "--format=%i", f"--states={state}"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    return next((task for task in shown.stdout.split() if task.endswith(end)), "")


@pytest.mark.parametrize(
    ("launcher", "kill"),
    [
        ("joblib", kill_process),
        ("ray", kill_process),
        ("slurm", kill_process_and_queue_the_other_task_again),
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
    wait_for(lambda: "epoch" in log(folder, 0), 240)
    kill(folder)
    finish(process, 1)
    table = (only_study(folder) / "table3.md").read_text()
    first_log = log_path(only_study(folder).relative_to(folder), trajectories(folder)[0])
    for cycles in (1, 2, 3):
        assert f"missing: annealing.cycles={cycles} split.seed=0: ended without a word" in table
    assert f"its log: {first_log}" in table
    assert "ended without a word, by SIGKILL" in log(folder, 0)
    status, children = mlflow_statuses(folder)
    assert status == "FAILED"
    assert {name: children.count(name) for name in LEFT_IN_MLFLOW} == LEFT_IN_MLFLOW
    assert "RUNNING" not in children

    process = start_study(folder, engine, *words)
    finish(process)
    assert result_bytes_by_run(folder) == result_bytes_by_run(basic_study)
    assert mlflow_statuses(folder) == ("FINISHED", ["FINISHED"] * 6)
    assert trained_by_trajectory(folder) == trained_by_trajectory(basic_study) == [3, 3]
    metadata = [json.loads(path.read_text()) for path in folder.glob("outputs/*/metadata.json")]
    assert {(run["device"], run["threads"]) for run in metadata} == {("cpu", 1)}


def test_a_rehearsal_of_slurm_has_the_same_results(
    start_study: Callable[..., "subprocess.Popen[str]"],
    basic_study: Path,
    six_runs: tuple[str, ...],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "study"
    words = (*six_runs, "hydra/launcher=slurm_local")
    process = start_study(folder, {**os.environ, "OMP_NUM_THREADS": "1"}, *words)
    finish(process)
    assert "epoch" in log(folder, 0)
    assert "epoch" in log(folder, 1)
    assert result_bytes_by_run(folder) == result_bytes_by_run(basic_study)


def test_time_limit_queues_a_job_again_and_the_last_one_is_a_failure(
    limited_study: "tuple[Path, subprocess.Popen[str]]",
) -> None:
    folder, process = limited_study
    finish(process, 1)
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


def test_slurm_ends_a_task_that_needs_more_memory_than_it_asked_for(
    start_study: Callable[..., "subprocess.Popen[str]"], slurm: dict[str, str], tmp_path: Path
) -> None:
    folder, words = tmp_path / "study", ("annealing.cycles=1", *SLURM)
    less = ("hydra.launcher.mem_gb=null", "+hydra.launcher.additional_parameters.mem=300M")
    process = start_study(folder, slurm, *words, *less)
    finish(process, 1)
    (failure,) = only_study(folder).glob("failed-*.json")
    assert json.loads(failure.read_text())["error"].startswith("ended without a word; its log: ")
    (task,) = only_study(folder).glob("logs/*/*_log.out")
    assert "exceeded memory limit" in task.read_text()
    assert mlflow_statuses(folder) == ("FAILED", ["FAILED"])


def test_ray_runs_the_task_of_a_lost_node_again_on_another(
    start_study: Callable[..., "subprocess.Popen[str]"],
    basic_study: Path,
    six_runs: tuple[str, ...],
    tmp_path: Path,
) -> None:
    folder, nodes = tmp_path / "study", ("127.0.0.4", "127.0.0.5")  # not those of other tests
    with running_ray({**os.environ, "PYTHONPATH": str(ROOT)}, nodes) as engine:
        process = start_study(folder, engine, *six_runs, *LAUNCHERS["ray"])
        wait_for(lambda: "epoch" in log(folder, 0) and "epoch" in log(folder, 1), 240)
        before = training_processes()
        lose_node(nodes[1])
        wait_for(lambda: started_again(before), 240)
        finish(process)
    assert result_bytes_by_run(folder) == result_bytes_by_run(basic_study)
    assert mlflow_statuses(folder) == ("FINISHED", ["FINISHED"] * 6)
    assert trained_by_trajectory(folder) == [3, 3]


def started_again(before: dict[str, psutil.Process]) -> bool:
    """Whether another process trains one of the trajectories."""
    now = training_processes()
    return any(now[key].pid != process.pid for key, process in before.items() if key in now)


def trajectories(folder: Path) -> list[str]:
    """The keys of the only study's trajectories, in the order of its plan, once there is one."""
    plans = [read_plan(path) for path in folder.glob("outputs/studies/*/plan-*.json")]
    return list(dict.fromkeys(job["trajectory"] for plan in plans for job in plan))


def log(folder: Path, number: int) -> str:
    """The output of the processes that trained a trajectory of the only study, from 0."""
    if not (keys := trajectories(folder)):
        return ""
    path = log_path(only_study(folder), keys[number])
    return path.read_text() if path.exists() else ""


def trained_by_trajectory(folder: Path) -> list[int]:
    """How many epochs were trained for the runs of each trajectory."""
    trained: dict[str, int] = {}
    for path in folder.glob("outputs/*/metadata.json"):
        run = json.loads(path.read_text())
        trained[run["trajectory"]] = trained.get(run["trajectory"], 0) + run["epochs_trained"]
    return list(trained.values())
