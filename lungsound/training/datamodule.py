"""The LightningDataModule of one split."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from lungsound.data.store import WaveformStore
from lungsound.signal.features import Features
from lungsound.signal.segments import SegmentSpec
from lungsound.training.batches import (
    Augmentation,
    Batch,
    BatchDataset,
    EvalBatchDataset,
    TrainBatchDataset,
)
from lungsound.training.loader import affordable_workers, make_loader
from lungsound.training.log_mels import choose_place, compute_log_mels, segment_bytes

ANNOUNCED_BYTES = 10**8


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
        cache: str,
    ) -> None:
        super().__init__()
        self.cycles = {name: rows.reset_index(drop=True) for name, rows in cycles.groupby("set")}
        self.store, self.cutting, self.augmentation = store, cutting, augmentation
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.cache = cache
        self.teacher: Tensor | None = None  # its probabilities [n, K] of the training cycles
        self.training_log_mels: Tensor | None = None  # of all copies' segments [S, F, N]
        self.eval_log_mels: dict[str, Tensor] = {}  # by set
        self.statistics: dict[str, Tensor] = {}  # of the features that these are computed with
        self.stretched: dict[int, NDArray[np.float32]] = {}  # by row, if all epochs share them

    def train_dataloader(self) -> DataLoader[Batch]:
        """The next epoch's batches; needs `reload_dataloaders_every_n_epochs=1`."""
        assert self.trainer is not None
        return self._loader(self.training_batches(self.trainer.current_epoch + 1))

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation cycles."""
        return self.eval_dataloader("val")

    def eval_dataloader(self, name: str) -> DataLoader[Batch]:
        """All segments of the cycles of the set `name`, in order."""
        return self._loader(self.eval_batches(name))

    def training_batches(self, epoch: int) -> TrainBatchDataset:
        """The batches of an epoch, which counts from 1."""
        cycles, size, seed = self.cycles["train"], self.batch_size, self.seed
        settings, stretched = (self.cutting, self.augmentation), self.stretched
        log_mels, teacher = self.training_log_mels, self.teacher
        batches = TrainBatchDataset(
            cycles, self.store, *settings, stretched, size, seed, epoch, log_mels, teacher
        )
        if self.augmentation.redraw == "once" and not stretched and log_mels is None:
            stretched |= batches.stretched_waveforms()  # once: a phase vocoder is slow
        return batches

    def cache_training(self, features: Features, device: torch.device) -> None:
        """Compute the training copies' log-mels once, if all epochs share them and memory allows.

        `device`: where the network is trained.
        """
        if self.augmentation.redraw == "once" and self.training_log_mels is None:
            batches = self.training_batches(1)
            self.training_log_mels = self._log_mels(features, batches, "training", device)
            if self.training_log_mels is not None:
                self.stretched.clear()

    def cache_evaluation(self, name: str, features: Features, device: torch.device) -> None:
        """Compute the log-mels of the set `name` once, for all epochs and members, if they fit."""
        statistics = {key: value.cpu().clone() for key, value in features.state_dict().items()}
        for key, value in self.statistics.items():
            if not torch.equal(value, statistics[key]):  # another run's members
                self.eval_log_mels.clear()
        self.statistics = statistics
        if name not in self.eval_log_mels:
            log_mels = self._log_mels(features, self.eval_batches(name), name, device)
            if log_mels is not None:
                self.eval_log_mels[name] = log_mels

    def unaugmented_waveforms(self) -> Iterator[Tensor]:
        """The waveforms [B, L] of the training cycles' own segments, without copies."""
        batches = self.eval_batches("train")
        return (batches.inputs(numbers)["waveforms"] for numbers in batches.batches)

    def _log_mels(
        self, features: Features, batches: BatchDataset, title: str, device: torch.device
    ) -> Tensor | None:
        """Compute all log-mels; None if they do not fit, or the user wants none."""
        size = segment_bytes(features, batches)
        place = choose_place(self.cache, size, device)
        if place is None:
            if self.cache == "auto":
                what = f"{size / 1e9:.1f} GB, more than half of the free memory"
                print(f"Log-mels ({title}): {what}: computed for each batch", flush=True)
            return None
        if size >= ANNOUNCED_BYTES:
            print(f"Log-mels ({title}): {size / 1e9:.1f} GB are computed once and kept", flush=True)
        return compute_log_mels(features.to(device), batches, self.batch_size, place)

    def eval_batches(self, name: str) -> EvalBatchDataset:
        """All segments of the cycles of the set `name`, in order."""
        log_mels = self.eval_log_mels.get(name)
        return EvalBatchDataset(
            self.cycles[name], self.store, self.cutting, self.batch_size, log_mels
        )

    @cached_property
    def workers(self) -> int:
        """How many worker processes there is shared memory for."""
        batch_bytes = (self.batch_size + 1) * self.cutting.length * 4  # the last one may have more
        return affordable_workers(self.num_workers, batch_bytes)

    def _loader(self, batches: BatchDataset) -> DataLoader[Batch]:
        log_mels = batches.log_mels
        workers = self.workers if log_mels is None else 0
        is_on_gpu = log_mels is not None and log_mels.is_cuda  # CUDA's tensors cannot be pinned
        return make_loader(batches, workers, torch.cuda.is_available() and not is_on_gpu)
