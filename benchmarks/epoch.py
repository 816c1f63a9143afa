"""An epoch of training with everything, against a bare loop of torch on the same log-mels.

python benchmarks/epoch.py

Everything: Lightning, loading, validation, checks, storing, history, progress. Bare: network, loss,
backward and Adam on tensors that are there. After each epoch the bare loop has its turn, so that
other processes slow both. The data are the demo's in the paper's copies, fewer for wider networks.
`trainer.cache=auto` is the default and makes the row; with `off` log-mels are computed again.
"""

import copy
import io
import statistics
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from rows import Row, print_section
from torch import Tensor, nn

from lungsound.config.overrides import compose_run
from lungsound.config.schema import Config
from lungsound.runs.build import RunComponents, build_components, build_trainer
from lungsound.runs.train import keep_log_mels
from lungsound.runs.validation import validate_config
from lungsound.training.divergence import DivergenceCallback
from lungsound.training.interrupt import InterruptCallback
from lungsound.training.losses import focal_loss
from lungsound.training.progress import ProgressCallback
from lungsound.training.snapshots import SnapshotCallback


class Case(NamedTuple):
    name: str
    width: float
    cycles: int  # of the demo
    epochs: int  # the first one warms up
    caches: tuple[str, ...]
    goal: str


CASES = (
    Case("full", 1.0, 60, 3, ("auto",), ">= 0.95"),
    Case("a quarter", 0.25, 120, 5, ("auto", "off"), ">= 0.95"),
    Case("an eighth", 0.125, 300, 5, ("auto", "off"), ">= 0.9"),
)


class Clock(pl.Callback):
    """Seconds of each epoch, and of the bare loop on the same batches after it."""

    def __init__(self, network: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.network, self.batches = network, batches
        self.optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
        self.epochs: list[float] = []
        self.bare: list[float] = []

    def on_train_epoch_start(self, *_: object) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, *_: object) -> None:
        end = time.perf_counter()
        self.epochs.append(end - self.start)
        for inputs, target in self.batches:
            self.optimizer.zero_grad()
            torch.autograd.backward(focal_loss(self.network(inputs), target, 1.0))
            self.optimizer.step()
        self.bare.append(time.perf_counter() - end)


def measure(case: Case, cache: str, folder: Path) -> tuple[Clock, int]:
    """Train the case's epochs; return the clock and the number of items of an epoch."""
    data = ("augment=paper", "data.demo_patients=30", f"data.demo_cycles={case.cycles}")
    words = (f"model.width={case.width}", f"trainer.cache={cache}", f"store_dir={folder}")
    settings = validate_config(compose_run([*data, *words])[0])
    parts = build_components(settings)
    batches = parts.datamodule.training_batches(1)
    inputs = [batches[number] for number in range(len(batches))]
    ready = [(parts.module.train_inputs(one).unsqueeze(1), one["target"]) for one in inputs]
    clock = Clock(copy.deepcopy(parts.module.network).train(), ready)
    train(settings, parts, clock, case.epochs, folder)
    return clock, sum(len(target) for _, target in ready)


def train(settings: Config, parts: RunComponents, clock: Clock, epochs: int, folder: Path) -> None:
    parts.trajectory.folder.mkdir(parents=True, exist_ok=True)
    callbacks = [
        SnapshotCallback(parts.trajectory, "benchmark"),
        ProgressCallback(epochs),
        DivergenceCallback(folder),
        InterruptCallback(),
        clock,
    ]
    trainer = build_trainer(settings, epochs, callbacks)
    keep_log_mels(trainer, parts)
    trainer.fit(parts.module, parts.datamodule)
    parts.trajectory.prune(0)


def main() -> None:
    rows, lines = [], []
    with tempfile.TemporaryDirectory() as store, redirect_stdout(io.StringIO()):
        for case in CASES:
            for cache in case.caches:
                clock, items = measure(case, cache, Path(store))
                pairs = list(zip(clock.bare, clock.epochs, strict=True))[1:]
                ratios = [bare / epoch for bare, epoch in pairs]
                seconds, ratio = min(clock.epochs[1:]), statistics.median(ratios)
                lines.append(
                    f"| {case.width:g} | {cache} | {items} | {seconds:.1f} | {ratio:.2f} |"
                )
                if cache == "auto":
                    what = f"items/s of an epoch, {case.name} width"
                    rows.append(Row(what, "bare torch loop", ratios, case.goal))
    print_section(
        "An epoch of training with everything",
        rows,
        f"{torch.get_num_threads()} threads; s: the fastest epoch after the first.\n",
        "| width | trainer.cache | items | s | ratio |\n|---:|---|---:|---:|---:|",
        *lines,
    )


if __name__ == "__main__":
    main()
