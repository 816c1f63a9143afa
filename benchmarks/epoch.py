"""An epoch of training with everything, against a bare loop of torch on the same log-mels.

python benchmarks/epoch.py >> benchmarks/results.md

Everything: Lightning, loading, validation, checks, storing, history, progress. Bare: network, loss,
backward and Adam on tensors that are there. After each epoch the bare loop has its turn, so that
other processes slow both. The data are the demo's in the paper's copies, fewer for wider networks.
"""

import copy
import io
import statistics
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from lungsound.config.schema import Config
from lungsound.runs.build import RunComponents, build_components, build_trainer
from lungsound.runs.train import keep_log_mels
from lungsound.runs.validation import validate_config
from lungsound.training.divergence import DivergenceCallback
from lungsound.training.interrupt import InterruptCallback
from lungsound.training.losses import focal_loss
from lungsound.training.progress import ProgressCallback
from lungsound.training.snapshots import SnapshotCallback

CONF = str(Path(__file__).parents[1] / "conf")
EPOCHS = 3  # the first one warms up
CASES = {  # width -> cycles of the demo
    1.0: ("data.demo_patients=8", "data.demo_cycles=60"),
    0.25: ("data.demo_patients=30", "data.demo_cycles=120"),
    0.125: ("data.demo_patients=30", "data.demo_cycles=300"),
}


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


def measure(width: float, cache: str, folder: Path) -> tuple[Clock, int]:
    """Train EPOCHS epochs; return the clock and the number of items of an epoch."""
    words = ("augment=paper", f"model.width={width}", f"trainer.cache={cache}", *CASES[width])
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("config", overrides=[*words, f"store_dir={folder}"])
    settings = validate_config(cfg)
    parts = build_components(settings)
    batches = parts.datamodule.training_batches(1)
    inputs = [batches[number] for number in range(len(batches))]
    ready = [(parts.module.train_inputs(one).unsqueeze(1), one["target"]) for one in inputs]
    clock = Clock(copy.deepcopy(parts.module.network).train(), ready)
    train(settings, parts, clock, folder)
    return clock, sum(len(target) for _, target in ready)


def train(settings: Config, parts: RunComponents, clock: Clock, folder: Path) -> None:
    parts.trajectory.folder.mkdir(parents=True, exist_ok=True)
    callbacks = [
        SnapshotCallback(parts.trajectory, "benchmark"),
        ProgressCallback(EPOCHS),
        DivergenceCallback(folder),
        InterruptCallback(),
        clock,
    ]
    trainer = build_trainer(settings, EPOCHS, callbacks)
    keep_log_mels(trainer, parts)
    trainer.fit(parts.module, parts.datamodule)
    parts.trajectory.prune(0)


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as store, redirect_stdout(io.StringIO()):
        for width in CASES:
            for cache in ("host", "off"):
                clock, items = measure(width, cache, Path(store))
                pairs = list(zip(clock.bare, clock.epochs, strict=True))[1:]
                ratio = statistics.median(bare / epoch for bare, epoch in pairs)
                seconds = statistics.median(clock.epochs[1:])
                rows.append(f"| {width:g} | {cache} | {items} | {seconds:.1f} | {ratio:.2f} |")
    print("\n# An epoch of training with everything, against a bare loop\n")
    print(f"Made by `python benchmarks/epoch.py`: {torch.get_num_threads()} threads, medians.\n")
    print("| width | trainer.cache | items | s | bare loop's time / its own |")
    print("|---:|---|---:|---:|---:|", *rows, sep="\n")


if __name__ == "__main__":
    main()
