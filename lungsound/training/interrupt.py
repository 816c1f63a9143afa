"""Stop training at the end of the current batch on SIGINT or SIGTERM."""

from typing import Any

import pytorch_lightning as pl

from lungsound.storage.signals import handle_signals, raise_if_interrupted


class InterruptCallback(pl.Callback):
    """Raises Interrupted at the end of the batch, or the epoch, in which a signal arrived.

    Lightning alone would end with exit code 1 after Ctrl-C, and with 0, as if finished, after
    SIGTERM. It restores the handlers from before `fit` itself. Add this callback last, so that an
    epoch is stored before this reports it as finished.
    """

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        handle_signals(deferred=True)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        raise_if_interrupted()

    on_validation_batch_end = on_train_batch_end

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        raise_if_interrupted()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        handle_signals()

    on_exception = on_train_end
