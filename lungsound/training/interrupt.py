"""Ctrl-C and SIGTERM while it trains: the current batch is finished, then the training ends."""

import signal
from typing import Any

import pytorch_lightning as pl

from lungsound.storage.signals import SIGNALS, raise_if_interrupted, record_signal


class InterruptCallback(pl.Callback):
    """Raises Stopped at the end of the batch, or the epoch, in which a signal came.

    Lightning alone would end with the exit code 1 after Ctrl-C and with 0, as if finished, after
    SIGTERM.
    """

    def __init__(self) -> None:
        self.before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.before = {
            number: signal.signal(number, record_signal) for number in SIGNALS
        }  # Lightning's, too

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._raise_if_interrupted(trainer.current_epoch)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._raise_if_interrupted(trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._raise_if_interrupted(
            trainer.current_epoch + 1
        )  # which is stored by now: this callback is the last

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._restore_handlers()

    def on_exception(
        self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._restore_handlers()

    @staticmethod
    def _raise_if_interrupted(epochs: int) -> None:
        raise_if_interrupted(f"{epochs} epochs are finished and kept.")

    def _restore_handlers(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}
