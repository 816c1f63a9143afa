"""A run's members: the epochs they come from, their weights in the store, and what they answer."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor

from lungsound.config.schema import Config
from lungsound.errors import DataError, LungsoundError
from lungsound.results.folder import RunFolder
from lungsound.results.predictions import predictions_table
from lungsound.runs.build import RunComponents, build_trainer
from lungsound.scoring.probabilities import cycle_probabilities
from lungsound.storage.files import corrupt_file_on_error, is_intact
from lungsound.training.divergence import names
from lungsound.training.module import SnapshotModule
from lungsound.training.schedule import Annealing
from lungsound.training.trajectory import Trajectory


def member_epochs(annealing: Annealing, folder: RunFolder) -> list[int]:
    """The epoch each member comes from."""
    history = folder.read_history()
    with corrupt_file_on_error(folder.path / "history.jsonl"):
        return [
            annealing.snapshot_epoch(history, period)
            for period in range(1, annealing.num_periods + 1)
        ]


def member_weight_paths(parts: RunComponents, folder: RunFolder) -> list[Path]:
    """The members' weights. Raises LungsoundError where the store does not have them any more."""
    paths = [
        parts.trajectory.snapshot_path(epoch) for epoch in member_epochs(parts.annealing, folder)
    ]
    missing = [path for path in paths if not is_intact(path, sealed=True)]
    if missing:
        raise LungsoundError(
            f"tracking.log_snapshots=true: expected the members' weights in the store, but {missing[0]} is not there, "
            "or is damaged. redo=true trains them again"
        )
    return paths


def load_member(module: SnapshotModule, trajectory: Trajectory, epoch: int) -> None:
    """Put the weights kept after `epoch` into the module.

    Raises DataError where they are gone, DamagedFileError where they are not this network's.
    """
    path = trajectory.snapshot_path(epoch)
    try:
        snapshot = trajectory.snapshot(epoch)
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: expected a member's weights, but another command removed them (`lungsound study rm`, or redo=true). The same "
            "command trains them again"
        ) from error
    with corrupt_file_on_error(path):
        module.load_snapshot(snapshot)


def predict_members(
    settings: Config, parts: RunComponents, epochs: Sequence[int], sets: Sequence[str]
) -> pd.DataFrame:
    """The probabilities of the members from `epochs` for every cycle of `sets`."""
    trainer = build_trainer(settings, epochs=0)
    members = []
    for epoch in epochs:
        load_member(parts.module, parts.trajectory, epoch)
        members.append(torch.cat([predict_set(trainer, parts, name) for name in sets]))
    cycles = pd.concat([parts.datamodule.cycles[name] for name in sets])
    labels = parts.module.labels
    return predictions_table(cycles, members, labels, parts.database.synthetic)


def predict_set(trainer: pl.Trainer, parts: RunComponents, name: str) -> Tensor:
    """Mean over the chunks of each cycle of one set: [cycles, K]. Raises DataError where one is not
    a number.
    """
    batches = trainer.predict(parts.module, parts.datamodule.eval_dataloader(name))
    assert batches is not None
    probabilities, cycle = (torch.cat(column) for column in zip(*batches, strict=True))
    cycles = parts.datamodule.cycles[name]
    means = cycle_probabilities(probabilities, cycle, len(cycles))
    non_finite = ~means.isfinite().all(1).numpy()
    if non_finite.any():
        raise DataError(
            f"expected a network's answer for every cycle of the {name} set, but got NaN for (recording/cycle): "
            f"{names(cycles[non_finite])}. Look at their samples: a float WAV may hold numbers that overflow"
        )
    return means
