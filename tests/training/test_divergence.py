"""A training that diverges ends before a weight changes, names the batch, and loses nothing."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.artifacts import download_artifacts
from support.mlflow import mlflow_runs, only_run
from support.results import result_bytes

from lungsound.errors import DataError, TrainingError
from lungsound.training import divergence
from lungsound.training.datamodule import CyclesDataModule
from lungsound.training.module import SnapshotModule

TrainIn = Callable[..., Path]
# Epoch from 1, batch from 0. The finished run has four epochs; a third period goes on from there.
AT = (5, 2)


def nan_loss(module: SnapshotModule, batch: Any, loss: torch.Tensor) -> torch.Tensor:
    return loss * torch.nan


def infinite_loss(module: SnapshotModule, batch: Any, loss: torch.Tensor) -> torch.Tensor:
    return loss.detach() * torch.inf + 0 * loss  # with finite gradients


def infinite_gradient(module: SnapshotModule, batch: Any, loss: torch.Tensor) -> torch.Tensor:
    weight = module.network.blocks[1].weight
    return loss + (weight - weight.detach()).sum().sqrt()  # √0: the loss stays what it is


def nan_log_mel(module: SnapshotModule, batch: Any, loss: torch.Tensor) -> torch.Tensor:
    batch["log_mels"][3] = torch.nan
    return module.original_step(batch, 0)


def state_of(module: SnapshotModule) -> list[torch.Tensor]:
    """Copies of all weights and of all that Adam remembers."""
    moments = [values for state in module.optimizers().state.values() for values in state.values()]
    return [tensor.detach().clone() for tensor in (*module.network.parameters(), *moments)]


@pytest.fixture
def inject_non_finite(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SimpleNamespace]]:
    """`inject_non_finite(name, how)`: a step goes wrong at AT; returns what was seen there."""

    def spoil(
        name: str, how: Callable[..., torch.Tensor], at: int | None = None
    ) -> SimpleNamespace:
        seen, original = SimpleNamespace(), getattr(SnapshotModule, name)
        number = at if at is not None else (AT[1] if name == "training_step" else 0)

        def step(module: SnapshotModule, batch: Any, place: int) -> torch.Tensor:
            module.original_step = original.__get__(module)
            trainer = module.trainer
            batches = trainer.num_training_batches
            if name == "validation_step":
                (batches,) = trainer.num_val_batches
            if (module.current_epoch + 1, place) != (AT[0], number % batches):
                return original(module, batch, place)

            def note_inputs(_: Any, inputs: tuple[torch.Tensor]) -> None:
                seen.log_mels = inputs[0][:, 0].clone()

            seen.module, seen.before = module, state_of(module)
            hook = module.network.register_forward_pre_hook(note_inputs)
            loss = how(module, batch, original(module, batch, place))
            hook.remove()
            return loss

        monkeypatch.setattr(SnapshotModule, name, step)
        return seen

    yield spoil
    monkeypatch.undo()


@pytest.fixture
def further(finished_run: Path, tmp_path: Path) -> Path:
    """A folder whose store has the four epochs of the finished run."""
    shutil.copytree(finished_run.parents[1] / "store", tmp_path / "store")
    return tmp_path


def stored(folder: Path) -> dict[str, bytes]:
    paths = sorted((folder / "store" / "trajectories").glob("*/*"))
    assert len(paths) > 3
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("training", nan_loss, "loss is nan"),
        ("training", infinite_loss, "loss is inf"),
        ("training", infinite_gradient, r"loss is \d\.\d+ and the gradient's norm inf"),
        ("training", nan_log_mel, "loss is nan"),
        ("validation", nan_loss, "loss is nan"),
    ],
    ids=["loss", "infinite loss", "gradient", "log-mel", "validation"],
)
def test_it_stops_before_the_weights_change(
    run_training: TrainIn, further: Path, inject_non_finite: Callable[..., SimpleNamespace],
    name: str, how: Any, message: str,
) -> None:  # fmt: skip
    before, seen = stored(further), inject_non_finite(f"{name}_step", how)
    expected = rf"in epoch 5 the {name} {message}.*4 epochs are finished.*annealing\.max_lr"
    with pytest.raises(TrainingError, match=expected) as error:
        run_training(further, "annealing.cycles=3")
    after = state_of(seen.module)
    assert len(after) == len(seen.before) > len(list(seen.module.network.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(after, seen.before, strict=True))
    assert stored(further) == before
    check_what_is_kept(further, seen, str(error.value))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "batch"), [("training", 2), ("training", -1), ("validation", 0), ("validation", -1)]
)
def test_a_gpus_numbers_are_checked_before_their_epoch_is_stored(
    run_training: TrainIn, further: Path, monkeypatch: pytest.MonkeyPatch,
    inject_non_finite: Callable[..., SimpleNamespace], name: str, batch: int,
) -> None:  # fmt: skip
    """They are read one batch later, here with an event of a GPU that there is none of."""
    arrived: list[None] = []
    event = SimpleNamespace(synchronize=lambda: arrived.append(None))
    monkeypatch.setattr(divergence, "record_event", lambda numbers: event)
    before, seen = stored(further), inject_non_finite(f"{name}_step", nan_loss, batch)
    with pytest.raises(TrainingError, match=rf"in epoch 5 the {name} loss is nan") as error:
        run_training(further, "annealing.cycles=3")
    assert arrived
    assert stored(further) == before
    check_what_is_kept(further, seen, str(error.value))


def check_what_is_kept(further: Path, seen: SimpleNamespace, message: str) -> None:
    """File, message and MLflow name the batch's cycles, and have the log-mels the network saw."""
    (path,) = further.glob("outputs/*/diverged-epoch-0005.npz")
    assert str(path.relative_to(further)) in message
    kept = np.load(path, allow_pickle=False)
    np.testing.assert_array_equal(kept["log_mels"], seen.log_mels)
    split = pd.read_csv(path.with_name("split.csv")).set_index(["recording", "cycle"])
    cycles = list(zip(kept["recording"].tolist(), kept["cycle"].tolist(), strict=True))
    assert len(cycles) == len(kept["target"]) == len(kept["chunk"]) == len(seen.log_mels)
    targets = split.loc[cycles, "label"].map({"normal": 0, "crackle": 1, "wheeze": 2, "both": 3})
    assert targets.tolist() == kept["target"].tolist()
    assert set(split.loc[cycles, "set"]) == {"train" if "copy" in kept else "val"}
    listed = message.partition("(recording/cycle): ")[2].partition(". Their log-mels")[0]
    assert set(listed.split(", ")) == {f"{recording}/{cycle}" for recording, cycle in cycles}
    is_finite = np.isfinite(kept["log_mels"]).all(axis=(1, 2))
    names = [f"{recording}/{cycle}" for recording, cycle in cycles]
    bad = dict.fromkeys(np.array(names)[~is_finite])
    assert f"saw them, are {'not finite: ' + ', '.join(bad) if bad else 'all finite'}" in message
    run = only_run(path.parent)
    assert run.info.status == "FAILED"
    tracking = f"sqlite:///{further / 'mlflow.db'}"
    sent = Path(download_artifacts(run_id=run.info.run_id, tracking_uri=tracking))
    assert (sent / path.name).read_bytes() == path.read_bytes()
    assert message in (sent / "error.txt").read_text()


@pytest.mark.slow
def test_the_same_command_goes_on_after_it(
    run_training: TrainIn, further: Path, monkeypatch: pytest.MonkeyPatch,
    inject_non_finite: Callable[..., SimpleNamespace],
) -> None:  # fmt: skip
    """As after a fix: from the last finished epoch, and nothing is left of what went wrong."""
    inject_non_finite("training_step", nan_loss)
    with pytest.raises(TrainingError):
        run_training(further, "annealing.cycles=3")
    monkeypatch.undo()
    folder = run_training(further, "annealing.cycles=3")
    assert not list(folder.glob("diverged-*"))
    assert json.loads((folder / "metadata.json").read_text())["epochs_trained"] == 2
    assert mlflow_runs(folder)[0].info.status == "FINISHED"


@pytest.mark.slow
def test_a_learning_rate_that_is_far_too_high(
    run_training: TrainIn, finished_run: Path, tmp_path: Path
) -> None:
    expected = r"in epoch 1 the training loss is nan.*annealing\.max_lr"
    with pytest.raises(TrainingError, match=expected):
        run_training(tmp_path, "annealing.max_lr=1e30")
    assert only_run(tmp_path / "outputs" / "run").info.status == "FAILED"
    assert result_bytes(run_training(tmp_path)) == result_bytes(finished_run)


def test_a_test_cycle_that_overflows_is_named(
    run_training: TrainIn, further: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of 1e30 are finite, their squares are not: no score may come of such a cycle."""
    make_batches = CyclesDataModule.eval_batches

    def make_loud_batches(datamodule: CyclesDataModule, name: str) -> Any:
        batches = make_batches(datamodule, name)
        cycle = batches._cycle

        def loud_cycle(row: int) -> np.ndarray[Any, Any]:
            return cycle(row) + np.float32(1e30 if row == 3 else 0)

        if name == "test":
            monkeypatch.setattr(batches, "_cycle", loud_cycle)
        return batches

    for path in further.glob("store/trajectories/*/probabilities-*"):
        path.unlink()  # or nothing would be evaluated
    monkeypatch.setattr(CyclesDataModule, "eval_batches", make_loud_batches)
    with pytest.raises(DataError, match="NaN for") as error:
        run_training(further)
    (split,) = further.glob("outputs/*/split.csv")
    cycle = pd.read_csv(split).query("set == 'test'").iloc[3]
    assert f": {cycle['recording']}/{cycle['cycle']}. Look" in str(error.value)
    assert not split.with_name("predictions.parquet").exists()
