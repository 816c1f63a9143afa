"""What a person sees while it trains: one bar over the whole run, a line an epoch, the time that is
left.
"""

import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

WARM_UP, TIMED_BATCHES = 2, 5  # batches: the first ones pay for allocation and caches
SLOW_SECONDS = 3600.0


class ProgressCallback(pl.Callback):
    """A bar (on a terminal) and a line an epoch; the time left counts this start's own batches,
    validation included.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs, self.console = epochs, Console(highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>4.1f} %  {task.fields[left]}"),
        )
        self.bar = Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        )
        self.task = self.bar.add_task("training", total=epochs, left="")

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.first_epoch, self.start = trainer.current_epoch, time.monotonic()
        self.bar.update(self.task, completed=self.first_epoch)
        self.bar.start()

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar.update(
            self.task, description=f"epoch {trainer.current_epoch + 1} of {self.epochs}"
        )

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        batches = int(trainer.num_training_batches)
        if trainer.current_epoch == self.first_epoch:
            self._warn_if_slow(trainer, batch_idx + 1, batches)
        done = trainer.current_epoch + (batch_idx + 1) / batches
        self.bar.update(self.task, completed=done, left=f"{self._time_left(done)} left")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        metrics = {name: f"{float(value):.3f}" for name, value in trainer.callback_metrics.items()}
        numbers = "  ".join(
            f"{name} {metrics[name]}" for name in sorted(metrics) if name != "val/accuracy"
        )
        width = len(str(self.epochs))
        self.console.print(
            f"epoch {epoch:{width}d}/{self.epochs}  {numbers}  {self._time_left(epoch)} left",
            soft_wrap=True,
        )

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar.stop()

    def on_exception(
        self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.bar.stop()

    def _time_left(self, done: float) -> timedelta:
        spent = time.monotonic() - self.start
        return timedelta(seconds=round(spent * (self.epochs - done) / (done - self.first_epoch)))

    def _warn_if_slow(self, trainer: pl.Trainer, done: int, batches: int) -> None:
        """After the first batches, say so where the whole will take more than an hour, and what
        would be faster.
        """
        if done == WARM_UP:
            self.warmup_end = time.monotonic()
        if done != WARM_UP + TIMED_BATCHES:
            return
        seconds = (time.monotonic() - self.warmup_end) / TIMED_BATCHES
        total = seconds * batches * (self.epochs - self.first_epoch)
        if total > SLOW_SECONDS:
            suggestions = "model=cnn7_quarter, fewer copies (augment=light, augment=none), annealing.epochs_per_cycle"
            if trainer.strategy.root_device.type == "cpu":
                suggestions = "a GPU (trainer=gpu), " + suggestions
            left = timedelta(seconds=round(total))
            self.console.print(
                f"Measured {seconds:.2f} s a batch on {trainer.strategy.root_device.type}, {batches} batches an epoch: "
                f"about {left} for {self.epochs - self.first_epoch} epochs. Faster: {suggestions}. "
                "The run can be stopped at any time; the same command goes on after its last epoch.",
                soft_wrap=True,
            )
