"""The progress of a training on the console: a bar, a line per epoch and the time left."""

import statistics
import time
from collections import deque
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

WARMUP_BATCHES = 2  # slower: they allocate memory and fill caches
TIMED_BATCHES = 5  # before the time left is first printed
RECENT_BATCHES = 200  # the time left is computed from these: a machine's load changes
UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


class ProgressCallback(pl.Callback):
    """A bar (on a terminal), a line per epoch, and the time left once the first batches are timed.

    Without `epoch_lines`, as in a study, a terminal has the bar alone.

    The time left is the median time of the latest batches times the batches left, plus the median
    time per validation times the epochs left, as measured since this start.
    """

    def __init__(self, epochs: int, epoch_lines: bool = True) -> None:
        self.epochs, self.console = epochs, Console(highlight=False)
        self.has_lines = epoch_lines or not self.console.is_terminal
        self.batches = 0
        self.batch_seconds: deque[float] = deque(maxlen=RECENT_BATCHES)
        self.validation_seconds: list[float] = []
        percentage = TextColumn("{task.percentage:>3.0f} %  {task.fields[left]}")
        columns = TextColumn("{task.description}"), BarColumn(), percentage
        is_hidden = not self.console.is_terminal
        self.bar = Progress(*columns, console=self.console, transient=True, disable=is_hidden)
        self.task = self.bar.add_task("training", total=epochs, left="")

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar.update(self.task, completed=trainer.current_epoch)
        self.bar.start()

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        self.bar.update(self.task, description=f"epoch {epoch} of {self.epochs}")
        self.last_time = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        seconds, self.batches = self._lap(), self.batches + 1
        if self.batches > WARMUP_BATCHES:
            self.batch_seconds.append(seconds)
        batches = int(trainer.num_training_batches)
        left = self._time_left(trainer, batches * (self.epochs - trainer.current_epoch) - index - 1)
        done = trainer.current_epoch + (index + 1) / batches
        self.bar.update(self.task, completed=done, left=left)
        if self.batches == WARMUP_BATCHES + TIMED_BATCHES and self.has_lines:
            self.console.print(f"Training: {left} of {self.epochs} epochs.", soft_wrap=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.validation_seconds.append(self._lap())
        if not self.has_lines:
            return
        epoch = trainer.current_epoch + 1
        metrics = {name: f"{float(value):.3f}" for name, value in trainer.callback_metrics.items()}
        metrics.pop("val/accuracy", None)
        names = sorted(metrics)  # the scores are all of validation: 80 columns
        values = "  ".join(
            f"{name.replace('val/score', 'score')} {metrics[name]}" for name in names
        )
        left = ""
        if not self.console.is_terminal:  # there the bar has it
            batches = int(trainer.num_training_batches) * (self.epochs - epoch)
            left = self._time_left(trainer, batches)
        number = f"{epoch:{len(str(self.epochs))}d}/{self.epochs}"
        self.console.print(f"epoch {number}  {values}  {left}".rstrip(), soft_wrap=True)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.bar.stop()

    on_exception = on_train_end

    def _lap(self) -> float:
        """Return the seconds since the last call, or since the epoch began."""
        now = time.monotonic()
        seconds, self.last_time = now - self.last_time, now
        return seconds

    def _time_left(self, trainer: pl.Trainer, batches: int) -> str:
        """Format the time for `batches` batches and their epochs' validations; "" while unknown."""
        if not batches or len(self.batch_seconds) < TIMED_BATCHES:
            return ""
        seconds = batches * statistics.median(self.batch_seconds)
        if self.validation_seconds:
            epochs = -(-batches // int(trainer.num_training_batches))
            seconds += epochs * statistics.median(self.validation_seconds)
        return f"about {format_duration(seconds)} left"


def format_duration(seconds: float) -> str:
    """Format a duration in its largest unit: whole numbers below 20, else multiples of ten.

    >>> [format_duration(s) for s in (0.3, 47, 100, 700, 5000, 400_000)]
    ['1 second', '50 seconds', '2 minutes', '12 minutes', '1 hour', '5 days']
    """
    unit, size = next((unit for unit in UNITS if seconds >= unit[1]), UNITS[-1])
    number = max(1, round(seconds / size))
    if number >= 20:
        number = round(number, -1)
    return f"{number} {unit}{'s' * (number > 1)}"
