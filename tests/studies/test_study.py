"""Studies on a small demo database: one trajectory for all ensembles, their tables, failures,
MLflow's tree.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from sklearn.metrics import confusion_matrix
from support.commands import run_lungsound
from support.disk import disk_full_for
from support.mlflow import mlflow_client, mlflow_runs
from support.runs import ROOT, SMALL_RUN_OVERRIDES, skip_rendering

import lungsound.runs.build
import lungsound.runs.estimate
import lungsound.runs.identity
import lungsound.runs.run
import lungsound.studies.study
import lungsound.tracking.background
from lungsound.cli.command import cli_command
from lungsound.cli.send import send_folder
from lungsound.errors import ConfigError, DataError, LungsoundError, StorageError
from lungsound.studies.jobs import compose_jobs, expand_jobs
from lungsound.studies.plan import REPORT_SECONDS, count_items, format_cost, format_plan, plan_jobs
from lungsound.studies.study import run_study, study_folder
from lungsound.tracking.sync import MlflowSync, StudySync
from lungsound.training.schedule import Annealing
from lungsound.training.weights import read_weights

LABELS = ["normal", "crackle", "wheeze", "both"]
COMMAND = ("sweep.py", "-m", "annealing.cycles=2,3,...,10")


@pytest.fixture(scope="module")
def example_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a user typed the command, with the experiment that is small enough for
    tests.
    """
    folder = tmp_path_factory.mktemp("typed")
    words = [sys.executable, str(ROOT / COMMAND[0]), *COMMAND[1:]]
    told = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "LUNGSOUND_EXPERIMENT": "tiny"},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    (folder / "told.txt").write_text(told.stdout)
    return folder


def only_study(folder: Path) -> Path:
    (path,) = (folder / "outputs" / "studies").glob("*/")
    return path


def runs_of(folder: Path) -> dict[int, Path]:
    """The run folders of the typed study by their number of members."""
    found = {
        int(path.parent.name.split("-M")[1].split("-")[0]): path.parent
        for path in folder.glob("outputs/*/metadata.json")
    }
    return dict(sorted(found.items()))


@pytest.fixture
def sweep(
    empty_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """`sweep(*words)`: a study in this process and in an empty folder; the folder."""
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)

    def run_sweep(*words: str) -> Path:
        small = ("experiment=tiny", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}")
        with skip_rendering():
            run_study([*small, *words])
        return tmp_path

    return run_sweep


def test_the_typed_command_trains_ten_periods_for_nine_ensembles(example_study: Path) -> None:
    runs = runs_of(example_study)
    assert list(runs) == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    trained = {
        m: json.loads((run / "metadata.json").read_text())["epochs_trained"]
        for m, run in runs.items()
    }
    assert trained == {
        2: 2,
        **dict.fromkeys(range(3, 11), 1),
    }  # an epoch a period, each trained once
    assert len(list((example_study / "store" / "trajectories").glob("*/"))) == 1
    told = (example_study / "told.txt").read_text()
    assert "54 epochs if each job trained alone; 10 are to be trained, 44 are not" in told
    assert told.splitlines()[-1] == f"study: {only_study(example_study).relative_to(example_study)}"


def test_nine_runs_lie_under_one_parent_in_mlflow(example_study: Path) -> None:
    runs = mlflow_runs(next(iter(runs_of(example_study).values())))
    parents = [run for run in runs if "lungsound.study" in run.data.tags]
    assert len(parents) == 1
    children = [
        run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id
    ]
    assert sorted(int(run.data.params["annealing.cycles"]) for run in children) == list(
        range(2, 11)
    )
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 10
    assert "SYNTHETIC" in parents[0].info.run_name
    client = mlflow_client(next(iter(runs_of(example_study).values())))
    sent = {file.path for file in client.list_artifacts(parents[0].info.run_id)}
    assert {"table3.md", "table3.csv", "all.csv", "plan.txt", "report.md", "figures"} <= sent


def test_each_ensemble_is_the_one_trained_alone(
    example_study: Path, run_training: Callable[..., Path], tmp_path: Path
) -> None:
    alone = run_training(
        tmp_path, "experiment=tiny", "annealing.epochs_per_cycle=1", "annealing.cycles=3"
    )
    shared = runs_of(example_study)[3]
    for name in ("predictions.parquet", "history.jsonl", "scores.json", "split.csv"):
        assert (alone / name).read_bytes() == (shared / name).read_bytes(), name
    stored = example_study / "store" / "trajectories"
    for path in (tmp_path / "store" / "trajectories").glob("*/epoch-*.safetensors"):
        mine, theirs = read_weights(path), read_weights(stored / path.parent.name / path.name)
        assert all(
            (mine["network"][name] == theirs["network"][name]).all() for name in mine["network"]
        )


def test_the_table_follows_from_the_predictions(example_study: Path) -> None:
    table = pd.read_csv(only_study(example_study) / "all.csv").set_index("annealing.cycles")
    for m, run in runs_of(example_study).items():
        rows = pd.read_parquet(run / "predictions.parquet").query("set == 'test'")
        columns = [f"p_{label}" for label in LABELS]
        cycles = rows.groupby(["recording", "cycle"]).agg(
            {"label": "first", **dict.fromkeys(columns, "mean")}
        )
        answers = [LABELS[place] for place in cycles[columns].to_numpy().argmax(axis=1)]
        counts = confusion_matrix(cycles["label"], answers, labels=LABELS)
        specificity = counts[0, 0] / counts[0].sum()
        sensitivity = counts.diagonal()[1:].sum() / counts[1:].sum()
        assert table.loc[m, "specificity"] == pytest.approx(specificity)
        assert table.loc[m, "score_4"] == pytest.approx((specificity + sensitivity) / 2)


def test_a_synthetic_study_says_so_and_shows_no_paper(example_study: Path) -> None:
    report = (only_study(example_study) / "report.md").read_text()
    for line in report.splitlines():
        if line.startswith("#"):
            assert "SYNTHETIC" in line
    assert "0.784" not in report  # the paper's best score
    for name in ("score_against_members", "learning_curves"):
        assert (only_study(example_study) / "figures" / f"{name}.png").stat().st_size > 10_000


def test_report_is_made_again_without_training(
    example_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(example_study / "outputs", tmp_path / "outputs")

    def content() -> dict[str, bytes]:
        return {
            path.name: path.read_bytes()
            for path in only_study(tmp_path).rglob("*.*")
            if path.is_file()
        }

    before = content()
    for path in only_study(tmp_path).glob("table3.*"):
        path.unlink()
    shutil.rmtree(only_study(tmp_path) / "figures")
    with contextlib.chdir(tmp_path):
        run_lungsound("study", "report", str(only_study(tmp_path)))
    assert content() == before
    assert "| annealing.cycles |" in capsys.readouterr().out


def test_store_is_listed_and_cleared(
    example_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(example_study, tmp_path, dirs_exist_ok=True)
    places = ["--store", str(tmp_path / "store"), "--outputs", str(tmp_path / "outputs")]
    (trajectory,) = (tmp_path / "store" / "trajectories").glob("*/")
    size = sum(path.stat().st_size for path in trajectory.rglob("*") if path.is_file())
    run_lungsound("study", "ls", *places)
    _, line = capsys.readouterr().out.splitlines()
    assert line.split()[:2] == [trajectory.name, "10"]
    assert f"{size / 1e6:.1f} MB" in line
    assert all(run.name in line for run in runs_of(example_study).values())
    run_lungsound("study", "du", *places)
    assert str(tmp_path / "store" / "waveforms") in capsys.readouterr().out
    asides = [
        trajectory / "epoch-0001.safetensors.damaged-1",
        next(tmp_path.glob("outputs/*/")) / "split.csv.damaged-2",
    ]
    asides.append(tmp_path / "store" / "demo" / "0123.damaged-1" / "1.wav.damaged-1")
    for aside in asides:
        aside.parent.mkdir(exist_ok=True)
        aside.write_bytes(bytes(300_000))
    run_lungsound("study", "du", *places)
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == "`lungsound study rm damaged` removes the quarantined files"
    assert [line.split()[:2] for line in told[-4:-1]] == [["0.3", "MB"]] * 3
    run_lungsound("study", "rm", *places, "damaged")
    assert capsys.readouterr().out.count("removed ") == 3
    assert not list(tmp_path.rglob("*damaged*"))
    assert trajectory.exists()
    run_lungsound("study", "rm", trajectory.name, *places)
    assert not trajectory.exists()


def test_one_more_value_trains_only_what_is_new(
    sweep: Callable[..., Path], trained_epochs: list[int]
) -> None:
    folder = sweep("annealing.cycles=1,2")
    assert trained_epochs == [1, 2]
    trained_epochs.clear()
    sweep("annealing.cycles=1,2,3")
    assert trained_epochs == [3]
    assert pd.read_csv(only_study(folder) / "all.csv")["annealing.cycles"].tolist() == [1, 2, 3]
    trained_epochs.clear()
    sweep("annealing.cycles=1,2,3")
    assert trained_epochs == []
    runs = mlflow_runs(folder / "outputs" / "run")
    assert len(runs) == 4  # three and their parent, no run twice


def test_a_failed_job_is_a_failed_run_and_the_others_go_on(
    sweep: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = lungsound.runs.run.predict_run

    def predict(settings: object, parts: object, folder: object) -> object:
        if "-M2-" in str(folder.path):  # type: ignore[attr-defined]
            raise RuntimeError("the disk is full")
        return original(settings, parts, folder)  # type: ignore[arg-type]

    with (
        monkeypatch.context() as patch,
        pytest.raises(SystemExit, match=r"1 of 3 jobs failed: annealing\.cycles=2"),
    ):
        patch.setattr(lungsound.runs.run, "predict_run", predict)
        sweep("annealing.cycles=1,2,3")
    table = (only_study(tmp_path) / "table3.md").read_text()
    assert "missing: annealing.cycles=2" in table
    assert pd.read_csv(only_study(tmp_path) / "all.csv")["annealing.cycles"].tolist() == [1, 3]
    runs = mlflow_runs(tmp_path / "outputs" / "run")
    (failed,) = [run for run in runs if run.data.params.get("annealing.cycles") == "2"]
    assert failed.info.status == "FAILED"
    client = mlflow_client(tmp_path / "outputs" / "run")
    error = Path(client.download_artifacts(failed.info.run_id, "error.txt", str(tmp_path)))
    assert "the disk is full" in error.read_text()
    (parent,) = [run for run in runs if "lungsound.study" in run.data.tags]
    assert parent.info.status == "FAILED"
    sweep("annealing.cycles=1,2,3")
    assert "missing" not in (only_study(tmp_path) / "table3.md").read_text()
    assert {run.info.status for run in mlflow_runs(tmp_path / "outputs" / "run")} == {"FINISHED"}


@pytest.mark.slow
def test_a_full_disk_ends_a_study_that_goes_on_later(
    sweep: Callable[..., Path], tmp_path: Path
) -> None:
    words = "annealing.cycles=1,2"
    with (
        disk_full_for(errno.ENOSPC, r"study\.json"),
        pytest.raises(StorageError, match=r"study\.json.*Make room"),
    ):
        sweep(words)
    full = r"metadata\.json|failed-.\.json|all\.csv"  # also for the word of what failed, and for the tables
    with disk_full_for(errno.ENOSPC, full), pytest.raises(SystemExit, match=r"2 of 2 jobs failed"):
        sweep(words)
    sweep(words)
    assert pd.read_csv(only_study(tmp_path) / "all.csv")["annealing.cycles"].tolist() == [1, 2]
    assert {run.info.status for run in mlflow_runs(tmp_path / "outputs" / "run")} == {"FINISHED"}


@pytest.mark.parametrize(("where", "begun"), [("run", [1]), ("finish", [1, 2])])
def test_a_signal_between_jobs_or_after_them_stops_the_study(
    sweep: Callable[..., Path], tmp_path: Path, trained_epochs: list[int], monkeypatch: pytest.MonkeyPatch,
    where: str, begun: list[int],
) -> None:  # fmt: skip
    owner, name = {
        "run": (lungsound.studies.study, "run"),
        "finish": (lungsound.studies.study, "write_report"),
    }[where]
    original = getattr(owner, name)

    def signalled(*arguments: object) -> object:
        result = original(*arguments)
        signal.raise_signal(signal.SIGTERM)
        return result

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(owner, name, signalled)
        cli_command(sweep)("annealing.cycles=1,2")
    assert end.value.code == 143
    assert trained_epochs == begun  # with "run", the second job was not begun
    runs = mlflow_runs(tmp_path / "outputs" / "run")
    (parent,) = [run for run in runs if "lungsound.study" in run.data.tags]
    assert parent.info.status == "KILLED"
    assert {run.info.status for run in runs if run is not parent} == {"FINISHED"}


@pytest.mark.parametrize("broken", [False, True])
def test_a_signal_while_a_study_waits_for_mlflow(
    sweep: Callable[..., Path], tmp_path: Path, signal_during_final_sync: Callable[..., None], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], broken: bool,
) -> None:  # fmt: skip
    """It is what it came to by then, and so are its jobs."""

    def fail(*_: object) -> None:
        raise LungsoundError("nothing can be predicted here")

    if broken:
        monkeypatch.setattr(lungsound.runs.run, "predict_run", fail)
    signal_during_final_sync(StudySync, signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        cli_command(sweep)("annealing.cycles=1", "seed=0,1")
    assert end.value.code == 143
    statuses = [run.info.status for run in mlflow_runs(tmp_path / "outputs" / "run")]
    assert statuses == ["FAILED" if broken else "FINISHED"] * 3
    assert ("error: nothing can be predicted here" in capsys.readouterr().err) == broken


def test_a_signal_while_a_job_that_failed_waits_for_mlflow_stops_the_study(
    sweep: Callable[..., Path], tmp_path: Path, signal_during_final_sync: Callable[..., None], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], trained_epochs: list[int],
) -> None:  # fmt: skip
    def fail(*_: object) -> None:
        raise LungsoundError("nothing can be predicted here")

    monkeypatch.setattr(lungsound.runs.run, "predict_run", fail)
    signal_during_final_sync(MlflowSync, signal.SIGINT)
    with pytest.raises(SystemExit) as end:
        cli_command(sweep)("annealing.cycles=1,2")
    assert end.value.code == 130
    assert trained_epochs == [1]
    assert "\nerror: nothing can be predicted here" in capsys.readouterr().err
    runs = mlflow_runs(tmp_path / "outputs" / "run")
    statuses = {"lungsound.study" in run.data.tags: run.info.status for run in runs}
    assert statuses == {True: "KILLED", False: "FAILED"}


def test_splits_and_paddings_are_compared(
    sweep: Callable[..., Path], trained_epochs: list[int]
) -> None:
    folder = sweep("padding=zero,sample", "split.seed=0,1", "annealing.cycles=1")
    assert len(trained_epochs) == 4  # four trajectories of one epoch
    table = pd.read_csv(only_study(folder) / "all.csv")
    assert sorted(table["padding"]) == ["sample", "zero"]
    assert table["splits"].tolist() == [2, 2]
    differences = pd.read_csv(only_study(folder) / "differences.csv")
    assert differences["difference"].str.contains("sample").any()


def test_all_jobs_are_checked_before_the_first(
    sweep: Callable[..., Path], tmp_path: Path, trained_epochs: list[int]
) -> None:
    with pytest.raises(ConfigError) as error:
        sweep("annealing.cycles=2,0,3", "segment=2x2s,17s")
    told = str(error.value).splitlines()
    assert told[0] == "4 of 6 jobs cannot be run; none was begun:"
    assert sum("annealing.cycles: expected at least 1 and" in line for line in told) == 1
    assert sum("17s" in line for line in told) == 3
    assert not (tmp_path / "outputs").exists()
    assert not trained_epochs


def test_jobs_that_their_data_refuse_are_all_named(
    sweep: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        sweep("split=patient", "split.folds=3,50,60", "plan=true")
    first, *told = str(error.value).splitlines()
    assert first == "2 of 3 jobs cannot be run; none was begun:"
    assert [line.split(": ")[0] for line in told] == ["  - split.folds=50", "  - split.folds=60"]
    assert "at least 60 patients" in told[1]
    with pytest.raises(
        DataError, match=r"^No ICBHI recordings at"
    ):  # what is wrong for all is told once
        sweep("data=icbhi", f"data.root={tmp_path / 'nothing'}", "seed=1,2")


def test_jobs_that_come_to_one_run_are_each_in_the_tables(
    sweep: Callable[..., Path], trained_epochs: list[int]
) -> None:
    """With a number of epochs in all, a period's own number is of no use."""
    folder = sweep(
        "annealing.epochs_per_cycle=1,2", "annealing.total_epochs=2", "annealing.cycles=1,2"
    )
    assert len(list(folder.glob("outputs/*/metadata.json"))) == 2
    table = pd.read_csv(only_study(folder) / "all.csv")
    assert table.groupby("annealing.epochs_per_cycle")["annealing.cycles"].apply(
        list
    ).to_dict() == {
        1: [1, 2],
        2: [1, 2],
    }
    parent = next(
        run for run in mlflow_runs(folder / "outputs" / "run") if "lungsound.study" in run.data.tags
    )
    assert parent.data.metrics["jobs"] == 4 and parent.data.metrics["epochs_trained"] == len(
        trained_epochs
    )


def test_other_data_or_another_source_are_another_study(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their runs must not come to stand in one row."""
    (demo,) = (
        path
        for path in (finished_run.parents[1] / "store" / "demo").iterdir()
        if not path.name.startswith(".")
    )
    root = shutil.copytree(demo, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)

    def name(*words: str) -> str:
        return study_folder(
            plan_jobs(["experiment=tiny", "data=icbhi", f"data.root={root}", *words])
        ).name

    one = name("split.seed=0,1")
    assert name("split.seed=2,3") == one
    with monkeypatch.context() as patch:
        patch.setattr(lungsound.studies.study, "source_hash", lambda: "other")
        assert name("split.seed=0,1") != one
    annotations = max(root.rglob("*_*.txt"), key=lambda path: len(path.read_text().splitlines()))
    annotations.write_text("".join(annotations.read_text().splitlines(keepends=True)[:-1]))
    assert name("split.seed=0,1") != one


def test_the_protocol_shown_is_the_one_that_is_used(sweep: Callable[..., Path]) -> None:
    words = ("data.demo_patients=16", "data.demo_cycles=160", "annealing.cycles=1")
    folder = sweep(*words, "split.protocol=patient", "split.folds=2", "split.fold=0,1")
    table = pd.read_csv(only_study(folder) / "all.csv")
    assert table[["protocol", "splits"]].to_numpy().tolist() == [["patient", 2]]
    assert "No patient of the" in table["leak"][0]


def test_an_output_folder_may_have_any_name(sweep: Callable[..., Path], tmp_path: Path) -> None:
    sweep("annealing.cycles=1", "output_dir='it\\'s (mine), 1'")
    assert list(tmp_path.glob("it's (mine), 1/studies/*/report.md"))


def test_places_are_checked_before_any_data(
    sweep: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "lungsound.studies.plan.build_database", lambda _: pytest.fail("work began")
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="output_dir=file/out: expected a place"):
        sweep("annealing.cycles=1,2", "output_dir=file/out")
    with pytest.raises(
        LungsoundError, match="output_dir=file/out"
    ):  # also where only some jobs write there
        sweep("output_dir=outputs,file/out")
    with pytest.raises(LungsoundError, match=r"tracking\.uri"):
        sweep("tracking.uri=nonsense://here")


def test_a_launcher_that_dies_is_a_failed_study(
    sweep: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hydra prints what went wrong in its launcher, and exits."""

    def status() -> str:
        runs = mlflow_runs(tmp_path / "outputs" / "run")
        (parent,) = (run for run in runs if "lungsound.study" in run.data.tags)
        return str(parent.info.status)

    with monkeypatch.context() as patch:
        patch.setattr("lungsound.studies.study.run_job", lambda _: sys.exit(1))
        with pytest.raises(LungsoundError, match="expected Hydra to launch the study's jobs"):
            sweep("annealing.cycles=1,2")
    assert status() == "FAILED"
    sweep("annealing.cycles=1,2")
    assert status() == "FINISHED"


def test_the_plan_says_what_is_shared(
    sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str], trained_epochs: list[int]
) -> None:
    sweep("annealing.cycles=2,3,4", "annealing.total_epochs=9", "plan=true")
    told = capsys.readouterr().out
    assert "Trajectories: 3." in told  # C = 4, 3 and 2
    assert "25 epochs if each job trained alone; 25 are to be trained, 0 are not" in told
    sweep("annealing.cycles=4,5", "annealing.total_epochs=11", "plan=true")  # C = 2 for both
    assert (
        "18 epochs if each job trained alone; 10 are to be trained, 8 are not"
        in capsys.readouterr().out
    )
    assert not trained_epochs


def planned_epochs(plan: str) -> dict[str, int]:
    """job -> its epochs, from the printed table."""
    rows = re.findall(r"^(annealing\S*=.*?) +(\d+) +T\d+  ", plan, flags=re.MULTILINE)
    return {job: int(epochs) for job, epochs in rows}


def test_the_constant_baseline_does_not_follow_the_number_of_members(
    sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Table IV's baseline has 150 epochs, whatever M is."""
    tiny = ("experiment=tiny", "annealing=constant,cosine")
    table4 = ("annealing.epochs_per_cycle=20", "annealing.constant_epochs=150", "plan=true")
    sweep(*tiny, *table4, "annealing.cycles=8")
    assert planned_epochs(capsys.readouterr().out) == {
        "annealing=constant": 150,
        "annealing=cosine": 160,
    }
    sweep(*tiny, *table4, "annealing.cycles=2,10")
    assert planned_epochs(capsys.readouterr().out) == {
        "annealing=constant annealing.cycles=2": 150,
        "annealing=constant annealing.cycles=10": 150,
        "annealing=cosine annealing.cycles=2": 40,
        "annealing=cosine annealing.cycles=10": 200,
    }
    jobs = compose_jobs(["experiment=table4", "annealing.cycles=8", "data.root=/icbhi"])
    budgets = {Annealing(**vars(job.settings.annealing)).epochs for job in jobs}
    assert budgets == {150, 160}


# What must make another training path, and what must not.
OTHER_PATH = (
    *(
        "seed=1",
        "split.seed=1",
        "padding=zero",
        "segment=3s",
        "features.n_mels=48",
        "features.roll=false",
    ),
    *(
        "augment=none",
        "augment.redraw=epoch",
        "model.l2=0",
        "model.table1=outputs",
        "loss=cross_entropy",
    ),
    *(
        "annealing.epochs_per_cycle=3",
        "annealing.max_lr=1e-3",
        "annealing.continue_from=best",
        "task=two_class",
    ),
    *("trainer.precision=bf16-mixed", "trainer.batch_size=16", "data.demo_seed=1"),
    "trainer.matmul_precision=high",
)
SAME_PATH = (
    *(
        "annealing.cycles=3",
        "annealing.select=last",
        "annealing.monitor=loss",
        "trainer.num_workers=2",
    ),
    *(
        "tracking.experiment=other",
        "tracking.log_snapshots=true",
        "output_dir=elsewhere",
        "redo=true",
    ),
    "trainer.deterministic=false",
)


def test_what_makes_another_trajectory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def key(*words: str) -> str:
        (job,) = plan_jobs([*SMALL_RUN_OVERRIDES, *words])
        return job.inputs.trajectory.folder.name

    usual = key()
    for word in SAME_PATH:
        assert key(word) == usual, word
    keys = {word: key(word) for word in OTHER_PATH}
    assert usual not in keys.values()
    assert len(set(keys.values())) == len(keys)
    # The monitor shapes the path only where the next period goes on from the best.
    assert (
        key("annealing.continue_from=best", "annealing.monitor=loss")
        != keys["annealing.continue_from=best"]
    )


@pytest.mark.parametrize("name", ["training/losses.py", "runs/build.py", "runs/predict.py"])
def test_a_changed_line_of_the_method_makes_another_trajectory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The store keeps weights and probabilities: both follow from these modules."""
    copy = tmp_path / "lungsound"
    shutil.copytree(ROOT / "lungsound", copy)
    source_hash = lungsound.runs.identity.source_hash.__wrapped__  # a process keeps its first
    before = source_hash()
    monkeypatch.setattr(lungsound.runs.identity, "PACKAGE", copy)
    assert source_hash() == before
    source = (copy / name).read_text()
    (copy / name).write_text("# A comment.\n" + source.replace('"""', '"""Other words: ', 1))
    assert source_hash() == before
    (copy / name).write_text(source + "GAMMA = 1\n")
    assert source_hash() != before


@pytest.mark.parametrize("experiment", ["table2", "table3", "table4", "table3_demo"])
def test_the_papers_studies_have_their_jobs(
    experiment: str,
) -> None:
    jobs = {"table2": 10 * 2 * 16, "table3": 10 * 9, "table4": 10 * 2, "table3_demo": 3 * 9}
    all_jobs = expand_jobs([f"experiment={experiment}"])
    seeds = {job["split.seed"] for job in all_jobs}
    assert len(all_jobs) == jobs[experiment]
    one_seed = expand_jobs([f"experiment={experiment}", "split.seed=4"])
    assert len(one_seed) == jobs[experiment] // len(seeds)


def test_plan_of_real_jobs_names_finished_ones(
    sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sweep("annealing.cycles=1,2")
    jobs = plan_jobs(
        [
            "experiment=tiny",
            f"tracking.uri=sqlite:///{folder / 'mlflow.db'}",
            "annealing.cycles=1,2,4",
        ]
    )
    lines = format_plan(jobs).splitlines()
    assert [line.split()[-1] for line in lines[1:4]] == ["finished", "finished", "do"]
    assert "7 epochs if each job trained alone; 2 are to be trained, 5 are not" in lines[5]
    again = format_plan(plan_jobs(["experiment=tiny", "annealing.cycles=1,2", "redo=true"]))
    assert "3 epochs if each job trained alone; 2 are to be trained, 1 are not" in again
    assert again.count("to do again") == 2
    shutil.rmtree(
        folder / "store" / "trajectories"
    )  # what was trained is not trained for its stored path's sake
    assert "0 are to be trained, 3 are not" in format_plan(
        plan_jobs(["experiment=tiny", "annealing.cycles=1,2"])
    )


def children_of(folder: Path) -> list[Run]:
    """The runs under the only study in the MLflow page's tree."""
    runs = mlflow_runs(folder / "outputs" / "run")
    (parent,) = [run for run in runs if "lungsound.study" in run.data.tags]
    return [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]


def test_redo_trains_the_shared_path_once(
    sweep: Callable[..., Path], trained_epochs: list[int]
) -> None:
    words = (
        "annealing.cycles=2",
        "annealing.select=best,last",
    )  # which weights are kept is not what is trained
    folder = sweep(*words)
    earlier, before = {run.info.run_id for run in children_of(folder)}, result_bytes(folder)
    trained_epochs.clear()
    sweep(*words, "redo=true")
    assert trained_epochs == [1, 2]
    assert result_bytes(folder) == before
    assert len(list((folder / "outputs" / "studies").glob("*/"))) == 1  # it is the same study
    children = children_of(folder)
    assert len(children) == 2 and not {run.info.run_id for run in children} & earlier
    assert sorted(run.data.params["annealing.select"] for run in children) == [
        "best",
        "last",
    ]  # the page compares by it
    runs = mlflow_runs(folder / "outputs" / "run")
    assert len(runs) == 5  # the earlier ones are there, outside the study
    (parent,) = [run for run in runs if "lungsound.study" in run.data.tags]
    assert parent.data.metrics == {
        "jobs": 2,
        "jobs_finished": 2,
        "jobs_failed": 0,
        "epochs_trained": 2,
    }


def test_how_runs_are_made_is_not_what_a_study_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    usual = study_folder(plan_jobs([*SMALL_RUN_OVERRIDES, "padding=zero,sample"]))
    for word in (
        "redo=true",
        "hydra/launcher=joblib",
        "tracking.experiment=other",
        "trainer.num_workers=1",
    ):
        assert (
            study_folder(plan_jobs([*SMALL_RUN_OVERRIDES, "padding=zero,sample", word])) == usual
        ), word
    assert (
        study_folder(plan_jobs([*SMALL_RUN_OVERRIDES, "padding=zero,sample", "segment=3s"]))
        != usual
    )


def test_words_that_hydra_cannot_read_are_one_message(sweep: Callable[..., Path]) -> None:
    for word in ("nonsense=4", "--nonsense", "segment="):
        with pytest.raises(ConfigError, match=word):
            sweep("annealing.cycles=1,2", word)


def test_jobs_that_fail_before_they_are_runs_are_shown_until_they_are(
    sweep: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: object) -> None:
        raise LungsoundError("nothing can be built here")

    for _ in range(2):  # the second failure takes the place of the first
        with monkeypatch.context() as patch, pytest.raises(SystemExit, match="2 of 2 jobs failed"):
            patch.setattr(lungsound.runs.run, "build_components", broken)
            sweep("annealing.cycles=1,2")
        assert "no tables: " in capsys.readouterr().err
        failed = children_of(tmp_path)
        assert sorted(run.info.run_name for run in failed) == [
            "annealing.cycles=1",
            "annealing.cycles=2",
        ]
        client = mlflow_client(tmp_path / "outputs" / "run")
        error = Path(client.download_artifacts(failed[0].info.run_id, "error.txt", str(tmp_path)))
        assert "nothing can be built here" in error.read_text()
    sweep("annealing.cycles=1,2")
    assert [run.info.status for run in children_of(tmp_path)] == ["FINISHED"] * 2


@pytest.mark.parametrize("name", ["log_text", "set_terminated"])
def test_a_failed_job_that_mlflow_has_in_part_is_completed(
    sweep: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """One request fails after the job's run was made."""
    original, failed = getattr(MlflowClient, name), []

    def broken(*_: object) -> None:
        raise LungsoundError("nothing can be built here")

    def fail_once(*arguments: object, **known: object) -> object:
        if not failed:
            failed.append(arguments)
            raise MlflowException("out of order")
        return original(*arguments, **known)

    monkeypatch.setattr(lungsound.tracking.background, "RETRY_DELAY_S", 0.01)
    monkeypatch.setattr(lungsound.runs.run, "build_components", broken)
    monkeypatch.setattr(MlflowClient, name, fail_once)
    with pytest.raises(SystemExit, match="2 of 2 jobs failed"):
        sweep("annealing.cycles=1,2")
    children, client = children_of(tmp_path), mlflow_client(tmp_path / "outputs" / "run")
    assert [run.info.status for run in children] == ["FAILED"] * 2
    for run in children:
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["error.txt"]


def test_a_study_whose_mlflow_is_down_is_sent_later(
    sweep: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trained_epochs: list[int],
) -> None:
    monkeypatch.setattr(lungsound.tracking.background, "FINAL_RETRY_S", 0.0)
    folder = sweep(
        "annealing.cycles=1,2", "tracking.uri=http://127.0.0.1:1"
    )  # nobody listens there
    assert trained_epochs == [1, 2]
    place = only_study(folder)
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == f"study: {place.relative_to(folder)}"
    assert "Connection refused" in told[-2]
    assert told[-2].endswith(f"lungsound send {place.relative_to(folder)}")
    assert (place / "table3.md").exists()
    for _ in range(2):  # the second time there is nothing to send
        send_folder(place, f"sqlite:///{folder / 'mlflow.db'}")
        runs = mlflow_runs(folder / "outputs" / "run")
        assert len(runs) == 3
        assert {run.info.status for run in runs} == {"FINISHED"}
        assert sorted(run.data.params["annealing.cycles"] for run in children_of(folder)) == [
            "1",
            "2",
        ]
        (parent,) = [run for run in runs if "lungsound.study" in run.data.tags]
        assert parent.data.metrics == {
            "jobs": 2,
            "jobs_finished": 2,
            "jobs_failed": 0,
            "epochs_trained": 2,
        }
        client = mlflow_client(folder / "outputs" / "run")
        for run in runs:
            for name in run.data.metrics:
                steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
                assert len(steps) == len(set(steps))


def test_a_run_that_comes_out_elsewhere_is_a_failed_job(
    sweep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = iter(
        f"source {number}" for number in range(10)
    )  # as when a line of it is changed meanwhile
    monkeypatch.setattr(lungsound.runs.identity, "source_hash", lambda: next(hashes))
    with pytest.raises(SystemExit, match="1 of 1 jobs failed"):
        sweep("annealing.cycles=1")


@pytest.mark.parametrize("augment", ["none", "paper"])
def test_the_expected_time_is_of_the_jobs_own_cycles(
    augment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (job,) = plan_jobs([*SMALL_RUN_OVERRIDES, f"augment={augment}", "augment.stretch=none"])
    datamodule = lungsound.runs.build.build_components(job.settings).datamodule
    assert count_items(job, "train") == len(datamodule.training_batches(1).items)
    for name in ("val", "test"):
        segments = sum(len(batch["cycle"]) for batch in datamodule.eval_dataloader(name))
        assert count_items(job, name) == segments * job.settings.segment.chunks


def test_the_expected_time_is_that_of_all_that_is_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training each shared epoch once, with its validation; every member's answers of every job;
    its report.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lungsound.runs.estimate, "time_training_step", lambda *_: 3.0)
    jobs = plan_jobs(["experiment=tiny", "annealing.cycles=1,2"])
    train, val, test = (count_items(jobs[0], name) for name in ("train", "val", "test"))
    expected = 2 * (3 * train + val) + (1 + 2) * (val + test) + 2 * REPORT_SECONDS
    assert f"About {timedelta(seconds=expected)} on this machine" in format_cost(jobs)


def start_cli(*words: str, folder: Path) -> subprocess.Popen[str]:
    """A command of the tiny experiment, begun in `folder`."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / words[0]), *words[1:]],
        cwd=folder,
        env={**os.environ, "LUNGSOUND_EXPERIMENT": "tiny"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def result_bytes(folder: Path) -> dict[str, dict[str, bytes]]:
    """Each run's predictions and history, by the run's name."""
    names = ("predictions.parquet", "history.jsonl")
    return {path.parent.name: {name: (path.parent / name).read_bytes() for name in names}
            for path in folder.glob("outputs/*/metadata.json")}  # fmt: skip


@pytest.mark.slow
def test_two_processes_want_one_trajectory(tmp_path: Path) -> None:
    """One trains, the other waits and takes what is there; the one that dies is followed by the
    other.
    """
    both = [start_cli("train.py", f"annealing.cycles={m}", folder=tmp_path) for m in (2, 3)]
    told = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    facts = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/*/metadata.json")]
    assert sum(fact["epochs_trained"] for fact in facts) == 3
    assert any("waiting for another process" in text for text in told)
    alone = tmp_path / "alone"
    alone.mkdir()
    for m in (2, 3):
        start_cli("train.py", f"annealing.cycles={m}", folder=alone).communicate()
    assert result_bytes(alone) == result_bytes(tmp_path)


@pytest.mark.slow
def test_a_trainer_that_is_killed_is_followed_by_who_waits(tmp_path: Path) -> None:
    first = start_cli("train.py", "annealing.cycles=4", folder=tmp_path)
    assert first.stdout
    assert any(
        line.startswith("epoch 2/4") for line in first.stdout
    )  # reads until it has trained two
    second = start_cli("train.py", "annealing.cycles=3", folder=tmp_path)
    first.kill()
    told = second.communicate()[0]
    first.communicate()
    assert second.returncode == 0, told
    assert start_cli("train.py", "annealing.cycles=4", folder=tmp_path).wait() == 0
    alone = tmp_path / "alone"
    alone.mkdir()
    for m in (3, 4):
        assert start_cli("train.py", f"annealing.cycles={m}", folder=alone).wait() == 0
    assert result_bytes(alone) == result_bytes(tmp_path)


@pytest.mark.slow
def test_jobs_side_by_side_come_to_the_same(tmp_path: Path) -> None:
    for name, launcher in (("one", "basic"), ("both", "joblib")):
        (tmp_path / name).mkdir()
        words = ("annealing.cycles=1,2", "split.seed=0,1", f"hydra/launcher={launcher}")
        process = start_cli("sweep.py", *words, folder=tmp_path / name)
        told = process.communicate()[0]
        assert process.returncode == 0, told
    assert result_bytes(tmp_path / "one") == result_bytes(tmp_path / "both")
    tables = [(only_study(tmp_path / name) / "all.csv").read_bytes() for name in ("one", "both")]
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_the_command_as_it_is_typed(tmp_path: Path) -> None:
    """At the default experiment=demo."""
    told = subprocess.run(
        [sys.executable, str(ROOT / COMMAND[0]), *COMMAND[1:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    assert list(runs_of(tmp_path)) == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    table = pd.read_csv(only_study(tmp_path) / "all.csv")
    assert table["score_4"].between(0.7, 1).all()
