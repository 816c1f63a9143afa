"""Stop training at the first loss or gradient that is not finite, and keep that batch."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from lungsound.errors import LungsoundError, TrainingError
from lungsound.storage.files import write_file
from lungsound.training.batches import Batch
from lungsound.training.module import SnapshotModule


class Check(NamedTuple):
    """Numbers of a batch that must be finite, on their way from the device to the host."""

    numbers: Tensor  # the loss; in training also the norm of the gradient
    arrived: torch.cuda.Event | None  # None: they are there
    module: SnapshotModule
    name: str  # train or val
    batch: Batch


class DivergenceCallback(pl.Callback):
    """Raises TrainingError for a NaN or infinite loss or gradient; nothing of that epoch is stored.

    On a CPU before the step changes a weight. A GPU's numbers are read one step later: waiting for
    them in each step would cost a fifth of the speed. Validation losses are checked too: such an
    epoch is not stored, although its scores may look normal. The error names the batch's cycles;
    `diverged-epoch-EPOCH.npz` in `folder` has their log-mels (`encode_batch_npz`).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pending: Check | None = None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        for path in self.folder.glob("diverged-*.npz"):  # of earlier starts
            path.unlink()

    def on_train_batch_start(self, _: Any, module: Any, batch: Batch, batch_idx: int) -> None:
        self.batch = batch

    def on_before_backward(self, _: Any, module: Any, loss: Tensor) -> None:
        self.loss = loss.detach()

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        if trainer.scaler is not None:  # float16: the scaler checks gradients and skips such steps
            norm = torch.zeros_like(self.loss)
        else:  # also infinite if the gradients' squares, which Adam uses, overflow
            norm = get_total_norm(p.grad for p in module.parameters() if p.grad is not None)
        self._check_later(trainer, torch.stack([self.loss, norm]), module, "train", self.batch)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        self._check_later(trainer, outputs[None], module, "val", batch)

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._check(trainer)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._check(trainer)

    def _check_later(
        self, trainer: pl.Trainer, numbers: Tensor, module: Any, name: str, batch: Batch
    ) -> None:
        """Check what is pending, and these numbers: on a CPU now, on a GPU the next time."""
        self._check(trainer)
        on_host = numbers.detach().to("cpu", non_blocking=True)
        arrived = record_event(numbers)
        self.pending = Check(on_host, arrived, module, name, batch)
        if arrived is None:
            self._check(trainer)

    def _check(self, trainer: pl.Trainer) -> None:
        """Raise TrainingError if a pending number is not finite."""
        check, self.pending = self.pending, None
        if check is None:
            return
        if check.arrived is not None:
            check.arrived.synchronize()
        if check.numbers.isfinite().all():
            return
        module, batch = check.module, check.batch
        if check.name == "train":
            loss, norm = check.numbers.tolist()
            if trainer.scaler is not None:  # Lightning multiplies the loss by float16's scale
                loss /= trainer.scaler.get_scale()
            what = f"training loss is {loss:.4g} and the gradient's norm {norm:.4g}"
            raise self._error(trainer, what, "train", batch, module.train_inputs(batch))
        log_mels = module.eval_inputs(batch)
        chunks = log_mels.shape[1]
        items = {name: values.repeat_interleave(chunks, 0) for name, values in batch.items()}
        items["chunk"] = torch.arange(chunks).repeat(len(log_mels))
        what = f"validation loss is {check.numbers.item():.4g}"
        raise self._error(trainer, what, "val", items, log_mels.flatten(0, 1))

    def _error(
        self, trainer: pl.Trainer, what: str, name: str, batch: Batch, log_mels: Tensor
    ) -> TrainingError:
        epoch = trainer.current_epoch + 1
        cycles = trainer.datamodule.cycles[name].iloc[batch["cycle"].tolist()]  # type: ignore[attr-defined]
        path = self.folder / f"diverged-epoch-{epoch:04d}.npz"
        try:
            write_file(path, encode_batch_npz(cycles, batch, log_mels))
            place = str(path)
        except LungsoundError as error:  # a full disk must not hide what happened
            place = str(error)
        bad = cycles[~log_mels.isfinite().flatten(1).all(1).cpu().numpy()]
        note = "all finite" if bad.empty else f"not finite: {format_cycle_ids(bad)}"
        return TrainingError(
            f"The training has diverged: in epoch {epoch} the {what}, expected finite numbers. "
            f"It stopped there; {trainer.current_epoch} epochs are finished and kept, nothing is "
            "stored of this one. A lower annealing.max_lr may help. The batch's cycles "
            f"(recording/cycle): {format_cycle_ids(cycles)}. Their log-mels, as the network saw "
            f"them, are {note}; they are in: {place}"
        )


def record_event(numbers: Tensor) -> torch.cuda.Event | None:
    """Return an event that comes after all work so far on a GPU's numbers; None for a CPU's."""
    return torch.cuda.current_stream().record_event() if numbers.is_cuda else None


def format_cycle_ids(cycles: pd.DataFrame) -> str:
    """Return the distinct cycles as recording/cycle, recording/cycle, ..."""
    each = zip(cycles["recording"], cycles["cycle"], strict=True)
    return ", ".join(dict.fromkeys(f"{recording}/{cycle}" for recording, cycle in each))


def encode_batch_npz(cycles: pd.DataFrame, batch: Batch, log_mels: Tensor) -> bytes:
    """Return a batch as a .npz without pickles: one row per item of `cycles`.

    It has `log_mels` [B, F, N] and the batch's values but for the waveforms. `cycle` is the line of
    the annotation, from 0.
    """
    inputs = ("waveforms", "log_mels")
    arrays = {name: values.cpu().numpy() for name, values in batch.items() if name not in inputs}
    arrays["log_mels"] = log_mels.cpu().numpy()
    arrays["recording"] = cycles["recording"].to_numpy(dtype=str)
    arrays["cycle"] = cycles["cycle"].to_numpy()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
