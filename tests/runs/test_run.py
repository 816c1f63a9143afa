"""Whole small runs: equal bits again, after any stop, from shared or damaged files."""

import contextlib
import gc
import json
import random
import shutil
import signal
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
from support.files import flip_bit
from support.mlflow import STEPS, metric_points, mlflow_runs, only_run
from support.results import assert_identical_runs, result_bytes, weights
from support.runs import SMALL_RUN_OVERRIDES, compose_settings
from torch import Tensor

import lungsound.runs.inputs
import lungsound.runs.predict
import lungsound.runs.report
import lungsound.training.datamodule
from lungsound.errors import Interrupted, LungsoundError
from lungsound.runs.build import build_components
from lungsound.signal.features import Features
from lungsound.storage.files import is_intact_folder
from lungsound.studies.store_admin import list_trajectories
from lungsound.training.batches import TrainBatchDataset
from lungsound.training.loader import _Loader
from lungsound.training.module import SnapshotModule
from lungsound.training.snapshots import SnapshotCallback
from lungsound.training.trajectory import Trajectory

Train = Callable[..., Path]
Capsys = pytest.CaptureFixture[str]
# kill -9 is tried with "last" in each `make test-slow` (test_kills.py).
LAST_AND_BEST = [pytest.param("last", marks=pytest.mark.long), "best"]


class SimulatedCrashError(Exception):
    """What stands for the death of a run."""


@contextlib.contextmanager
def before_call(owner: Any, name: str, number: int, act: Callable[[], None]) -> Iterator[list[int]]:
    """Inside, `act` is called before the call of this number of `owner.name`; yields the calls."""
    original, calls = getattr(owner, name), list[int]()

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(len(calls) + 1)
        if calls[-1] == number:
            act()
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counted)
        yield calls


@contextlib.contextmanager
def crash_before_call(owner: Any, name: str, number: int) -> Iterator[None]:
    """Inside, a run dies when it is about to make this call."""

    def crash() -> None:
        raise SimulatedCrashError

    with before_call(owner, name, number, crash), pytest.raises(SimulatedCrashError):
        yield


def metadata(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "metadata.json").read_text()))


def statuses(folder: Path) -> list[str]:
    """Of the MLflow runs beside the runs in `folder`."""
    return [run.info.status for run in mlflow_runs(folder / "outputs" / "run")]


# --- the same bits, after any stop ---


@pytest.mark.slow
@pytest.mark.parametrize("loading", ["cache=host", "cache=off", "cache=off trainer.num_workers=2"])
def test_same_command_same_bits(
    run_training: Train, finished_run: Path, tmp_path: Path, loading: str
) -> None:
    words = f"trainer.{loading}".split()
    assert_identical_runs(run_training(tmp_path, *words), finished_run)


def test_log_mels_are_computed_once_for_all_epochs_and_members(
    run_training: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = 0
    forward = Features.forward

    def count(features: Features, waveforms: Tensor, *given: Tensor, **named: Tensor) -> Tensor:
        nonlocal items
        items += len(waveforms)
        return forward(features, waveforms, *given, **named)

    monkeypatch.setattr(Features, "forward", count)
    run_training(tmp_path)
    with contextlib.chdir(tmp_path):
        sets = build_components(compose_settings(*SMALL_RUN_OVERRIDES)).datamodule
    batches = [sets.training_batches(1), *map(sets.eval_batches, ("val", "test"))]
    assert items == sum(len(each.segments) for each in batches)


@pytest.mark.slow
def test_a_sweep_keeps_the_log_mels_of_one_run_alone(
    run_training: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = []
    kept: list[Any] = []
    compute = lungsound.training.datamodule.compute_log_mels

    def note(*arguments: Any) -> Tensor:
        alive.append(sum(reference() is not None for reference in kept))
        log_mels = compute(*arguments)
        kept.append(weakref.ref(log_mels))
        return log_mels

    monkeypatch.setattr(lungsound.training.datamodule, "compute_log_mels", note)
    gc.disable()  # Python's own collections come by chance
    try:
        for seed in (1, 2):
            teacher = run_training(tmp_path, "annealing.cycles=1", f"seed={seed}")
        run_training(tmp_path, "annealing.cycles=1", f"loss.teacher={teacher}")
    finally:
        gc.enable()
    assert alive == [0, 1, 2] * 2 + [0] + [0, 1, 2]  # the teacher's, the student's


# Where a run dies, and the epochs that the start which dies there begins. Two periods of two
# epochs. (The first call of `prune` comes before them.)
CRASH_POINTS: list[tuple[Any, str, int, list[int]]] = [
    (SnapshotModule, "training_step", 3, [1]),  # in the first epoch: nothing to go on from
    (SnapshotModule, "validation_step", 1, [1]),
    (pl.Trainer, "save_checkpoint", 1, [1]),  # its snapshot stored, its resume point not
    (Trajectory, "prune", 2, [1]),  # after epoch 1
    (SnapshotModule, "training_step", 3, [2]),
    (Trajectory, "add_epoch", 1, [2]),
    (pl.Trainer, "save_checkpoint", 1, [2]),  # with continue_from=best: the weights are put back
    (Trajectory, "prune", 2, [2]),  # after epoch 2
    (Trajectory, "prune", 2, [3]),  # after epoch 3
    (pl.Trainer, "save_checkpoint", 1, [4]),
    (Trajectory, "prune", 2, [4]),  # after epoch 4
    (lungsound.runs.predict, "predict_run", 1, []),
    (lungsound.runs.report, "write_run_report", 1, []),
]


@pytest.mark.slow
@pytest.mark.parametrize("continue_from", LAST_AND_BEST)
def test_stopped_anywhere_ends_the_same(
    run_training: Train, tmp_path: Path, trained_epochs: list[int], continue_from: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # By the loss that is recorded, a period's best epoch is its first: what continue_from chooses
    # matters.
    original = SnapshotCallback._epoch_record

    def record(callback: SnapshotCallback, trainer: pl.Trainer, epoch: int) -> dict[str, Any]:
        return {**original(callback, trainer, epoch), "val/loss": float(epoch)}

    monkeypatch.setattr(SnapshotCallback, "_epoch_record", record)
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
    assert metadata(resumed)["epochs_trained"] == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("annealing.select=average",),
        ("annealing.continue_from=fresh",),
        ("augment.balance=1", "augment.mixup=0.4", "augment.band_mask=9", "augment.frame_mask=9"),
    ],
)
def test_what_a_period_needs_of_the_past_is_in_its_resume_point(
    run_training: Train, tmp_path: Path, trained_epochs: list[int], words: tuple[str, ...]
) -> None:
    undisturbed = run_training(tmp_path / "undisturbed", *words)
    for _ in range(3):  # each start trains one epoch, and dies in the next
        with crash_before_call(Trajectory, "add_epoch", 2):
            run_training(tmp_path / "stopped", *words)
    resumed = run_training(tmp_path / "stopped", *words)
    assert_identical_runs(resumed, undisturbed)
    assert trained_epochs == [1, 2, 3, 4, *(1, 2), *(2, 3), *(3, 4), 4]


@pytest.mark.slow
def test_one_trajectory_serves_every_number_of_members_and_choice(
    run_training: Train, finished_run: Path, tmp_path: Path, trained_epochs: list[int],
    evaluated: list[str],
) -> None:  # fmt: skip
    three = run_training(tmp_path, "annealing.cycles=3")
    assert trained_epochs == [1, 2, 3, 4, 5, 6]
    assert evaluated == ["member-01", "member-02", "member-03"]
    two = run_training(tmp_path)
    assert result_bytes(two) == result_bytes(finished_run)  # M = 2 alone, in an empty store
    run_training(tmp_path, "annealing.cycles=1")
    assert len(evaluated) == 3  # each member once
    shared = {}
    for override in ("select=last", "monitor=loss", "monitor=accuracy"):
        shared[override] = run_training(tmp_path, f"annealing.{override}")
        assert shared[override] not in (two, three)
        assert metadata(shared[override])["epochs_trained"] == 0
    assert len(evaluated) == 5  # two more epochs
    rolled = run_training(tmp_path, "features.test_rolls=3")
    assert len(evaluated) == 7  # in other rolls
    assert rolled not in (two, three, *shared.values())
    predictions = [pd.read_parquet(run / "predictions.parquet")["p_both"] for run in (two, rolled)]
    assert 1e-4 < (predictions[0] - predictions[1]).abs().max() < 0.5
    assert len(trained_epochs) == metadata(three)["epochs_trained"] == 6
    trained_epochs.clear()
    alone = run_training(tmp_path / "alone", "annealing.select=last")
    assert result_bytes(alone) == result_bytes(shared["select=last"])
    # The other way round: what is missing is trained.
    three_again = run_training(tmp_path / "alone", "annealing.cycles=3")
    assert trained_epochs == [1, 2, 3, 4, 5, 6]
    assert_identical_runs(three_again, three)


@pytest.mark.slow
@pytest.mark.parametrize("continue_from", LAST_AND_BEST)
def test_three_periods_through_a_path_of_two_that_died_within_one(
    run_training: Train, tmp_path: Path, trained_epochs: list[int], continue_from: str
) -> None:
    word = f"annealing.continue_from={continue_from}"
    alone = run_training(tmp_path / "alone", "annealing.cycles=3", word)
    trained_epochs.clear()
    with crash_before_call(SnapshotModule, "validation_step", 3):
        run_training(tmp_path / "shared", word)
    run_training(tmp_path / "shared", word)
    assert_identical_runs(run_training(tmp_path / "shared", "annealing.cycles=3", word), alone)
    assert trained_epochs == [1, 2, 3, 3, 4, 5, 6]


@pytest.mark.slow
def test_what_another_process_trained_meanwhile_is_kept(
    run_training: Train, tmp_path: Path, trained_epochs: list[int]
) -> None:
    """The lock was lost: another process has gone on while this one was in epoch 2."""
    alone = run_training(tmp_path / "alone")
    (trajectory,) = (tmp_path / "alone" / "store").rglob("history.jsonl")

    def go_on_elsewhere() -> None:
        place = trajectory.parent.relative_to(tmp_path / "alone")
        shutil.copytree(trajectory.parent, tmp_path / "two" / place, dirs_exist_ok=True)

    with (
        before_call(Trajectory, "add_epoch", 2, go_on_elsewhere),
        pytest.raises(LungsoundError, match="another process has finished epoch 4"),
    ):
        run_training(tmp_path / "two")
    trained_epochs.clear()
    assert_identical_runs(run_training(tmp_path / "two"), alone)
    assert trained_epochs == []


@pytest.mark.slow
def test_an_epoch_that_was_lost_is_counted_once(
    run_training: Train, tmp_path: Path, trained_epochs: list[int]
) -> None:
    one = run_training(tmp_path, "annealing.cycles=1")
    for _ in range(2):  # the epoch is counted, and has no resume point yet
        with crash_before_call(pl.Trainer, "save_checkpoint", 1):
            run_training(tmp_path)
    two = run_training(tmp_path)
    assert trained_epochs == [1, 2, 3, 3, 3, 4]
    assert [metadata(run)["epochs_trained"] for run in (one, two)] == [2, 2]


# --- a run that is finished ---


@pytest.mark.slow
def test_finished_run_is_listed_and_redone(
    run_training: Train, tmp_path: Path, trained_epochs: list[int], capsys: Capsys
) -> None:
    first = run_training(tmp_path)
    before, printed = result_bytes(first), capsys.readouterr().out
    trained_epochs.clear()
    assert run_training(tmp_path) == first
    again = capsys.readouterr().out
    assert trained_epochs == []
    assert "finished" in again
    assert printed.splitlines()[-1] == f"run: {first.relative_to(tmp_path)}"
    scores = "SYNTHETIC demo database ("
    assert printed[printed.index(scores) :] == again[again.index(scores) :]
    (first / "notes").symlink_to(tmp_path)
    assert run_training(tmp_path, "redo=true") == first
    assert not (first / "notes").is_symlink()
    assert trained_epochs == [1, 2, 3, 4]
    assert result_bytes(first) == before
    assert statuses(tmp_path) == ["FINISHED", "FINISHED"]


@pytest.mark.usefixtures("store_copy")
def test_everything_printed_is_marked(run_training: Train, tmp_path: Path, capsys: Capsys) -> None:
    folder = run_training(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("experiment=demo: ")
    assert "The paper's settings: python train.py experiment=paper data.root=PATH" in lines[:3]
    assert max(map(len, lines[:3])) <= 80
    is_header = [line.strip().startswith("validation") for line in lines]
    columns = is_header.index(True)
    marked = [lines[0], lines[columns - 3], lines[-1], (folder / "report.md").read_text()]
    marked.append(json.loads((folder / "scores.json").read_text())["data"])
    assert all("SYNTHETIC" in text.partition("\n")[0] for text in marked)
    assert "TEST PATIENTS ARE ALSO IN TRAINING" in lines[columns - 2]
    assert pd.read_parquet(folder / "predictions.parquet").attrs["data"] == "SYNTHETIC"


def test_a_runs_split_can_be_used_again(
    run_training: Train, finished_run: Path, tmp_path: Path, trained_epochs: list[int]
) -> None:
    split = tmp_path / "mine.csv"
    table = pd.read_csv(finished_run / "split.csv", dtype={"patient": str})
    table.sample(frac=1, random_state=0).to_csv(split, index=False)
    assert_identical_runs(run_training(tmp_path, "split=file", f"split.file={split}"), finished_run)
    trained_epochs.clear()
    fewer = table.loc[table.index % 3 != 0]
    fewer.to_csv(split, index=False)
    smaller = run_training(tmp_path, "split=file", f"split.file={split}")
    assert trained_epochs == [1, 2, 3, 4]
    assert len(pd.read_csv(smaller / "split.csv")) == len(fewer)


def test_everything_is_made_again_from_the_folder_alone(
    run_training: Train, run_copy: Path, tmp_path: Path, trained_epochs: list[int]
) -> None:
    """Predictions, scores, report and figures, without the trajectory."""
    shutil.rmtree(tmp_path / "store" / "trajectories")

    def content() -> dict[Path, bytes]:
        files = (path for path in run_copy.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files if path.name != "tracking.json"}

    before = content()
    shutil.rmtree(run_copy / "figures")
    for name in ("scores.json", "report.md", "predictions.parquet"):
        (run_copy / name).unlink()
    assert run_training(tmp_path, painted=True) == run_copy
    assert content() == before
    assert trained_epochs == []


def test_members_stay_when_another_command_removes_the_trajectory(
    run_training: Train, finished_run: Path, tmp_path: Path
) -> None:
    def remove() -> None:
        (folder,) = tmp_path.glob("store/trajectories/*/")
        shutil.rmtree(folder)

    with before_call(lungsound.runs.predict, "predict_run", 1, remove):
        assert result_bytes(run_training(tmp_path)) == result_bytes(finished_run)
    assert not list(tmp_path.glob("store/trajectories/*/*"))


def test_a_redo_that_cannot_begin_destroys_nothing(
    run_training: Train, finished_run: Path, run_copy: Path, tmp_path: Path,
    trained_epochs: list[int],
) -> None:  # fmt: skip
    with pytest.raises(LungsoundError, match=r"tracking\.uri"):
        run_training(tmp_path, "redo=true", "tracking.uri=nonsense://here")
    assert trained_epochs == []
    assert result_bytes(run_copy) == result_bytes(finished_run)


def test_a_folder_that_cannot_be_made_is_named(run_training: Train, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for key in ("output_dir", "store_dir"):
        with pytest.raises(LungsoundError, match=f"{key}=file/below"):
            run_training(tmp_path, f"{key}=file/below")


# --- damaged files ---


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    "predictions.parquet", "scores.json", "report.md", "history.jsonl", "split.csv",
    "members/member-02.safetensors", "figures/members.png",
])  # fmt: skip
def test_a_damaged_file_of_a_run_is_put_aside_and_made_again(
    run_training: Train, run_copy: Path, tmp_path: Path, trained_epochs: list[int], capsys: Capsys,
    name: str,
) -> None:  # fmt: skip
    path = run_copy / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + b"x")
    assert run_training(tmp_path, painted="figures" in name) == run_copy
    assert path.read_bytes() == whole
    assert is_intact_folder(run_copy)
    assert path.with_name(f"{path.name}.damaged-1").read_bytes() == whole[:-20] + b"x"
    assert f"{name} is damaged" in capsys.readouterr().out
    assert trained_epochs == []


def damage(path: Path) -> bytes:
    """Cut a file short, or flip a bit, at a place that its name chooses; its content then."""
    content, rng = path.read_bytes(), random.Random(f"{path.parent.name}/{path.name}")
    place = rng.randrange(len(content))
    path.write_bytes(content[:place] if rng.random() < 0.5 else flip_bit(content, place))
    return path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["resume-*.ckpt", "history.jsonl", "epoch-0002.safetensors"])
def test_a_damaged_trajectory_is_put_aside_and_trained_again(
    run_training: Train, finished_run: Path, store_copy: Path, tmp_path: Path, capsys: Capsys,
    trained_epochs: list[int], pattern: str,
) -> None:  # fmt: skip
    (path,) = store_copy.glob(f"trajectories/*/{pattern}")
    damaged = damage(path)
    assert_identical_runs(run_training(tmp_path), finished_run)
    assert trained_epochs == [1, 2, 3, 4]
    assert path.with_name(f"{path.name}.damaged-1").read_bytes() == damaged
    printed = capsys.readouterr().out
    assert f"{path.name} is damaged" in printed
    assert "Without it, the training begins again." in printed


def test_the_resume_point_before_a_damaged_one_is_used(
    run_training: Train, finished_run: Path, tmp_path: Path, trained_epochs: list[int],
    capsys: Capsys,
) -> None:  # fmt: skip
    with crash_before_call(Trajectory, "prune", 3):  # both epochs have their resume points
        run_training(tmp_path)
    (newest,) = (tmp_path / "store" / "trajectories").glob("*/resume-0002.ckpt")
    damage(newest)
    trained_epochs.clear()
    assert_identical_runs(run_training(tmp_path), finished_run)
    assert trained_epochs == [2, 3, 4]
    assert "Without it, the training goes on after epoch 1." in capsys.readouterr().out


def test_a_copy_beside_the_trajectory_is_no_part_of_it(
    run_training: Train, store_copy: Path, tmp_path: Path
) -> None:
    (point,) = store_copy.glob("trajectories/*/resume-0004.ckpt")
    for name in ("resume-0004 (copy).ckpt", "resume-.ckpt", "resume-²³.ckpt"):
        shutil.copy(point, point.with_name(name))
    run_training(tmp_path, "annealing.cycles=3")
    listed, _ = list_trajectories(store_copy, tmp_path / "outputs")
    assert "6  " in listed
    assert point.with_name("resume-0004 (copy).ckpt").exists()


@pytest.mark.usefixtures("store_copy")
def test_a_failure_after_the_resume_point_is_not_its_fault(
    run_training: Train, tmp_path: Path
) -> None:
    """A user who believed it would delete finished work."""

    def fail() -> None:
        raise MemoryError("no room for the stretched copies")

    with (
        before_call(TrainBatchDataset, "stretched_waveforms", 1, fail),
        pytest.raises(MemoryError, match="stretched"),
    ):
        run_training(tmp_path, "annealing.cycles=3")


# --- signals ---


# Where a signal comes, the message, and the epochs that this start begins.
SIGNALLED: list[tuple[Any, str, int, str, list[int]]] = [
    (lungsound.runs.inputs, "open_database", 1, "What is finished", []),  # no MLflow run yet
    (_Loader, "__iter__", 1, "0 epochs are finished", []),
    (SnapshotModule, "training_step", 2, "0 epochs are finished", [1]),
    (SnapshotModule, "validation_step", 1, "0 epochs are finished", [1]),
    (SnapshotModule, "configure_optimizers", 1, "0 epochs are finished", []),
    (Trajectory, "add_epoch", 2, "2 epochs are finished", [1, 2]),
    (SnapshotModule, "training_step", 2, "2 epochs are finished", [3]),
    (Trajectory, "add_epoch", 2, "4 epochs are finished", [3, 4]),  # there is no batch after it
    (SnapshotModule, "predict_step", 1, "What is finished", []),
    (lungsound.runs.report, "write_run_report", 1, "What is finished", []),
]


@pytest.mark.slow
def test_a_signal_anywhere_stops_the_run(
    run_training: Train, finished_run: Path, tmp_path: Path, trained_epochs: list[int]
) -> None:
    """In a batch: it ends first, and there is no other."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for place, (owner, name, call, message, expected) in enumerate(SIGNALLED):
        trained_epochs.clear()
        number = (signal.SIGTERM, signal.SIGINT)[place % 2]
        with (
            before_call(owner, name, call, lambda: signal.raise_signal(number)) as calls,  # noqa: B023
            pytest.raises(Interrupted, match=message) as stop,
        ):
            run_training(tmp_path)
        assert (stop.value.signal_number, trained_epochs) == (number, expected), name
        assert calls[-1] == call, name
        assert place == 0 or statuses(tmp_path) == ["KILLED"], name
        assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert_identical_runs(run_training(tmp_path), finished_run)
    assert statuses(tmp_path) == ["FINISHED"]


@pytest.mark.usefixtures("store_copy")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_where_python_drops_exceptions_stops_the_run(
    run_training: Train, tmp_path: Path
) -> None:
    class Loader:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def drop_loader() -> None:
        Loader()

    with (
        before_call(lungsound.runs.predict, "predict_run", 1, drop_loader),
        pytest.raises(Interrupted),
    ):
        run_training(tmp_path)


def test_a_signal_after_the_last_epoch_stops_before_the_predictions(
    run_training: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The callbacks have looked for one by then, and signals are still deferred."""

    def end_epoch(module: SnapshotModule) -> None:
        if module.current_epoch + 1 == 4:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(SnapshotModule, "on_train_epoch_end", end_epoch)
    with (
        before_call(SnapshotModule, "predict_step", 0, lambda: None) as predictions,
        pytest.raises(Interrupted),
    ):
        run_training(tmp_path)
    assert predictions == []


# --- options ---


def test_computed_recordings_are_synthetic_under_any_name(
    run_training: Train, finished_run: Path, tmp_path: Path, capsys: Capsys
) -> None:
    (root,) = finished_run.parents[1].glob("store/demo/*/audio_and_txt_files")
    words = ("data=icbhi", f"data.root={root}", "annealing.epochs_per_cycle=1")
    run = run_training(tmp_path, *words)
    for text in (capsys.readouterr().out, run.name, mlflow_runs(run)[0].data.tags["data"]):
        assert "SYNTHETIC" in text


# Overrides, members, epochs.
OPTIONS = {
    "two_class": ("task=two_class padding=zero loss=cross_entropy augment=none", 2, 4),
    "constant": ("annealing=constant annealing.constant_epochs=2 model.table1=outputs "
                 "features.normalization=global", 1, 2),
    "total_epochs": ("annealing.total_epochs=3 features.normalization=band augment.redraw=epoch",
                     2, 2),
    "resample": ("augment=paper augment.stretch=resample segment=3s annealing.epochs_per_cycle=1",
                 2, 2),
    "mixed": ("augment.balance=1 augment.mixup=0.4 augment.band_mask=10 augment.frame_mask=20 "
              "annealing.epochs_per_cycle=1", 2, 2),
    "bf16": ("trainer.precision=bf16-mixed annealing.epochs_per_cycle=1 features.roll=false", 2, 2),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("overrides", "members", "epochs"), OPTIONS.values(), ids=OPTIONS)
def test_every_option_trains(
    run_training: Train, tmp_path: Path, trained_epochs: list[int], overrides: str, members: int,
    epochs: int,
) -> None:  # fmt: skip
    folder = run_training(tmp_path, *overrides.split(), painted="two_class" in overrides)
    results = json.loads((folder / "scores.json").read_text())
    scores, two_class = results["scores"], "two_class" in overrides
    assert trained_epochs == list(range(1, epochs + 1))
    assert scores["task"] == ("two_class" if two_class else "four_class")
    labels = "normal abnormal" if two_class else "normal crackle wheeze both"
    assert results["label_order"] == labels.split()
    assert f"-M{members}-" in folder.name
    assert len(scores["members"]) == len(scores["ensemble"]) == members
    assert ("score_4" in scores["ensemble"][-1]["test"]) is not two_class
    metrics = metric_points(folder, only_run(folder)).keys()
    recalls = {name for name in metrics if name.startswith("test/recall_")}
    assert recalls == {f"test/recall_{label}" for label in labels.split()}
    metrics = (metrics - recalls) | {name for name in STEPS if "recall" in name}
    # Four-class scores have no place in a two-class run; the others stay.
    assert metrics == {name.replace("_4", "_2") if two_class else name for name in STEPS}
    expected = {"annealing", "calibration", "members", "examples", "confusion_2"}
    expected |= {"confusion_4"} if not two_class else set()
    expected |= {"combinations"} if members > 1 else set()
    sums = (folder / "SHA256SUMS").read_text()
    for suffix, start in ((".png", b"\x89PNG"), (".pdf", b"%PDF-")):
        files = list((folder / "figures").glob(f"*{suffix}"))
        assert {path.stem for path in files} == expected
        if two_class:  # painted
            assert {path.read_bytes()[: len(start)] for path in files} == {start}
        assert all(f"  figures/{path.name}\n" in sums for path in files)
