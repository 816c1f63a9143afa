"""The callback that stores every epoch: for the ensemble, and to resume from."""

from collections.abc import Callable

import pytorch_lightning as pl
from torch import nn

from lungsound.training.average import PeriodAverage
from lungsound.training.history import EpochRecord
from lungsound.training.module import SnapshotModule
from lungsound.training.trajectory import Trajectory


class SnapshotCallback(pl.Callback):
    """Stores every epoch in the trajectory: snapshot if one is kept, record, then resume point.

    The order matters. A snapshot written after its resume point would be lost by a crash between
    the two; a resume point written before the best weights are loaded (`continue_from="best"`)
    would resume from other weights. Every record has `machine`. With an `average` each period's
    last snapshot is its average. `new_network(period)` returns the untrained network from which a
    period starts with `continue_from="fresh"`.
    """

    def __init__(
        self,
        trajectory: Trajectory,
        machine: str,
        new_network: Callable[[int], nn.Module] | None = None,
        average: PeriodAverage | None = None,
    ) -> None:
        self.trajectory, self.annealing = trajectory, trajectory.annealing
        self.machine, self.new_network, self.average = machine, new_network, average

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, SnapshotModule)
        epoch = trainer.current_epoch + 1
        snapshot = (self.average and self.average.snapshot) or module.snapshot()
        self.trajectory.add_epoch(self._epoch_record(trainer, epoch), snapshot)
        period = self.annealing.period_of(epoch)
        if epoch == self.annealing.last_epoch(period):
            self._begin_period(trainer, module, period + 1)
        trainer.save_checkpoint(self.trajectory.resume_path(epoch), weights_only=False)
        self.trajectory.prune(epoch)

    def _begin_period(self, trainer: pl.Trainer, module: SnapshotModule, period: int) -> None:
        """Put the weights in place with which a period begins, unless it goes on from the last."""
        if self.annealing.continue_from == "best":
            history = self.trajectory.history(trainer.current_epoch + 1)
            best = self.annealing.best_epoch(history, period - 1)
            module.load_snapshot(self.trajectory.snapshot(best))
        elif self.annealing.continue_from == "fresh":
            assert self.new_network is not None
            module.network.load_state_dict(self.new_network(period).state_dict())
            trainer.optimizers[0].state.clear()  # Adam's moments, of the other network

    def _epoch_record(self, trainer: pl.Trainer, epoch: int) -> EpochRecord:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        position = {
            "epoch": epoch,
            "period": self.annealing.period_of(epoch),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "machine": self.machine,
        }
        return position | metrics
