"""The LightningDataModule of one split."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from lungsound.data.store import WaveformStore
from lungsound.training.batches import (
    Augmentation,
    Batch,
    EvalBatchDataset,
    SegmentSpec,
    TrainBatchDataset,
)
from lungsound.training.loader import make_loader


class CyclesDataModule(pl.LightningDataModule):
    """The three sets of one split.

    `cycles` has the columns of `data.database`, `set` and `target` (the number of the class).
    """

    def __init__(
        self,
        cycles: pd.DataFrame,
        store: WaveformStore,
        cutting: SegmentSpec,
        augmentation: Augmentation,
        batch_size: int,
        num_workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.cycles = {name: rows.reset_index(drop=True) for name, rows in cycles.groupby("set")}
        self.store, self.cutting, self.augmentation = store, cutting, augmentation
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.stretched: dict[int, NDArray[np.float32]] = {}  # by row, if all epochs share them

    def train_dataloader(self) -> DataLoader[Batch]:
        """The next epoch's batches; needs `reload_dataloaders_every_n_epochs=1`."""
        assert self.trainer is not None
        return make_loader(self.training_batches(self.trainer.current_epoch + 1), self.num_workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation cycles."""
        return self.eval_dataloader("val")

    def eval_dataloader(self, name: str) -> DataLoader[Batch]:
        """All segments of the cycles of the set `name`, in order."""
        return make_loader(self._eval_batches(name), self.num_workers)

    def training_batches(self, epoch: int) -> TrainBatchDataset:
        """The batches of an epoch, which counts from 1."""
        cycles, size, seed = self.cycles["train"], self.batch_size, self.seed
        settings, stretched = (self.cutting, self.augmentation), self.stretched
        batches = TrainBatchDataset(cycles, self.store, *settings, stretched, size, seed, epoch)
        if self.augmentation.redraw == "once" and not stretched:  # a phase vocoder is slow
            stretched |= batches.stretched_waveforms()
        return batches

    def unaugmented_waveforms(self) -> Iterator[Tensor]:
        """The waveforms [B, L] of the training cycles' own segments, without copies."""
        batches = self._eval_batches("train")
        return (batches[number]["waveforms"] for number in range(len(batches)))

    def _eval_batches(self, name: str) -> EvalBatchDataset:
        return EvalBatchDataset(self.cycles[name], self.store, self.cutting, self.batch_size)
