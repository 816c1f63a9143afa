"""Sweeps on a small demo database: one trajectory for all ensembles, their tables, failures and
signals, MLflow's tree.
"""

import contextlib
import errno
import json
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sklearn.metrics import confusion_matrix
from support.commands import prints_line, run_lungsound
from support.disk import disk_full_for
from support.mlflow import metric_points, mlflow_client, mlflow_runs
from support.studies import (
    error_in_mlflow,
    mlflow_statuses,
    only_study,
    result_bytes_by_run,
    start_command,
    study_in_mlflow,
)

import lungsound.runs.predict
import lungsound.runs.run
import lungsound.runs.trajectory_key
import lungsound.studies.study
import lungsound.studies.work
import lungsound.tracking.background
from lungsound.cli.command import cli_command
from lungsound.cli.send import send_folder
from lungsound.errors import LungsoundError, StorageError
from lungsound.results.study_folder import failure_path, read_failure, read_study
from lungsound.studies.plan import format_plan, plan_jobs
from lungsound.studies.work import job_line, train_trajectory
from lungsound.tracking.sync import MlflowSync, StudySync
from lungsound.training.weights import read_weights

LABELS = ["normal", "crackle", "wheeze", "both"]
Sweep = Callable[..., Path]


@pytest.fixture(scope="module")
def typed_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a user typed a sweep of three ensembles, and its output `printed.txt`."""
    folder = tmp_path_factory.mktemp("typed")
    words = ("sweep.py", "-m", "annealing.cycles=2,3,...,4")
    process = start_command(*words, folder=folder)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    (folder / "printed.txt").write_text(printed)
    return folder


def runs_by_members(folder: Path) -> dict[int, Path]:
    runs = {}
    for path in folder.glob("outputs/*/metadata.json"):
        runs[json.loads(path.read_text())["annealing.cycles"]] = path.parent
    return dict(sorted(runs.items()))


def swept_cycles(folder: Path) -> list[int]:
    """The numbers of members in the study's table of all scores."""
    return list(pd.read_csv(only_study(folder) / "all.csv")["annealing.cycles"])


def fail(*_: object) -> None:
    raise LungsoundError("nothing can be done here")


@pytest.mark.slow
def test_typed_command_trains_each_period_once_for_all_ensembles(typed_study: Path) -> None:
    runs = runs_by_members(typed_study)
    trained = [
        json.loads((run / "metadata.json").read_text())["epochs_trained"] for run in runs.values()
    ]
    assert dict(zip(runs, trained, strict=True)) == {2: 2, 3: 1, 4: 1}  # an epoch per period
    assert len(list((typed_study / "store" / "trajectories").glob("*/"))) == 1
    printed = (typed_study / "printed.txt").read_text()
    assert "9 epochs if each job trained alone; 4 are to be trained, 5 are not" in printed
    study = only_study(typed_study)
    assert printed.splitlines()[-1] == f"study: {study.relative_to(typed_study)}"
    assert "HYDRA" not in printed
    lines = [line for line in printed.splitlines() if re.match(r"job \d", line)]
    for number, (members, run) in enumerate(runs.items(), start=1):
        test = json.loads((run / "scores.json").read_text())["scores"]["ensemble"][-1]["test"]
        scores = f"4-class {test['score_4']:.3f}  2-class {test['score_2']:.3f}"
        expected = f"job {number}/{len(runs)}  annealing.cycles={members}  {scores}"
        time_left = r"  \d+ \w+ left" if number < len(runs) else ""
        assert re.fullmatch(re.escape(expected) + time_left, lines[number - 1])
    assert len(lines) == len(runs)


@pytest.mark.slow
def test_time_left_of_a_study_is_that_of_the_jobs_to_come(
    typed_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second and fourth job are finished: jobs side by side end in any order."""
    first, second, *_ = runs_by_members(typed_study).values()
    runs = [tmp_path / "to_do", first, tmp_path / "failing", second]
    jobs = [{"run": str(run), "values": {"seed": seed}} for seed, run in enumerate(runs)]
    works = [30.0, 15.0, 45.0, 15.0]
    study = {"work": dict(zip(map(str, runs), works, strict=True)), "started": 1000.0}
    monkeypatch.setattr("lungsound.studies.work.time.time", lambda: 1000.0 + 4 * 60)

    def name_and_time() -> tuple[str, str]:
        words = job_line(study, jobs, 3, tmp_path).split("  ")
        return "  ".join(words[:2]), words[-1]

    # 4 minutes for 30 of the work; 75 are to come, and 30 after the third has failed.
    assert name_and_time() == ("job 4/4  seed=3", "10 minutes left")
    failure_path(tmp_path, "failing").touch()
    assert name_and_time()[1] == "4 minutes left"
    assert job_line(study, jobs, 3, tmp_path, "finished before").endswith("  finished before")
    jobs[3]["values"] = {"annealing.cycles": 10}
    assert job_line(study, jobs, 3, tmp_path).count("\n") == 0
    jobs[3]["values"] = {"annealing.cycles": 1, "loss.gamma": 0}
    first, second = job_line(study, jobs, 3, tmp_path).splitlines()
    assert first == "job 4/4  annealing.cycles=1 loss.gamma=0"
    assert second.startswith("  4-class ")
    assert second.endswith("  4 minutes left")
    study["work"] = {}
    assert "left" not in name_and_time()[1]


@pytest.mark.slow
def test_runs_are_below_their_study_in_mlflow(typed_study: Path) -> None:
    parent, children = study_in_mlflow(typed_study)
    assert [run.data.params["annealing.cycles"] for run in children] == ["2", "3", "4"]
    run_folder = runs_by_members(typed_study)[2]
    assert [run.info.status for run in mlflow_runs(run_folder)] == ["FINISHED"] * 4
    assert "SYNTHETIC" in parent.info.run_name
    sent = {file.path for file in mlflow_client(run_folder).list_artifacts(parent.info.run_id)}
    assert {"table3.md", "table3.csv", "all.csv", "plan.txt", "report.md", "figures"} <= sent
    assert "report.html" in sent
    names = [f"M{m} 2x2s sample s0 SYNTHETIC" for m in (2, 3, 4)]
    assert [run.info.run_name for run in children] == names


@pytest.mark.slow
def test_a_study_s_scores_are_metrics_per_m_and_its_table_is_its_description(
    typed_study: Path,
) -> None:
    parent, _ = study_in_mlflow(typed_study)
    stored = metric_points(runs_by_members(typed_study)[2], parent)
    table = pd.read_csv(only_study(typed_study) / "all.csv").set_index("annealing.cycles")
    for name in ("score_4", "score_2"):
        assert stored[f"study/{name}"] == pytest.approx(dict(table[name]))
    leak, rows, *_ = parent.data.tags["mlflow.note.content"].split("\n\n")
    assert leak.startswith("**table3: SYNTHETIC")
    assert "TEST RECORDINGS ARE ALSO IN TRAINING" in leak
    assert rows in (only_study(typed_study) / "table3.md").read_text()
    assert parent.data.tags["mlflow.source.name"].endswith("sweep.py")


@pytest.mark.slow
def test_two_studies_share_a_run(sweep: Sweep) -> None:
    """It stays under the first one; the second has a link to it, and all its scores."""
    folder = sweep("annealing.cycles=1,2")
    first, (_, shared) = study_in_mlflow(folder)
    sweep("annealing.cycles=2,3", "loss=focal")
    runs = mlflow_runs(folder / "outputs" / "run")
    studies = [run for run in runs if "lungsound.study" in run.data.tags]
    (second,) = [run for run in studies if run.info.run_id != first.info.run_id]
    below = {}
    for run in runs:
        if "lungsound.study" not in run.data.tags:
            below[run.data.params["annealing.cycles"]] = run.data.tags["mlflow.parentRunId"]
    assert below == {"1": first.info.run_id, "2": first.info.run_id, "3": second.info.run_id}
    address = f"#/experiments/{shared.info.experiment_id}/runs/{shared.info.run_id}"
    link = f"[{shared.info.run_name}]({address})"
    assert link in second.data.tags["mlflow.note.content"]
    assert "](" not in first.data.tags["mlflow.note.content"]
    assert set(metric_points(folder / "outputs" / "run", second)["study/score_4"]) == {2, 3}


@pytest.mark.slow
def test_each_ensemble_is_the_one_trained_alone(
    typed_study: Path, run_training: Callable[..., Path], tmp_path: Path
) -> None:
    words = ("experiment=tiny", "annealing.epochs_per_cycle=1", "annealing.cycles=3")
    alone, shared = run_training(tmp_path, *words), runs_by_members(typed_study)[3]
    for name in ("predictions.parquet", "history.jsonl", "scores.json", "split.csv"):
        assert (alone / name).read_bytes() == (shared / name).read_bytes(), name
    for path in tmp_path.glob("store/trajectories/*/epoch-*.safetensors"):
        network = read_weights(path)["network"]
        other = read_weights(typed_study / path.relative_to(tmp_path))["network"]
        assert all((network[name] == other[name]).all() for name in network)


@pytest.mark.slow
def test_table_follows_from_the_predictions(typed_study: Path) -> None:
    table = pd.read_csv(only_study(typed_study) / "all.csv").set_index("annealing.cycles")
    columns = [f"p_{label}" for label in LABELS]
    for m, run in runs_by_members(typed_study).items():
        rows = pd.read_parquet(run / "predictions.parquet").query("set == 'test'")
        of_cycle = {"label": "first", **dict.fromkeys(columns, "mean")}
        cycles = rows.groupby(["recording", "cycle"]).agg(of_cycle)
        answers = [LABELS[place] for place in cycles[columns].to_numpy().argmax(axis=1)]
        counts = confusion_matrix(cycles["label"], answers, labels=LABELS)
        specificity = counts[0, 0] / counts[0].sum()
        sensitivity = counts.diagonal()[1:].sum() / counts[1:].sum()
        assert table.loc[m, "specificity"] == pytest.approx(specificity)
        assert table.loc[m, "score_4"] == pytest.approx((specificity + sensitivity) / 2)


@pytest.mark.slow
def test_synthetic_study_is_called_so_and_shows_no_score_of_the_paper(typed_study: Path) -> None:
    study = only_study(typed_study)
    report = (study / "report.md").read_text()
    assert all("SYNTHETIC" in line for line in report.splitlines() if line.startswith("#"))
    assert "0.784" not in report  # the paper's best score
    for name in ("score_against_members", "learning_curves"):
        assert (study / "figures" / f"{name}.png").stat().st_size > 10_000


@pytest.mark.slow
def test_report_is_made_again_without_training(
    typed_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(typed_study / "outputs", tmp_path / "outputs")
    study = only_study(tmp_path)

    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in study.rglob("*.*") if path.is_file()}

    before = content()
    (study / "table3.md").unlink()
    shutil.rmtree(study / "figures")
    with contextlib.chdir(tmp_path):
        run_lungsound("study", "report", study)
    assert content() == before
    assert "annealing.cycles splits" in capsys.readouterr().out


@pytest.mark.slow
def test_store_is_listed_and_cleared(
    typed_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(typed_study, tmp_path, dirs_exist_ok=True)
    places = ("--store", tmp_path / "store", "--outputs", tmp_path / "outputs")
    (trajectory,) = (tmp_path / "store" / "trajectories").glob("*/")

    def lines_of(*words: object) -> list[str]:
        run_lungsound("study", *words, *places)
        return capsys.readouterr().out.splitlines()

    size = sum(path.stat().st_size for path in trajectory.rglob("*") if path.is_file())
    _, line = lines_of("ls")
    assert line.split()[:2] == [trajectory.name, "4"]
    assert f"{size / 1e6:.1f} MB" in line
    names = [run.name for run in runs_by_members(typed_study).values()]
    assert all(name in line for name in names)
    (tmp_path / "outputs" / names[0] / "metadata.json").write_text("{")
    with pytest.raises(SystemExit) as end:
        lines_of("ls")
    _, line = capsys.readouterr().out.splitlines()
    assert [name in line for name in names] == [False, True, True]
    corrupt = str(end.value.code)  # Python prints it to stderr and exits with 1
    assert corrupt.startswith("not listed: ")
    assert names[0] in corrupt

    assert str(tmp_path / "store" / "waveforms") in "\n".join(lines_of("du"))
    quarantined = [
        trajectory / "epoch-0001.safetensors.damaged-1",
        tmp_path / "outputs" / names[1] / "split.csv.damaged-2",
        tmp_path / "store" / "demo" / "0123.damaged-1" / "1.wav.damaged-1",
    ]
    for path in quarantined:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(300_000))
    outside = tmp_path / "outside"
    outside.mkdir()
    (trajectory / "link.damaged-1").symlink_to(outside)
    *_, first, second, third, _, hint = lines_of("du")
    assert hint == "`lungsound study rm damaged` removes the quarantined files"
    assert [line.split()[:2] for line in (first, second, third)] == [["0.3", "MB"]] * 3
    assert sum("removed " in line for line in lines_of("rm", "damaged")) == 4
    assert not list(tmp_path.rglob("*damaged*"))
    assert outside.is_dir()
    with pytest.raises(LungsoundError, match="unknown: expected keys of trajectories"):
        lines_of("rm", trajectory.name, "unknown")
    assert trajectory.exists()
    (line,) = lines_of("rm", trajectory.name)
    assert line.startswith(f"removed {trajectory.name}, ")
    assert not trajectory.exists()


@pytest.mark.slow
def test_study_fails_in_part_goes_on_and_grows(
    sweep: Sweep,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained_epochs: list[int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    original = lungsound.runs.predict.predict_run

    def predict(settings: Any, parts: Any, folder: Any) -> object:
        if "-M2-" in str(folder.path):
            raise RuntimeError("the disk is full")
        return original(settings, parts, folder)

    with (
        monkeypatch.context() as patch,
        pytest.raises(SystemExit, match=r"1 of 3 jobs failed: annealing\.cycles=2\."),
    ):
        patch.setattr(lungsound.runs.predict, "predict_run", predict)
        sweep("annealing.cycles=1,2,3")
    assert trained_epochs == [1, 2, 3]
    missing = "missing: annealing.cycles=2: the disk is full"
    assert missing in (only_study(tmp_path) / "table3.md").read_text()
    assert swept_cycles(tmp_path) == [1, 3]
    assert mlflow_statuses(tmp_path) == ("FAILED", ["FINISHED", "FAILED", "FINISHED"])
    _, (_, failed, _) = study_in_mlflow(tmp_path)
    assert "the disk is full" in error_in_mlflow(tmp_path, failed)

    capfd.readouterr()
    sweep("annealing.cycles=1,2,3")  # what failed
    lines = re.findall(r"^job \d.*", capfd.readouterr().out, re.MULTILINE)
    assert [line.endswith("  finished before") for line in lines] == [True, False, True]
    assert trained_epochs == [1, 2, 3]
    assert "missing" not in (only_study(tmp_path) / "table3.md").read_text()
    assert mlflow_statuses(tmp_path) == ("FINISHED", ["FINISHED"] * 3)

    sweep("annealing.cycles=2,4")  # one more value, in the same study
    assert trained_epochs == [1, 2, 3, 4]
    assert swept_cycles(tmp_path) == [1, 2, 3, 4]
    assert len(mlflow_runs(tmp_path / "outputs" / "run")) == 5  # with their parent, no run twice

    words = ["experiment=tiny", "annealing.cycles=1,2,6"]
    lines = format_plan(plan_jobs(words)).splitlines()
    assert [line.split()[-1] for line in lines[2:5]] == ["finished", "finished", "do"]
    assert "9 epochs if each job trained alone; 2 are to be trained, 7 are not" in lines[6]
    again = format_plan(plan_jobs(["experiment=tiny", "annealing.cycles=1,2", "redo=true"]))
    assert "3 epochs if each job trained alone; 2 are to be trained, 1 are not" in again
    assert again.count("to do again") == 2
    shutil.rmtree(tmp_path / "store" / "trajectories")  # finished runs do not need it
    plan = format_plan(plan_jobs(["experiment=tiny", "annealing.cycles=1,2"]))
    assert "0 are to be trained, 3 are not" in plan


@pytest.mark.long
def test_full_disk_ends_a_study_that_goes_on_later(sweep: Sweep, tmp_path: Path) -> None:
    words = "annealing.cycles=1,2"
    with (
        disk_full_for(errno.ENOSPC, r"study\.json"),
        pytest.raises(StorageError, match=r"study\.json.*Make room"),
    ):
        sweep(words)
    full = r"metadata\.json|failed-.*\.json|all\.csv"  # the failures and the tables too
    with disk_full_for(errno.ENOSPC, full), pytest.raises(SystemExit, match=r"2 of 2 jobs failed"):
        sweep(words)
    sweep(words)
    assert swept_cycles(tmp_path) == [1, 2]
    assert mlflow_statuses(tmp_path) == ("FINISHED", ["FINISHED"] * 2)


@pytest.mark.slow
@pytest.mark.parametrize(("during", "cycles"), [("run", "1,2"), ("write_report", "1")])
def test_signal_between_jobs_or_after_them_stops_the_study(
    sweep: Sweep,
    tmp_path: Path,
    trained_epochs: list[int],
    monkeypatch: pytest.MonkeyPatch,
    during: str,
    cycles: str,
) -> None:
    module = lungsound.studies.work if during == "run" else lungsound.studies.study
    original = getattr(module, during)

    def signalled(*arguments: object) -> object:
        result = original(*arguments)
        signal.raise_signal(signal.SIGTERM)
        return result

    monkeypatch.setattr(module, during, signalled)
    with pytest.raises(SystemExit) as end:
        cli_command(sweep)(f"annealing.cycles={cycles}")
    assert end.value.code == 143
    assert trained_epochs == [1]  # of two jobs, the second was not begun
    assert mlflow_statuses(tmp_path) == ("KILLED", ["FINISHED"])


@pytest.mark.slow
@pytest.mark.parametrize("broken", [False, True])
def test_signal_during_the_last_sync_of_a_study_leaves_its_status(
    sweep: Sweep,
    tmp_path: Path,
    signal_during_final_sync: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: bool,
) -> None:
    if broken:
        monkeypatch.setattr(lungsound.runs.predict, "predict_run", fail)
    signal_during_final_sync(StudySync, signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        cli_command(sweep)("annealing.cycles=1", "seed=0")
    assert end.value.code == 143
    status = "FAILED" if broken else "FINISHED"
    assert mlflow_statuses(tmp_path) == (status, [status])
    line = "job 1/1  the run  error: nothing can be done here\n"
    assert (line in capsys.readouterr().err) == broken


def test_signal_during_the_last_sync_of_a_failed_job_stops_the_study(
    sweep: Sweep,
    tmp_path: Path,
    signal_during_final_sync: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trained_epochs: list[int],
) -> None:
    monkeypatch.setattr(lungsound.runs.predict, "predict_run", fail)
    signal_during_final_sync(MlflowSync, signal.SIGINT)
    with pytest.raises(SystemExit) as end:
        cli_command(sweep)("annealing.cycles=1,2")
    assert end.value.code == 130
    assert trained_epochs == [1]
    assert "\nerror: nothing can be done here" in capsys.readouterr().err
    assert mlflow_statuses(tmp_path) == ("KILLED", ["FAILED"])


@pytest.mark.slow
def test_folds_and_paddings_are_compared(sweep: Sweep, trained_epochs: list[int]) -> None:
    words = ("data.demo_patients=16", "data.demo_cycles=160", "annealing.cycles=1")
    split = ("split.protocol=patient", "split.folds=2", "split.fold=0,1")
    folder = sweep(*words, *split, "padding=zero,sample")
    assert len(trained_epochs) == 4  # four trajectories of one epoch
    table = pd.read_csv(only_study(folder) / "all.csv")
    columns = ["padding", "protocol", "splits"]
    assert table[columns].to_numpy().tolist() == [["zero", "patient", 2], ["sample", "patient", 2]]
    assert table["leak"].str.contains("No patient of the").all()
    differences = pd.read_csv(only_study(folder) / "differences.csv")
    assert differences["difference"].str.contains("sample").any()


def test_jobs_that_are_one_run_are_each_in_the_tables(
    sweep: Sweep, trained_epochs: list[int]
) -> None:
    """With a total number of epochs, that of a period has no effect."""
    words = ("annealing.epochs_per_cycle=1,2", "annealing.total_epochs=1", "annealing.cycles=1")
    folder = sweep(*words)
    assert len(list(folder.glob("outputs/*/metadata.json"))) == len(trained_epochs) == 1
    table = pd.read_csv(only_study(folder) / "all.csv")
    assert table["annealing.epochs_per_cycle"].tolist() == [1, 2]
    parent, _ = study_in_mlflow(folder)
    assert (parent.data.metrics["jobs"], parent.data.metrics["epochs_trained"]) == (2, 1)


@pytest.mark.slow
def test_a_worker_does_the_jobs_it_was_launched_for(
    sweep: Sweep,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained_epochs: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A cluster starts it after another command of the study, with other jobs in another order."""
    launched: list[tuple[Path, str]] = []

    def launch(plan: Path, _: object, trajectories: list[str], *__: object) -> None:
        launched.append((plan, trajectories[0]))

    monkeypatch.setattr(lungsound.studies.study, "launch", launch)
    for values in (("annealing.cycles=1,2", "split.seed=0,1"),
                   ("annealing.cycles=2,3", "split.seed=1,0")):  # fmt: skip
        with pytest.raises(SystemExit, match="4 of 4 jobs failed"):
            sweep(*values)
    train_trajectory(*launched[0])
    assert trained_epochs == [1, 2]
    printed = capsys.readouterr().out
    for number, line in ((1, "cycles=1 split.seed=0"), (3, "cycles=2 split.seed=0")):
        assert f"job {number}/4  annealing.{line}  4-class" in printed
    study = only_study(tmp_path)
    for path in map(Path, tmp_path.glob("outputs/*/SHA256SUMS")):
        assert read_failure(study, str(path.parent)) is None
    unfinished = {"annealing.cycles=3 split.seed=0", "annealing.cycles=3 split.seed=1",
                  "annealing.cycles=2 split.seed=1", "annealing.cycles=1 split.seed=1"}  # fmt: skip
    run_lungsound("study", "report", study)
    table = (study / "table3.md").read_text()
    assert set(re.findall(r"missing: (.*? split\.seed=\d)", table)) == unfinished
    assert len(list(study.glob("failed-*.json"))) == 4  # also of the job that only the first had


def test_a_worker_of_another_source_trains_nothing(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained_epochs: list[int]
) -> None:
    monkeypatch.setattr("lungsound.studies.work.source_hash", lambda: "of another version")
    with pytest.raises(SystemExit, match="1 of 1 jobs failed"):
        sweep("annealing.cycles=1")
    (job,) = read_study(study := only_study(tmp_path))["jobs"]
    failure = read_failure(study, job["run"])
    assert failure
    assert "the source of lungsound with which this job was launched" in failure["error"]
    assert not trained_epochs


@pytest.mark.slow
def test_launcher_that_dies_is_a_failed_study(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hydra prints its launcher's error, and exits. The output folder may have any name."""
    words = ("annealing.cycles=1", "output_dir='it\\'s (mine), 1'")
    with monkeypatch.context() as patch:
        patch.setattr("lungsound.studies.launch.run_trajectory", lambda _: sys.exit(1))
        with pytest.raises(LungsoundError, match="expected Hydra to launch the study's jobs"):
            sweep(*words)
    assert mlflow_statuses(tmp_path) == ("FAILED", ["FAILED"])  # without a word
    sweep(*words)
    assert mlflow_statuses(tmp_path) == ("FINISHED", ["FINISHED"])
    assert list(tmp_path.glob("it's (mine), 1/studies/*/report.md"))


@pytest.mark.slow
def test_redo_trains_a_shared_trajectory_once(sweep: Sweep, trained_epochs: list[int]) -> None:
    words = ("annealing.cycles=1", "annealing.select=best,last")  # one training, two ensembles
    folder = sweep(*words)
    before = result_bytes_by_run(folder)
    earlier = {run.info.run_id for run in study_in_mlflow(folder)[1]}
    sweep(*words, "redo=true")
    assert trained_epochs == [1] * 2
    assert result_bytes_by_run(folder) == before
    only_study(folder)  # it is the same study
    parent, children = study_in_mlflow(folder)
    assert earlier.isdisjoint(run.info.run_id for run in children)
    assert sorted(run.data.params["annealing.select"] for run in children) == ["best", "last"]
    runs = mlflow_runs(folder / "outputs" / "run")
    assert len(runs) == 5  # the earlier ones are kept, outside the study
    counts = {"jobs": 2, "jobs_finished": 2, "jobs_failed": 0, "epochs_trained": 1}
    assert counts.items() <= parent.data.metrics.items()


@pytest.mark.slow
def test_jobs_that_fail_before_they_are_runs_are_shown_until_they_are(
    sweep: Sweep,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for _ in range(2):  # the second failure takes the place of the first
        with monkeypatch.context() as patch, pytest.raises(SystemExit, match="2 of 2 jobs failed"):
            patch.setattr(lungsound.runs.run, "build_inputs", fail)
            sweep("annealing.cycles=1,2")
        assert "no tables: " in capsys.readouterr().err
        _, failed = study_in_mlflow(tmp_path)
        names = sorted(run.info.run_name for run in failed)
        assert names == ["annealing.cycles=1", "annealing.cycles=2"]
        assert "nothing can be done here" in error_in_mlflow(tmp_path, failed[0])
    sweep("annealing.cycles=1,2")
    assert mlflow_statuses(tmp_path) == ("FINISHED", ["FINISHED"] * 2)


@pytest.mark.parametrize("name", ["log_text", "set_terminated"])
def test_failed_job_that_mlflow_has_in_part_is_completed(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """One request fails after MLflow has the job's run."""
    original, failed = getattr(MlflowClient, name), []

    def fail_once(*arguments: object, **options: object) -> object:
        if not failed:
            failed.append(arguments)
            raise MlflowException("out of order")
        return original(*arguments, **options)

    monkeypatch.setattr(lungsound.tracking.background, "RETRY_DELAY_S", 0.01)
    monkeypatch.setattr(lungsound.runs.run, "build_inputs", fail)
    monkeypatch.setattr(MlflowClient, name, fail_once)
    with pytest.raises(SystemExit, match="2 of 2 jobs failed"):
        sweep("annealing.cycles=1,2")
    _, children = study_in_mlflow(tmp_path)
    client = mlflow_client(tmp_path / "outputs" / "run")
    assert [run.info.status for run in children] == ["FAILED"] * 2
    for run in children:
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["error.txt"]


@pytest.mark.slow
def test_study_whose_mlflow_is_down_is_sent_later(
    sweep: Sweep,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trained_epochs: list[int],
) -> None:
    monkeypatch.setattr(lungsound.tracking.background, "FINAL_RETRY_S", 0.0)
    folder = sweep("annealing.cycles=1,2", "tracking.uri=http://127.0.0.1:1")  # nobody listens
    assert trained_epochs == [1, 2]
    study = only_study(folder)
    *_, warning, last = capsys.readouterr().out.splitlines()
    assert last == f"study: {study.relative_to(folder)}"
    assert "Connection refused" in warning
    assert warning.endswith(f"lungsound send {study.relative_to(folder)}")
    assert (study / "table3.md").exists()
    for _ in range(2):  # the second time there is nothing to send
        send_folder(study, f"sqlite:///{folder / 'mlflow.db'}")
        parent, children = study_in_mlflow(folder)
        runs = mlflow_runs(folder / "outputs" / "run")
        assert [run.info.status for run in runs] == ["FINISHED"] * 3
        assert [run.data.params["annealing.cycles"] for run in children] == ["1", "2"]
        counts = {"jobs": 2, "jobs_finished": 2, "jobs_failed": 0, "epochs_trained": 2}
        assert counts.items() <= parent.data.metrics.items()
        for run in runs:
            metric_points(folder / "outputs" / "run", run)  # fails if a step was sent twice


def test_run_in_another_folder_than_planned_is_a_failed_job(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a line of the source changed while the study ran."""
    hashes = iter(f"source {number}" for number in range(10))
    monkeypatch.setattr(lungsound.runs.trajectory_key, "source_hash", lambda: next(hashes))
    with pytest.raises(SystemExit, match="1 of 1 jobs failed"):
        sweep("annealing.cycles=1")


@pytest.mark.long
def test_two_processes_share_one_trajectory(tmp_path: Path) -> None:
    """One trains; the other waits, and goes on from what is stored."""
    together, alone = tmp_path / "together", tmp_path / "alone"
    words = [("train.py", f"annealing.cycles={m}") for m in (2, 3)]
    processes = [start_command(*line, folder=together) for line in words]
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    metadata = [json.loads(path.read_text()) for path in together.glob("outputs/*/metadata.json")]
    assert sum(run["epochs_trained"] for run in metadata) == 3
    assert any("waiting for another process" in text for text in printed)
    for line in words:
        start_command(*line, folder=alone).communicate()
    assert result_bytes_by_run(alone) == result_bytes_by_run(together)


@pytest.mark.long
def test_process_that_waits_goes_on_if_the_one_that_trains_is_killed(tmp_path: Path) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"
    first = start_command("train.py", "annealing.cycles=4", folder=together)
    assert prints_line(first, "epoch 2/4")
    first.send_signal(signal.SIGSTOP)  # or it ends before the other begins
    second = start_command("train.py", "annealing.cycles=3", folder=together)
    try:
        assert prints_line(second, "waiting for another process")
    finally:
        first.kill()
    printed = second.communicate()[0]
    first.communicate()
    assert second.returncode == 0, printed
    assert start_command("train.py", "annealing.cycles=4", folder=together).wait() == 0
    for m in (3, 4):
        assert start_command("train.py", f"annealing.cycles={m}", folder=alone).wait() == 0
    assert result_bytes_by_run(alone) == result_bytes_by_run(together)


@pytest.mark.long
def test_jobs_side_by_side_give_the_same_results(tmp_path: Path) -> None:
    results = []
    for launcher in ("basic", "joblib"):
        words = ("annealing.cycles=1,2", "split.seed=0,1", f"hydra/launcher={launcher}")
        process = start_command("sweep.py", *words, folder=tmp_path / launcher)
        printed = process.communicate()[0]
        assert process.returncode == 0, printed
        table = (only_study(tmp_path / launcher) / "all.csv").read_bytes()
        results.append((result_bytes_by_run(tmp_path / launcher), table))
    assert results[0] == results[1]


@pytest.mark.long
def test_the_command_as_it_is_typed(tmp_path: Path) -> None:
    """With the demo's settings, all nine ensembles of the paper's Table III."""
    words = ("sweep.py", "-m", "annealing.cycles=2,3,...,10")
    process = start_command(*words, folder=tmp_path, experiment="demo")
    printed = process.communicate()[0]
    assert process.returncode == 0, printed
    assert list(runs_by_members(tmp_path)) == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    table = pd.read_csv(only_study(tmp_path) / "all.csv")
    assert table["score_4"].between(0.7, 1).all()
