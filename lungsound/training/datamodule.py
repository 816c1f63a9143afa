"""The LightningDataModule of one split."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lungsound.data.store import WaveformStore
from lungsound.storage.signals import SIGNALS, defer_signals
from lungsound.training.batches import (
    Augmentation,
    Batch,
    EvalBatchDataset,
    SegmentSpec,
    TrainBatchDataset,
)

LINUX = sys.platform == "linux"  # macOS and Windows have no sigwaitinfo


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
        return self._loader(self.training_batches(self.trainer.current_epoch + 1))

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation cycles."""
        return self.eval_dataloader("val")

    def eval_dataloader(self, name: str) -> DataLoader[Batch]:
        """All segments of the cycles of the set `name`, in order."""
        return self._loader(self._eval_batches(name))

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

    def _loader(self, batches: Dataset[Batch]) -> DataLoader[Batch]:
        return _Loader(
            batches,
            batch_size=None,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=partial(_ignore_signals, os.getpid()),
        )


class _Loader(DataLoader[Batch]):
    """A DataLoader whose start no signal interrupts: it would leave workers that nobody ends."""

    def __iter__(self) -> Any:
        with defer_signals(), _blocked_signals():
            return super().__iter__()


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Block signals in the block, and in the workers that start there."""
    if not LINUX:
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _ignore_signals(main_process: int, _: int) -> None:
    """Leave signals to the main process: it ends the current batch, which needs its workers."""
    if LINUX:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a fork server's children inherit none
        exit_if_terminated = partial(_exit_if_terminated, main_process)
        threading.Thread(target=exit_if_terminated, daemon=True).start()
        return
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _exit_if_terminated(main_process: int) -> None:
    """End this worker if its main process terminates it, which then waits for it without limit."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != main_process:
        pass
    os._exit(0)
