"""A loss or a gradient that is not finite ends the training in that step, and what the network saw
then is kept.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from lungsound.errors import LungsoundError, TrainingError
from lungsound.storage.files import checksum_path, write_file
from lungsound.training.datamodule import Batch
from lungsound.training.module import SnapshotModule


class DivergenceCallback(pl.Callback):
    """Raises TrainingError before the optimizer changes a weight by a loss or a gradient that is
    NaN or infinite.

    A validation loss counts too: its epoch is then not stored, as no score tells such weights from
    good ones. The error names the batch's cycles; `diverged-epoch-EPOCH.npz` in `folder` holds
    their log-mels (`encode_batch_npz`).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        for old in self.folder.glob(
            "diverged-*.npz"
        ):  # of an earlier start, which this one may well survive
            checksum_path(old).unlink(missing_ok=True)
            old.unlink()

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self.batch = batch

    def on_before_backward(
        self, trainer: pl.Trainer, module: pl.LightningModule, loss: Tensor
    ) -> None:
        self.loss = loss.detach()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        assert isinstance(module, SnapshotModule)
        if (
            trainer.scaler is not None
        ):  # float16: it looks at the gradients itself, and leaves such steps out
            norm = torch.zeros_like(self.loss)
        else:  # infinite also where Adam's squares of finite gradients would be
            norm = get_total_norm(p.grad for p in module.parameters() if p.grad is not None)
        if not torch.stack([self.loss, norm]).isfinite().all():  # one wait for the device, not two
            # Lightning's hook gives the loss times float16's scale.
            loss = self.loss if trainer.scaler is None else self.loss / trainer.scaler.get_scale()
            what = f"loss is {loss.item():.4g} and the gradient's norm {norm.item():.4g}"
            log_mels = module.train_inputs(self.batch)
            raise self._error(trainer, f"training {what}", "train", self.batch, log_mels)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(module, SnapshotModule)
        if not torch.isfinite(outputs):
            log_mels = module.eval_inputs(batch)
            chunks = log_mels.shape[1]
            items = {name: values.repeat_interleave(chunks, 0) for name, values in batch.items()}
            items["chunk"] = torch.arange(chunks).repeat(len(log_mels))
            what = f"validation loss is {outputs.item():.4g}"
            raise self._error(trainer, what, "val", items, log_mels.flatten(0, 1))

    def _error(
        self, trainer: pl.Trainer, what: str, name: str, batch: Batch, log_mels: Tensor
    ) -> TrainingError:
        epoch = trainer.current_epoch + 1
        cycles = trainer.datamodule.cycles[name].iloc[batch["cycle"].tolist()]  # type: ignore[attr-defined]
        path = self.folder / f"diverged-epoch-{epoch:04d}.npz"
        try:
            write_file(path, encode_batch_npz(cycles, batch, log_mels))
            position = str(path)
        except LungsoundError as error:  # a full disk must not hide what happened
            position = str(error)
        damaged = ~log_mels.isfinite().flatten(1).all(1).cpu().numpy()
        finite_note = f"not finite: {names(cycles[damaged])}" if damaged.any() else "all finite"
        return TrainingError(
            f"The training has diverged: in epoch {epoch} the {what}, expected finite numbers. It stopped there; "
            f"{trainer.current_epoch} epochs are finished and kept, nothing is stored of this one. A lower "
            f"annealing.max_lr may help. The batch's cycles (recording/cycle): {names(cycles)}. Their log-mels, as the "
            f"network saw them, are {finite_note}; they are in: {position}"
        )


def names(cycles: pd.DataFrame) -> str:
    """recording/cycle of each, once."""
    each = zip(cycles["recording"], cycles["cycle"], strict=True)
    return ", ".join(dict.fromkeys(f"{recording}/{cycle}" for recording, cycle in each))


def encode_batch_npz(cycles: pd.DataFrame, batch: Batch, log_mels: Tensor) -> bytes:
    """A .npz (no pickle) of a batch: one row an item of `cycles`, its `log_mels` [B, F, N], and the
    batch's numbers.

    `cycle` is the line of the annotation from 0; the waveforms are left out: the log-mels are made
    of them.
    """
    numbers = {
        name: values.cpu().numpy()
        for name, values in batch.items()
        if name not in ("waveforms", "cycle")
    }
    recordings = cycles["recording"].to_numpy(dtype=str)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        log_mels=log_mels.cpu().numpy(),
        recording=recordings,
        cycle=cycles["cycle"].to_numpy(),
        **numbers,
    )
    return buffer.getvalue()
