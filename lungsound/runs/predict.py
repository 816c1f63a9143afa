"""Members of the ensemble: their epochs, weights and predictions."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor

from lungsound.config.schema import Config
from lungsound.errors import DataError
from lungsound.results.folder import RunFolder
from lungsound.results.predictions import predictions_table
from lungsound.runs.build import RunComponents, build_trainer
from lungsound.scoring.probabilities import cycle_probabilities
from lungsound.storage.files import corrupt_file_on_error, file_sha256
from lungsound.training.divergence import format_cycle_ids
from lungsound.training.loader import translate_worker_errors
from lungsound.training.module import SnapshotModule
from lungsound.training.schedule import Annealing
from lungsound.training.weights import read_weights

EVALUATED_SETS = ("val", "test")


def member_epochs(annealing: Annealing, folder: RunFolder) -> list[int]:
    """Return the epoch each member comes from."""
    history = folder.read_history()
    periods = range(1, annealing.num_periods + 1)
    with corrupt_file_on_error(folder.path / "history.jsonl"):
        return [annealing.snapshot_epoch(history, period) for period in periods]


def load_member(module: SnapshotModule, path: Path) -> None:
    """Load a member's weights into the module.

    Raises CorruptFileError if they are corrupt, or of another network.
    """
    snapshot = read_weights(path)
    with corrupt_file_on_error(path):
        module.load_snapshot(snapshot)


def predict_run(settings: Config, parts: RunComponents, folder: RunFolder) -> pd.DataFrame:
    """Return every member's probabilities for every validation and test cycle.

    They are stored with the trajectory, so that runs with another number of members reuse them.
    """
    trainer = build_trainer(settings, epochs=0)
    epochs = member_epochs(parts.annealing, folder)
    sizes = {name: len(parts.datamodule.cycles[name]) for name in EVALUATED_SETS}
    rolls = settings.features.test_rolls
    members = []
    for epoch, path in zip(epochs, folder.member_paths(), strict=True):
        weights = file_sha256(path)
        stored = parts.trajectory.probabilities(epoch, weights, rolls)
        if stored is None or {name: len(rows) for name, rows in stored.items()} != sizes:
            stored = evaluate_member(trainer, parts, path, EVALUATED_SETS)
            parts.trajectory.add_probabilities(epoch, stored, weights, rolls)
        members.append(stored)
    return _table(parts, members, EVALUATED_SETS)


def predict_members(
    settings: Config, parts: RunComponents, weights: Iterable[Path], sets: Sequence[str]
) -> pd.DataFrame:
    """Return the probabilities of the members in the files `weights` for every cycle of `sets`."""
    trainer = build_trainer(settings, epochs=0)
    members = [evaluate_member(trainer, parts, path, sets) for path in weights]
    return _table(parts, members, sets)


def evaluate_member(
    trainer: pl.Trainer, parts: RunComponents, weights: Path, sets: Sequence[str]
) -> dict[str, Tensor]:
    """Return set -> probabilities [cycles, K] of one member."""
    load_member(parts.module, weights)
    return {name: predict_set(trainer, parts, name) for name in sets}


def _table(
    parts: RunComponents, members: Sequence[dict[str, Tensor]], sets: Sequence[str]
) -> pd.DataFrame:
    cycles = pd.concat([parts.datamodule.cycles[name] for name in sets])
    joined = [torch.cat([member[name] for name in sets]) for member in members]
    return predictions_table(cycles, joined, parts.labels, parts.database.synthetic)


def predict_set(trainer: pl.Trainer, parts: RunComponents, name: str) -> Tensor:
    """Return the probabilities [cycles, K] of one set, averaged over each cycle's chunks.

    Raises DataError if one is NaN or infinite.
    """
    device = trainer.strategy.root_device
    parts.datamodule.cache_evaluation(name, parts.module.features, device)
    with translate_worker_errors():
        batches = trainer.predict(parts.module, parts.datamodule.eval_dataloader(name))
    assert batches is not None
    probabilities, cycle = (torch.cat(column) for column in zip(*batches, strict=True))
    cycles = parts.datamodule.cycles[name]
    means = cycle_probabilities(probabilities, cycle, len(cycles))
    non_finite = ~means.isfinite().all(1).numpy()
    if non_finite.any():
        raise DataError(
            f"expected finite probabilities of every cycle of the {name} set, but got NaN for "
            f"(recording/cycle): {format_cycle_ids(cycles[non_finite])}. Look at their samples: a "
            "float WAV may hold numbers that overflow"
        )
    return means
