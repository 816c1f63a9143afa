"""The callback that stores every epoch: for the ensemble, and to resume from."""

import pytorch_lightning as pl

from lungsound.training.history import EpochRecord
from lungsound.training.module import SnapshotModule
from lungsound.training.trajectory import Trajectory


class SnapshotCallback(pl.Callback):
    """Stores every epoch in the trajectory: snapshot if one is kept, record, then resume point.

    The order matters. A snapshot written after its resume point would be lost by a crash between
    the two; a resume point written before the best weights are loaded (`continue_from="best"`)
    would resume from other weights. Every record has `machine`.
    """

    def __init__(self, trajectory: Trajectory, machine: str) -> None:
        self.trajectory, self.annealing = trajectory, trajectory.annealing
        self.machine = machine

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, SnapshotModule)
        epoch = trainer.current_epoch + 1
        self.trajectory.add_epoch(self._epoch_record(trainer, epoch), module.snapshot())
        period = self.annealing.period_of(epoch)
        if self.annealing.continue_from == "best" and epoch == self.annealing.last_epoch(period):
            best = self.annealing.best_epoch(self.trajectory.history(epoch), period)
            module.load_snapshot(self.trajectory.snapshot(best))
        trainer.save_checkpoint(self.trajectory.resume_path(epoch), weights_only=False)
        self.trajectory.prune(epoch)

    def _epoch_record(self, trainer: pl.Trainer, epoch: int) -> EpochRecord:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        position = {
            "epoch": epoch,
            "period": self.annealing.period_of(epoch),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "machine": self.machine,
        }
        return position | metrics
