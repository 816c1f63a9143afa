"""Ctrl-C and SIGTERM while it trains: the current batch is finished, then the training ends."""

import signal
from typing import Any

import pytorch_lightning as pl

from lungsound.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopOnSignal(pl.Callback):
    """Raises Stopped at the end of the batch in which a signal came; a second signal ends the process at once.

    Lightning alone would end with the exit code 1 after Ctrl-C and with 0, as if finished, after SIGTERM.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.before = {number: signal.signal(number, self._note) for number in SIGNALS}  # Lightning's, too

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.received:
            raise Stopped(
                self.received,
                f"{trainer.current_epoch} epochs are finished and kept. The same command goes on after them.",
            )

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._put_back()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self._put_back()

    def _note(self, number: int, _: Any) -> None:
        self.received = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _put_back(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}
