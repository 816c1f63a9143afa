"""Whole small runs: the same bits again, after any stop, from a shared trajectory, and from damaged
files.
"""

import contextlib
import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from support.files import flip_bit
from support.mlflow import mlflow_runs
from support.results import assert_identical_runs, result_bytes, weights

import lungsound.runs.run
from lungsound.errors import Interrupted, LungsoundError
from lungsound.storage.files import is_intact_folder
from lungsound.studies.store_admin import list_trajectories
from lungsound.training.datamodule import CyclesDataModule
from lungsound.training.module import SnapshotModule
from lungsound.training.snapshots import SnapshotCallback
from lungsound.training.trajectory import Trajectory

TrainIn = Callable[..., Path]


# kill -9 is tried with "last" in each `make test` (test_kills.py).
LAST_AND_BEST = [pytest.param("last", marks=pytest.mark.slow), "best"]


class SimulatedCrash(Exception):
    """What stands for the death of a run."""


@contextlib.contextmanager
def crash_before_call(owner: Any, name: str, call: int) -> Iterator[None]:
    """Inside, a run dies when it is about to call `owner.name` for the `call`-th time."""
    original, calls = getattr(owner, name), 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise SimulatedCrash
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counted)
        with pytest.raises(SimulatedCrash):
            yield


def facts(folder: Path) -> dict[str, Any]:
    """metadata.json."""
    return dict(json.loads((folder / "metadata.json").read_text()))


@pytest.mark.parametrize("workers", [0, 2])
def test_same_command_same_bits(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, workers: int
) -> None:
    assert_identical_runs(run_training(tmp_path, f"trainer.num_workers={workers}"), finished_run)


def test_another_seed_other_bits(run_training: TrainIn, finished_run: Path, tmp_path: Path) -> None:
    other = run_training(tmp_path, "seed=1")
    assert (other / "split.csv").read_bytes() == (
        finished_run / "split.csv"
    ).read_bytes()  # split.seed's affair
    assert (other / "history.jsonl").read_bytes() != (finished_run / "history.jsonl").read_bytes()


# Where a run dies, and the epochs that the start which dies there begins. Two periods of two
# epochs. (The first call of `tidy` comes before them.)
CRASH_POINTS: list[tuple[Any, str, int, list[int]]] = [
    (SnapshotModule, "training_step", 3, [1]),  # in the first epoch: nothing to go on from
    (SnapshotModule, "validation_step", 1, [1]),
    (pl.Trainer, "save_checkpoint", 1, [1]),  # its snapshot stored, its resume point not
    (Trajectory, "prune", 2, [1]),  # after epoch 1
    (SnapshotModule, "training_step", 3, [2]),
    (Trajectory, "add_epoch", 1, [2]),
    (
        pl.Trainer,
        "save_checkpoint",
        1,
        [2],
    ),  # the period's end: with continue_from=best the weights are put back
    (Trajectory, "prune", 2, [2]),  # after epoch 2
    (Trajectory, "prune", 2, [3]),  # after epoch 3
    (pl.Trainer, "save_checkpoint", 1, [4]),
    (Trajectory, "prune", 2, [4]),  # after epoch 4
    (lungsound.runs.run, "predict_run", 1, []),
    (lungsound.runs.run, "write_run_report", 1, []),
]


@pytest.mark.parametrize("continue_from", LAST_AND_BEST)
def test_stopped_anywhere_ends_the_same(
    run_training: TrainIn,
    tmp_path: Path,
    trained_epochs: list[int],
    continue_from: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # By the loss that is recorded, a period's best epoch is its first: what continue_from chooses
    # matters.
    record = SnapshotCallback._epoch_record
    monkeypatch.setattr(
        SnapshotCallback,
        "_epoch_record",
        lambda self, trainer, epoch: {**record(self, trainer, epoch), "val/loss": float(epoch)},
    )
    overrides = (f"annealing.continue_from={continue_from}", "annealing.monitor=loss")
    undisturbed = run_training(tmp_path / "undisturbed", *overrides)
    assert {"epoch-0001.safetensors", "epoch-0003.safetensors"} <= weights(undisturbed).keys()
    for owner, name, call, expected in CRASH_POINTS:
        trained_epochs.clear()
        with crash_before_call(owner, name, call):
            run_training(tmp_path / "stopped", *overrides)
        assert trained_epochs == expected, f"stopped before call {call} of {name}"
    trained_epochs.clear()
    resumed = run_training(tmp_path / "stopped", *overrides)
    assert_identical_runs(resumed, undisturbed)
    assert trained_epochs == []
    assert facts(resumed)["epochs_trained"] == 4


def test_one_trajectory_serves_every_number_of_members_and_choice(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, trained_epochs: list[int]
) -> None:
    three = run_training(tmp_path, "annealing.cycles=3")
    assert trained_epochs == [1, 2, 3, 4, 5, 6]
    trained_epochs.clear()
    two = run_training(tmp_path)
    assert result_bytes(two) == result_bytes(finished_run)  # M = 2 alone, in an empty store
    for override in (
        "annealing.select=last",
        "annealing.monitor=loss",
        "annealing.monitor=accuracy",
    ):
        shared = run_training(tmp_path, override)
        assert shared not in (two, three)
        assert facts(shared)["epochs_trained"] == 0
    assert trained_epochs == []
    assert facts(three)["epochs_trained"] == 6
    alone = run_training(tmp_path / "alone", "annealing.select=last")
    assert result_bytes(alone) == result_bytes(run_training(tmp_path, "annealing.select=last"))
    three_again = run_training(
        tmp_path / "alone", "annealing.cycles=3"
    )  # the other way round: what is missing is trained
    assert trained_epochs == [1, 2, 3, 4, 5, 6]
    assert_identical_runs(three_again, three)


@pytest.mark.parametrize("continue_from", LAST_AND_BEST)
def test_three_periods_through_a_path_of_two_that_died_within_one(
    run_training: TrainIn, tmp_path: Path, trained_epochs: list[int], continue_from: str
) -> None:
    word = f"annealing.continue_from={continue_from}"
    alone = run_training(tmp_path / "alone", "annealing.cycles=3", word)
    trained_epochs.clear()
    with crash_before_call(SnapshotModule, "validation_step", 3):
        run_training(tmp_path / "shared", word)
    run_training(tmp_path / "shared", word)
    assert_identical_runs(run_training(tmp_path / "shared", "annealing.cycles=3", word), alone)
    assert trained_epochs == [1, 2, 3, 3, 4, 5, 6]


def test_finished_run_is_listed_and_redone(
    run_training: TrainIn,
    tmp_path: Path,
    trained_epochs: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = run_training(tmp_path)
    before, told = result_bytes(first), capsys.readouterr().out
    trained_epochs.clear()
    assert run_training(tmp_path) == first
    again = capsys.readouterr().out
    assert trained_epochs == []
    assert "finished" in again
    assert again.splitlines()[-1] == told.splitlines()[-1] == f"run: {first.relative_to(tmp_path)}"
    assert (
        told[told.index("SYNTHETIC demo database (") :]
        == again[again.index("SYNTHETIC demo database (") :]
    )
    assert run_training(tmp_path, "redo=true") == first
    assert trained_epochs == [1, 2, 3, 4]
    assert result_bytes(first) == before
    assert [run.info.status for run in mlflow_runs(first)] == ["FINISHED", "FINISHED"]


def test_everything_printed_is_marked(
    run_training: TrainIn, tmp_path: Path, capsys: pytest.CaptureFixture[str], finished_run: Path
) -> None:
    shutil.copytree(finished_run.parents[1] / "store", tmp_path / "store")
    folder = run_training(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("experiment=demo: ")
    assert "SYNTHETIC" in lines[0]
    assert lines[0].endswith("python train.py experiment=paper data.root=PATH")
    assert "SYNTHETIC" in lines[-1]
    heading = (
        next(place for place, line in enumerate(lines) if line.strip().startswith("validation")) - 3
    )
    assert "SYNTHETIC" in lines[heading]
    assert "TEST PATIENTS ARE ALSO IN TRAINING" in lines[heading + 1]  # at the top of the scores
    assert any("TEST PATIENTS ARE ALSO IN TRAINING" in line for line in lines)
    assert "SYNTHETIC" in (folder / "report.md").read_text().splitlines()[0]
    assert "SYNTHETIC" in json.loads((folder / "scores.json").read_text())["data"]
    assert pd.read_parquet(folder / "predictions.parquet").attrs["data"] == "SYNTHETIC"


def test_a_runs_split_can_be_used_again(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, trained_epochs: list[int]
) -> None:
    split = tmp_path / "mine.csv"
    table = pd.read_csv(finished_run / "split.csv", dtype={"patient": str})
    table.sample(frac=1, random_state=0).to_csv(split, index=False)
    assert_identical_runs(run_training(tmp_path, "split=file", f"split.file={split}"), finished_run)
    trained_epochs.clear()
    third = tmp_path / "third.csv"
    table.loc[table.index % 3 != 0].to_csv(third, index=False)
    smaller = run_training(tmp_path, "split=file", f"split.file={third}")
    assert trained_epochs == [1, 2, 3, 4]
    assert len(pd.read_csv(smaller / "split.csv")) == (table.index % 3 != 0).sum()


@pytest.mark.parametrize(
    "name",
    [
        "predictions.parquet",
        "scores.json",
        "report.md",
        "history.jsonl",
        "split.csv",
        "members/member-02.safetensors",
        "figures/members.png",
    ],
)
def test_a_damaged_file_of_a_run_is_put_aside_and_made_again(
    run_training: TrainIn,
    finished_run: Path,
    tmp_path: Path,
    trained_epochs: list[int],
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    shutil.copytree(finished_run.parents[1], tmp_path, dirs_exist_ok=True)
    folder = tmp_path / finished_run.relative_to(finished_run.parents[1])
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + b"x")
    assert run_training(tmp_path, painted=True) == folder
    assert path.read_bytes() == whole
    assert is_intact_folder(folder)
    assert path.with_name(f"{path.name}.damaged-1").read_bytes() == whole[:-20] + b"x"
    assert f"{name} is damaged" in capsys.readouterr().out
    assert trained_epochs == []


def damage(path: Path) -> bytes:
    """Cut a file short, or flip a bit of it, at a place that its name and folder choose; its
    content then.
    """
    content, rng = path.read_bytes(), random.Random(f"{path.parent.name}/{path.name}")
    place = rng.randrange(len(content))
    path.write_bytes(content[:place] if rng.random() < 0.5 else flip_bit(content, place))
    return path.read_bytes()


@pytest.mark.parametrize("pattern", ["resume-*.ckpt", "history.jsonl", "epoch-0002.safetensors"])
def test_a_damaged_trajectory_is_put_aside_and_trained_again(
    run_training: TrainIn,
    finished_run: Path,
    tmp_path: Path,
    trained_epochs: list[int],
    capsys: pytest.CaptureFixture[str],
    pattern: str,
) -> None:
    shutil.copytree(finished_run.parents[1] / "store", tmp_path / "store")
    (path,) = (tmp_path / "store" / "trajectories").glob(f"*/{pattern}")
    damaged = damage(path)
    assert_identical_runs(run_training(tmp_path), finished_run)
    assert trained_epochs == [1, 2, 3, 4]
    assert path.with_name(f"{path.name}.damaged-1").read_bytes() == damaged
    told = capsys.readouterr().out
    assert f"{path.name} is damaged" in told
    assert "Without it, the training begins again." in told


def test_the_resume_point_before_a_damaged_one_is_used(
    run_training: TrainIn,
    finished_run: Path,
    tmp_path: Path,
    trained_epochs: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with crash_before_call(
        Trajectory, "prune", 3
    ):  # epoch 2 has its resume point, and epoch 1 has not lost its own
        run_training(tmp_path)
    (newest,) = (tmp_path / "store" / "trajectories").glob("*/resume-0002.ckpt")
    damage(newest)
    trained_epochs.clear()
    assert_identical_runs(run_training(tmp_path), finished_run)
    assert trained_epochs == [2, 3, 4]
    assert "Without it, the training goes on after epoch 1." in capsys.readouterr().out


def test_a_copy_beside_the_trajectory_is_no_part_of_it(
    run_training: TrainIn, finished_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_run.parents[1] / "store", tmp_path / "store")
    (point,) = (tmp_path / "store" / "trajectories").glob("*/resume-0004.ckpt")
    for name in ("resume-0004 (copy).ckpt", "resume-.ckpt", "resume-²³.ckpt"):
        shutil.copy(point, point.with_name(name))
    run_training(tmp_path, "annealing.cycles=3")
    assert "6  " in list_trajectories(tmp_path / "store", tmp_path / "outputs")
    assert point.with_name("resume-0004 (copy).ckpt").exists()


def test_what_fails_after_the_resume_point_is_not_its_fault(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who believed it would delete finished work."""
    shutil.copytree(finished_run.parents[1] / "store", tmp_path / "store")

    def full(_: CyclesDataModule) -> None:
        raise MemoryError("no room for the stretched copies")

    monkeypatch.setattr(CyclesDataModule, "_precompute_stretched", full)
    with pytest.raises(MemoryError, match="stretched"):
        run_training(tmp_path, "annealing.cycles=3")


def test_an_epoch_that_was_lost_is_counted_once(
    run_training: TrainIn, tmp_path: Path, trained_epochs: list[int]
) -> None:
    one = run_training(tmp_path, "annealing.cycles=1")
    for _ in range(2):
        with crash_before_call(
            pl.Trainer, "save_checkpoint", 1
        ):  # it is counted, and has no resume point yet
            run_training(tmp_path)
    two = run_training(tmp_path)
    assert trained_epochs == [1, 2, 3, 3, 3, 4]
    assert [facts(run)["epochs_trained"] for run in (one, two)] == [2, 2]


def test_members_stay_when_another_command_removes_the_trajectory(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = lungsound.runs.run.predict_run

    def too_late(settings: Any, parts: Any, folder: Any) -> Any:
        shutil.rmtree(parts.trajectory.folder)
        return predict(settings, parts, folder)

    monkeypatch.setattr(lungsound.runs.run, "predict_run", too_late)
    assert result_bytes(run_training(tmp_path)) == result_bytes(finished_run)
    assert not list(tmp_path.glob("store/trajectories/*/*"))


def test_everything_is_made_again_from_the_folder_alone(
    run_training: TrainIn,
    finished_run: Path,
    tmp_path: Path,
    trained_epochs: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Predictions, scores, report and figures, without the trajectory."""
    shutil.copytree(finished_run.parents[1], tmp_path, dirs_exist_ok=True)
    folder = tmp_path / finished_run.relative_to(finished_run.parents[1])
    shutil.rmtree(tmp_path / "store" / "trajectories")

    def content() -> dict[
        Path, bytes
    ]:  # but for where it is tracked, which is another database here
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*")
                if path.is_file() and "tracking" not in path.name}  # fmt: skip

    before = content()
    shutil.rmtree(folder / "figures")
    for name in ("scores.json", "report.md", "predictions.parquet"):
        (folder / name).unlink()
    assert run_training(tmp_path, painted=True) == folder
    assert content() == before
    assert trained_epochs == []


def test_a_lost_figure_is_drawn_again(
    run_training: TrainIn, finished_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_run.parents[1], tmp_path, dirs_exist_ok=True)
    figure = (
        tmp_path / finished_run.relative_to(finished_run.parents[1]) / "figures" / "members.png"
    )
    figure.unlink()
    run_training(tmp_path, painted=True)
    assert figure.read_bytes() == (finished_run / "figures" / "members.png").read_bytes()


def test_a_redo_that_cannot_begin_destroys_nothing(
    run_training: TrainIn, finished_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_run.parents[1], tmp_path, dirs_exist_ok=True)
    with pytest.raises(LungsoundError, match=r"tracking\.uri"):
        run_training(tmp_path, "redo=true", "tracking.uri=nonsense://here")
    assert result_bytes(
        tmp_path / finished_run.relative_to(finished_run.parents[1])
    ) == result_bytes(finished_run)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_where_python_drops_exceptions_stops_the_run(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished_run.parents[1] / "store", tmp_path / "store")
    predict = lungsound.runs.run.predict_run

    class Loader:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def with_loader(*words: Any) -> Any:
        predicted = predict(*words)
        Loader()
        return predicted

    monkeypatch.setattr(lungsound.runs.run, "predict_run", with_loader)
    with pytest.raises(Interrupted):
        run_training(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_after_the_batch(
    run_training: TrainIn,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    steps, original = [], SnapshotModule.training_step

    def step(module: SnapshotModule, batch: Any, place: int) -> torch.Tensor:
        steps.append((module.current_epoch + 1, place))
        if steps[-1] == (2, 1):
            os.kill(os.getpid(), number)
        return original(module, batch, place)

    with (
        monkeypatch.context() as patch,
        pytest.raises(Interrupted, match="1 epochs are finished") as stop,
    ):
        patch.setattr(SnapshotModule, "training_step", step)
        run_training(tmp_path)
    assert stop.value.signal_number == number
    assert steps[-1] == (2, 1)
    assert [run.info.status for run in mlflow_runs(tmp_path / "outputs" / "run")] == ["KILLED"]
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert_identical_runs(run_training(tmp_path), finished_run)


# Where a signal comes outside the training's batches, what begins then, and the epochs that this
# start begins.
SIGNALLED: list[tuple[Any, str, int, str, list[int]]] = [
    (
        lungsound.runs.build,
        "open_database",
        1,
        "What is finished",
        [],
    ),  # before there is an MLflow run
    (SnapshotModule, "validation_step", 1, "0 epochs are finished", [1]),
    (SnapshotModule, "configure_optimizers", 1, "What is finished", []),
    (Trajectory, "add_epoch", 2, "2 epochs are finished", [1, 2]),
    (
        Trajectory,
        "add_epoch",
        2,
        "4 epochs are finished",
        [3, 4],
    ),  # the last one: there is no batch after it
    (SnapshotModule, "predict_step", 1, "What is finished", []),
    (lungsound.runs.run, "write_run_report", 1, "What is finished", []),
]


def test_a_signal_anywhere_stops_the_run(
    run_training: TrainIn,
    finished_run: Path,
    tmp_path: Path,
    trained_epochs: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for place, (owner, name, call, told, expected) in enumerate(SIGNALLED):
        trained_epochs.clear()
        number, original, calls = (
            (signal.SIGTERM, signal.SIGINT)[place % 2],
            getattr(owner, name),
            iter(range(1, 100)),
        )

        def signalled(
            *args: Any, calls=calls, call=call, number=number, original=original, **kwargs: Any
        ) -> Any:
            if next(calls) == call:
                signal.raise_signal(number)
            return original(*args, **kwargs)

        with monkeypatch.context() as patch, pytest.raises(Interrupted, match=told) as stop:
            patch.setattr(owner, name, signalled)
            run_training(tmp_path)
        assert (stop.value.signal_number, trained_epochs) == (number, expected), name
        statuses = (
            [run.info.status for run in mlflow_runs(tmp_path / "outputs" / "run")] if place else []
        )
        assert statuses == ["KILLED"] * bool(place), name
    assert_identical_runs(run_training(tmp_path), finished_run)
    assert [run.info.status for run in mlflow_runs(tmp_path / "outputs" / "run")] == ["FINISHED"]


def test_a_signal_after_the_last_epoch_stops_before_the_predictions(
    run_training: TrainIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The callbacks have looked for one by then, and signals are still deferred."""

    def end_epoch(module: SnapshotModule) -> None:
        if module.current_epoch + 1 == 4:
            signal.raise_signal(signal.SIGTERM)

    predicted: list[object] = []
    monkeypatch.setattr(SnapshotModule, "on_train_epoch_end", end_epoch)
    monkeypatch.setattr(SnapshotModule, "predict_step", lambda *_: predicted.append(1))
    with pytest.raises(Interrupted):
        run_training(tmp_path)
    assert predicted == []


def test_a_folder_that_cannot_be_made_is_named(run_training: TrainIn, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for key in ("output_dir", "store_dir"):
        with pytest.raises(LungsoundError, match=f"{key}=file/below"):
            run_training(tmp_path, f"{key}=file/below")


def test_computed_recordings_are_synthetic_under_any_name(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root,) = finished_run.parents[1].glob("store/demo/*/")
    for place, folder in enumerate((root, root / "audio_and_txt_files")):
        run = run_training(
            tmp_path / str(place),
            "data=icbhi",
            f"data.root={folder}",
            "annealing.epochs_per_cycle=1",
        )
        assert "SYNTHETIC" in capsys.readouterr().out
        assert "SYNTHETIC" in run.name
        assert "SYNTHETIC" in mlflow_runs(run)[0].data.tags["data"]


@pytest.mark.parametrize(
    ("overrides", "members", "expected_epochs"),
    [
        (("task=two_class", "padding=zero", "loss=cross_entropy", "augment=none"), 2, 4),
        (
            (
                "annealing=constant",
                "annealing.constant_epochs=2",
                "features.normalization=global",
                "model.table1=outputs",
            ),
            1,
            2,
        ),
        (("annealing.total_epochs=3", "features.normalization=band", "augment.redraw=epoch"), 2, 2),
        (
            (
                "augment=paper",
                "augment.stretch=resample",
                "segment=3s",
                "annealing.epochs_per_cycle=1",
            ),
            2,
            2,
        ),
        (
            ("trainer.precision=bf16-mixed", "annealing.epochs_per_cycle=1", "features.roll=false"),
            2,
            2,
        ),
    ],
    ids=["two_class", "constant", "total_epochs", "resample", "bf16"],
)
def test_every_option_trains(
    run_training: TrainIn,
    tmp_path: Path,
    trained_epochs: list[int],
    overrides: tuple[str, ...],
    members: int,
    expected_epochs: int,
) -> None:
    folder = run_training(tmp_path, *overrides, painted=True)
    what = json.loads((folder / "scores.json").read_text())
    scores = what["scores"]
    two_class = "task=two_class" in overrides
    assert trained_epochs == list(range(1, expected_epochs + 1))
    assert scores["task"] == ("two_class" if two_class else "four_class")
    assert what["label_order"] == (
        ["normal", "abnormal"] if two_class else ["normal", "crackle", "wheeze", "both"]
    )
    assert f"-M{members}-" in folder.name
    assert len(scores["members"]) == len(scores["ensemble"]) == members
    assert ("score_4" in scores["ensemble"][-1]["test"]) is not two_class
    log_mels = {"annealing", "members", "examples", "confusion_2"} | (
        set() if two_class else {"confusion_4"}
    )
    assert {path.stem for path in (folder / "figures").glob("*.png")} == log_mels
