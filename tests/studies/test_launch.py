"""What launchers get: one job per trajectory, and the environment of its process."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import lungsound.studies.launch
from lungsound.errors import ConfigError
from lungsound.results.study_folder import log_path
from lungsound.studies.launch import (
    check_launcher,
    launch,
    slurm_tasks,
    supervise,
    wait_for_slurm,
    worker_environment,
)
from lungsound.studies.plan import plan_jobs


@pytest.mark.slow
def test_launcher_gets_a_job_per_trajectory_that_is_not_finished(
    sweep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, trained_epochs: list[int]
) -> None:
    launched: list[str] = []
    original = lungsound.studies.launch.run_hydra

    def launch(task: Callable[..., object], arguments: list[str]) -> None:
        launched.extend(word for word in arguments if word.startswith("+trajectory="))
        original(task, arguments)

    monkeypatch.setattr(lungsound.studies.launch, "run_hydra", launch)
    sweep("annealing.cycles=1,2", "split.seed=0,1")
    assert trained_epochs == [1, 2, 1, 2]  # each trajectory from start to end
    sweep("annealing.cycles=1,2", "split.seed=0,2,1")
    sweep("annealing.cycles=1,2", "split.seed=0,1")
    keys = [len(word.removeprefix("+trajectory=").split(",")) for word in launched]
    assert keys == [2, 1]
    assert trained_epochs == [1, 2, 1, 2, 1, 2]


def test_a_gpu_is_expected_where_a_job_trains_not_where_it_is_planned() -> None:
    """This machine has none, as a cluster's login node."""
    words = ["experiment=tiny", "trainer=gpu", "annealing.cycles=1,2"]
    assert len(plan_jobs([*words, "hydra/launcher=slurm"])) == 2
    for launcher in ("basic", "joblib"):
        with pytest.raises(ConfigError, match=r"trainer\.accelerator: expected a GPU"):
            plan_jobs([*words, f"hydra/launcher={launcher}"])


def test_processes_side_by_side_have_a_gpu_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")

    def gpu_of(environment: dict[str, str]) -> str:
        return environment["CUDA_VISIBLE_DEVICES"]

    with (
        worker_environment(tmp_path, "joblib") as one,
        worker_environment(tmp_path, "joblib") as other,
        worker_environment(tmp_path, "joblib") as third,
        worker_environment(tmp_path, "joblib") as fourth,
    ):
        assert [gpu_of(one), gpu_of(other), gpu_of(third), gpu_of(fourth)] == ["3", "5", "3", "5"]
    with worker_environment(tmp_path, "slurm") as ours:  # Slurm has chosen
        assert gpu_of(ours) == "3,5"


def test_threads_are_the_task_s_not_the_submitter_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    with worker_environment(tmp_path, "slurm") as environment:
        assert environment["OMP_NUM_THREADS"] == "3"
    monkeypatch.delenv("SLURM_CPUS_PER_TASK")  # hydra.launcher.cpus_per_task=null
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "2")
    with worker_environment(tmp_path, "slurm") as environment:
        assert environment["OMP_NUM_THREADS"] == "2"
    assert os.environ["OMP_NUM_THREADS"] == "64"


@pytest.mark.parametrize(("launcher", "gpus"), [("joblib", "0,1,2"), ("slurm", None)])
def test_only_processes_of_this_machine_get_its_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str, gpus: str | None
) -> None:
    """sbatch hands on the environment of the login node."""
    found = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # restored afterwards
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("RAY_DEDUP_LOGS", "")
    monkeypatch.setattr("lungsound.studies.launch.gpu_count", lambda _: 3)
    monkeypatch.setattr(
        "lungsound.studies.launch.run_hydra",
        lambda *_: found.append(os.environ.get("CUDA_VISIBLE_DEVICES")),
    )
    launch(tmp_path / "plan.json", [], ["key"], launcher)
    assert found == [gpus]


SQUEUE = """#!/bin/sh
echo asked >> {log}
case $(wc -l < {log}) in
    1) echo 7_1 ;;
    2) echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1 ;;
    3) echo 7_1 ;;
    *) echo "{last}" >&2; exit {code} ;;
esac
"""


@pytest.mark.parametrize(
    ("last", "code"), [("", 0), ("slurm_load_jobs error: Invalid job id specified", 1)]
)
def test_tasks_are_waited_for_while_the_controller_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, code: int
) -> None:
    log, program = tmp_path / "log", tmp_path / "squeue"
    program.write_text(SQUEUE.format(log=log, last=last, code=code))
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("lungsound.studies.launch.POLL_S", 0.0)
    task = tmp_path / "logs" / "7_1" / "7_1_submitted.pkl"
    wait_for_slurm(slurm_tasks(tmp_path))
    assert not log.exists()  # nothing was submitted
    task.parent.mkdir(parents=True)
    task.touch()
    wait_for_slurm(slurm_tasks(tmp_path))
    assert len(log.read_text().splitlines()) == 4


def test_a_controller_that_stays_away_ends_the_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    log, program = tmp_path / "log", tmp_path / "squeue"
    program.write_text(f"#!/bin/sh\necho asked >> {log}\necho credentials expired >&2\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("lungsound.studies.launch.POLL_S", 0.0)
    monkeypatch.setattr("lungsound.studies.launch.MAX_ERRORS", 3)
    wait_for_slurm(["7_1"])
    assert len(log.read_text().splitlines()) == 3
    assert capfd.readouterr().err == "credentials expired\n"


def test_missing_plugin_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"package hydra-submitit-launcher.*'lungsound\[slurm\]'"):
        check_launcher("slurm_local")
    check_launcher("basic")


@pytest.fixture
def use_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`use_script(lines)`: a shell script takes the place of the process that trains."""

    def use(lines: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o700)
        monkeypatch.setattr("sys.executable", str(path))

    return use


def test_killed_process_is_a_reason_in_the_log(
    tmp_path: Path, use_script: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    use_script("echo begun; kill -9 $$")
    plan = tmp_path / "plan-key.json"
    assert supervise(plan, "3e45", {**os.environ}) == "ended without a word, by SIGKILL"
    printed = "begun\nended without a word, by SIGKILL\n"
    assert capsys.readouterr().out == log_path(tmp_path, "3e45").read_text() == printed
    use_script("exit 0")
    assert supervise(plan, "3e45", {**os.environ}) == ""


def test_process_ends_itself_if_the_launcher_s_time_is_up(
    tmp_path: Path, use_script: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As submitit does it: an exception in a signal handler while the worker waits."""
    use_script("echo begun; cat; echo ended")  # cat: until its stdin is closed

    def time_is_up(line: str, **_: object) -> None:
        if line == "begun\n":
            raise RuntimeError("the time is up")

    monkeypatch.setattr("builtins.print", time_is_up)
    assert supervise(tmp_path / "plan-key.json", "1", {**os.environ}) == "the time is up"
    assert log_path(tmp_path, "1").read_text() == "begun\nended\nthe time is up\n"
