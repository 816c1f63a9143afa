"""The average of a period's weights (stochastic weight averaging: Izmailov et al. 2018)."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, update_bn

from lungsound.training.datamodule import CyclesDataModule
from lungsound.training.module import SnapshotModule


class PeriodAverage(pl.Callback):
    """Averages the weights after each epoch of a period; it must stand before SnapshotCallback.

    After a period's last epoch `snapshot` has the average, with the statistics of its batch
    normalization computed again from one epoch's training items; else it is None. What it needs to
    go on is in the resume point.
    """

    def __init__(self, module: SnapshotModule) -> None:
        self.annealing = module.annealing
        self.averaged = AveragedModel(module.network)
        self.snapshot: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the average so far."""
        return dict(self.averaged.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put the average of a resume point in place."""
        self.averaged.load_state_dict(state_dict)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Add the epoch's weights to the average."""
        assert isinstance(module, SnapshotModule)
        epoch, period = trainer.current_epoch + 1, self.annealing.epochs_per_period
        self.averaged.to(module.device)
        if (epoch - 1) % period == 0:
            self.averaged.n_averaged.zero_()  # the next weights replace the last period's average
        self.averaged.update_parameters(module.network)
        self.snapshot = None
        if epoch % period == 0:
            with torch.no_grad(), trainer.precision_plugin.forward_context():
                update_bn(_training_inputs(trainer, module), self.averaged)
            weights = self.averaged.module.state_dict()
            self.snapshot = {**module.snapshot(), "network": weights}


def _training_inputs(trainer: pl.Trainer, module: SnapshotModule) -> Iterator[Tensor]:
    datamodule = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(datamodule, CyclesDataModule)
    for batch in datamodule.train_dataloader():
        moved = trainer.strategy.batch_to_device(batch, module.device)
        yield module.train_inputs(moved).unsqueeze(1)
