"""Whole small runs: the same bits again, after any stop, from a shared trajectory, and from damaged files."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from conftest import stored_mlflow_runs

import lungsound.run
from lungsound.errors import DamagedFileError
from lungsound.files import read_file
from lungsound.training.module import SnapshotTraining
from lungsound.training.trajectory import Trajectory, load_tensors

TrainIn = Callable[..., Path]


class Stopped(Exception):
    """A run that was ended from outside."""


@contextlib.contextmanager
def stopped_at(owner: Any, name: str, call: int) -> Iterator[None]:
    """Inside, a run dies when it is about to call `owner.name` for the `call`-th time."""
    original, calls = getattr(owner, name), 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise Stopped
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counted)
        with pytest.raises(Stopped):
            yield


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs whose training has begun, as it goes on."""
    begun: list[int] = []
    original = SnapshotTraining.on_train_epoch_start

    def noted(module: SnapshotTraining) -> None:
        begun.append(module.current_epoch + 1)
        original(module)

    monkeypatch.setattr(SnapshotTraining, "on_train_epoch_start", noted)
    return begun


def numbers(folder: Path) -> dict[str, bytes]:
    """The files of a run that hold what its training came to."""
    names = ("split.csv", "history.jsonl", "predictions.parquet", "scores.json")
    return {name: (folder / name).read_bytes() for name in names}


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Every tensor of every stored snapshot, by the snapshot's file name."""
    paths = sorted((folder.parents[1] / "store" / "trajectories").glob("*/epoch-*.pt"))
    assert paths
    return {path.name: {f"{room}.{key}": tensor for room, tensors in load_tensors(path).items()
                        for key, tensor in tensors.items()} for path in paths}  # fmt: skip


def assert_same(folder: Path, other: Path) -> None:
    """Bit for bit: weights, history, predictions, scores."""
    mine, theirs = weights(folder), weights(other)
    assert mine.keys() == theirs.keys()
    for name, tensors in mine.items():
        assert tensors.keys() == theirs[name].keys()
        for key, tensor in tensors.items():
            torch.testing.assert_close(tensor, theirs[name][key], rtol=0, atol=0, equal_nan=True)
    assert numbers(folder) == numbers(other)


@pytest.mark.parametrize("workers", [0, 2])
def test_same_command_same_bits(train_in: TrainIn, trained: Path, tmp_path: Path, workers: int) -> None:
    assert_same(train_in(tmp_path, f"trainer.num_workers={workers}"), trained)


def test_another_seed_other_bits(train_in: TrainIn, trained: Path, tmp_path: Path) -> None:
    other = train_in(tmp_path, "seed=1")
    assert (other / "split.csv").read_bytes() == (trained / "split.csv").read_bytes()  # split.seed's affair
    assert (other / "history.jsonl").read_bytes() != (trained / "history.jsonl").read_bytes()


# Where a run dies, and the epochs that the start which dies there begins. Two periods of two epochs. (The first call
# of `tidy` comes before them.)
STOPS: list[tuple[Any, str, int, list[int]]] = [
    (SnapshotTraining, "training_step", 3, [1]),  # in the first epoch: nothing to go on from
    (SnapshotTraining, "validation_step", 1, [1]),
    (pl.Trainer, "save_checkpoint", 1, [1]),  # its snapshot stored, its resume point not
    (Trajectory, "tidy", 2, [1]),  # after epoch 1
    (SnapshotTraining, "training_step", 3, [2]),
    (Trajectory, "add_epoch", 1, [2]),
    (pl.Trainer, "save_checkpoint", 1, [2]),  # the period's end: with continue_from=best the weights are put back
    (Trajectory, "tidy", 2, [2]),  # after epoch 2
    (Trajectory, "tidy", 2, [3]),  # after epoch 3
    (pl.Trainer, "save_checkpoint", 1, [4]),
    (Trajectory, "tidy", 2, [4]),  # after epoch 4
    (lungsound.run, "predict", 1, []),
    (lungsound.run, "report", 1, []),
]


@pytest.mark.parametrize("continue_from", ["last", "best"])
def test_stopped_anywhere_ends_the_same(
    train_in: TrainIn, trained: Path, tmp_path: Path, epochs: list[int], continue_from: str
) -> None:
    # By its loss, period 1 is best at an epoch that is not its last: what continue_from chooses matters.
    overrides = (f"annealing.continue_from={continue_from}", "annealing.monitor=loss", "annealing.max_lr=0.02")
    undisturbed = train_in(tmp_path / "undisturbed", *overrides)
    history = pd.read_json(undisturbed / "history.jsonl", lines=True).set_index("epoch")
    assert history.loc[1, "val/loss"] < history.loc[2, "val/loss"]
    for owner, name, call, expected in STOPS:
        epochs.clear()
        with stopped_at(owner, name, call):
            train_in(tmp_path / "stopped", *overrides)
        assert epochs == expected, f"stopped before call {call} of {name}"
    epochs.clear()
    assert_same(train_in(tmp_path / "stopped", *overrides), undisturbed)
    assert epochs == []


def test_one_trajectory_serves_every_number_of_members_and_choice(
    train_in: TrainIn, trained: Path, tmp_path: Path, epochs: list[int]
) -> None:
    three = train_in(tmp_path, "annealing.cycles=3")
    assert epochs == [1, 2, 3, 4, 5, 6]
    epochs.clear()
    two = train_in(tmp_path)
    assert numbers(two) == numbers(trained)  # M = 2 alone, in an empty store
    for override in ("annealing.select=last", "annealing.monitor=loss", "annealing.monitor=accuracy"):
        shared = train_in(tmp_path, override)
        assert shared not in (two, three)
        assert json.loads((shared / "facts.json").read_text())["epochs_trained"] == 0
    assert epochs == []
    alone = train_in(tmp_path / "alone", "annealing.select=last")
    assert numbers(alone) == numbers(train_in(tmp_path, "annealing.select=last"))
    three_again = train_in(tmp_path / "alone", "annealing.cycles=3")  # the other way round: what is missing is trained
    assert epochs == [1, 2, 3, 4, 5, 6]
    assert_same(three_again, three)


def test_finished_run_is_listed_and_redone(
    train_in: TrainIn, tmp_path: Path, epochs: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    first = train_in(tmp_path)
    before, told = numbers(first), capsys.readouterr().out
    epochs.clear()
    assert train_in(tmp_path) == first
    again = capsys.readouterr().out
    assert epochs == []
    assert "finished" in again
    assert again.splitlines()[-1] == told.splitlines()[-1] == f"run: {first.relative_to(tmp_path)}"
    assert told[told.index("SYNTHETIC demo database (") :] == again[again.index("SYNTHETIC demo database (") :]
    assert train_in(tmp_path, "redo=true") == first
    assert epochs == [1, 2, 3, 4]
    assert numbers(first) == before
    assert [run.info.status for run in stored_mlflow_runs(first)] == ["FINISHED", "FINISHED"]


def test_everything_printed_is_marked(
    train_in: TrainIn, tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path
) -> None:
    shutil.copytree(trained.parents[1] / "store", tmp_path / "store")
    folder = train_in(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("experiment=demo: ")
    assert "SYNTHETIC" in lines[0]
    assert lines[0].endswith("python train.py experiment=paper data.root=PATH")
    heading = next(place for place, line in enumerate(lines) if line.strip().startswith("validation")) - 2
    assert "SYNTHETIC" in lines[heading]
    assert any("TEST PATIENTS ARE ALSO IN TRAINING" in line for line in lines)
    assert "SYNTHETIC" in (folder / "report.md").read_text().splitlines()[0]
    assert "SYNTHETIC" in json.loads((folder / "scores.json").read_text())["data"]
    assert pd.read_parquet(folder / "predictions.parquet").attrs["data"] == "SYNTHETIC"


def test_a_runs_split_can_be_used_again(train_in: TrainIn, trained: Path, tmp_path: Path, epochs: list[int]) -> None:
    split = tmp_path / "mine.csv"
    table = pd.read_csv(trained / "split.csv", dtype={"patient": str})
    table.sample(frac=1, random_state=0).to_csv(split, index=False)
    assert_same(train_in(tmp_path, "split=file", f"split.file={split}"), trained)
    epochs.clear()
    third = tmp_path / "third.csv"
    table.loc[table.index % 3 != 0].to_csv(third, index=False)
    smaller = train_in(tmp_path, "split=file", f"split.file={third}")
    assert epochs == [1, 2, 3, 4]
    assert len(pd.read_csv(smaller / "split.csv")) == (table.index % 3 != 0).sum()


@pytest.mark.parametrize("name", ["predictions.parquet", "scores.json", "report.md", "history.jsonl", "split.csv"])
def test_a_damaged_file_of_a_run_is_made_again(
    train_in: TrainIn, trained: Path, tmp_path: Path, epochs: list[int], name: str
) -> None:
    shutil.copytree(trained.parents[1], tmp_path, dirs_exist_ok=True)
    path = tmp_path / trained.relative_to(trained.parents[1]) / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + b"x")
    with pytest.raises(DamagedFileError, match=name):
        read_file(path)
    assert train_in(tmp_path) == path.parent
    assert path.read_bytes() == whole
    assert epochs == []


@pytest.mark.parametrize("pattern", ["resume-*.ckpt", "history.jsonl", "epoch-0002.pt"])
def test_a_damaged_trajectory_is_trained_again(
    train_in: TrainIn, trained: Path, tmp_path: Path, epochs: list[int], pattern: str
) -> None:
    shutil.copytree(trained.parents[1] / "store", tmp_path / "store")
    (path,) = (tmp_path / "store" / "trajectories").glob(f"*/{pattern}")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert_same(train_in(tmp_path), trained)
    assert epochs == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("overrides", "members", "trained_epochs"),
    [
        (("task=two_class", "padding=zero", "loss=cross_entropy", "augment=none"), 2, 4),
        (("annealing=constant", "annealing.cycles=1", "features.normalization=global", "model.table1=outputs"), 1, 2),
        (("annealing.total_epochs=3", "features.normalization=band", "augment.redraw=epoch"), 2, 2),
        (("augment=paper", "augment.stretch=resample", "segment=3s", "annealing.epochs_per_cycle=1"), 2, 2),
    ],
    ids=["two_class", "constant", "total_epochs", "resample"],
)
def test_every_option_trains(
    train_in: TrainIn, tmp_path: Path, epochs: list[int], overrides: tuple[str, ...], members: int, trained_epochs: int
) -> None:
    folder = train_in(tmp_path, *overrides)
    scores = json.loads((folder / "scores.json").read_text())["scores"]
    two_class = "task=two_class" in overrides
    assert epochs == list(range(1, trained_epochs + 1))
    assert scores["task"] == ("two_class" if two_class else "four_class")
    assert len(scores["members"]) == len(scores["ensemble"]) == members
    assert ("score_4" in scores["ensemble"][-1]["test"]) is not two_class
    pictures = {"annealing", "members", "examples", "confusion_2"} | (set() if two_class else {"confusion_4"})
    assert {path.stem for path in (folder / "figures").glob("*.png")} == pictures
