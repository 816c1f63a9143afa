"""What the data cost: features on a device, waveforms from workers, whole epochs."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from gpu_step import AUTOCAST, Timing, set_arithmetic, synchronize, timed
from hydra import compose, initialize_config_dir
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from lungsound.config.schema import Config
from lungsound.runs.build import RunComponents, build_components, build_trainer
from lungsound.runs.train import keep_log_mels
from lungsound.runs.validation import validate_config
from lungsound.signal.chunks import roll_and_chunk
from lungsound.training.batches import Batch
from lungsound.training.divergence import DivergenceCallback
from lungsound.training.losses import focal_loss
from lungsound.training.progress import ProgressCallback
from lungsound.training.snapshots import SnapshotCallback

CONF = str(Path(__file__).parents[1] / "conf")


def configuration(*overrides: str) -> Config:
    with initialize_config_dir(CONF, version_base="1.3"):
        return validate_config(compose("config", overrides=list(overrides)))


def batch_on(parts: RunComponents, device: torch.device, items: int, number: int = 0) -> Batch:
    """The items of several batches of the first epoch, on the device."""
    batches = parts.datamodule.training_batches(1)
    first, count = number % len(batches), -(-items // parts.datamodule.batch_size)
    several = [batches[(first + place) % len(batches)] for place in range(count)]
    joined = {name: torch.cat([batch[name] for batch in several])[:items] for name in several[0]}
    return {name: values.to(device) for name, values in joined.items()}


def front_end(
    parts: RunComponents, device: torch.device, items: int, seconds: float
) -> dict[str, Timing]:
    """From waveforms to the network's input; and from log-mels that are kept on the device."""
    set_arithmetic("float32")
    features, chunks = parts.module.features.to(device), parts.module.chunks
    batch = batch_on(parts, device, items)
    kept = features.log_mel(batch["waveforms"])
    row = torch.arange(items, device=device).flip(0)

    def from_waveforms() -> Tensor:
        log_mels = features(batch["waveforms"], batch["alpha"], batch["f_hi"])
        return roll_and_chunk(log_mels, batch["roll"], batch["chunk"], chunks)

    def from_log_mels() -> Tensor:
        log_mels = kept[row]
        variance, mean = torch.var_mean(log_mels, (1, 2), correction=0, keepdim=True)
        log_mels = (log_mels - mean) / variance.sqrt()
        return roll_and_chunk(log_mels, batch["roll"], batch["chunk"], chunks)

    work = {
        "log-mel with VTLP, z-score, roll, chunk": from_waveforms,
        "log-mel without VTLP, z-score": lambda: features(batch["waveforms"]),
        "kept log-mels: gather, z-score, roll, chunk": from_log_mels,
    }
    with torch.no_grad():
        return {name: timed(function, device, seconds) for name, function in work.items()}


@dataclass(frozen=True)
class Loading:
    start_seconds: float  # until the first batch is there
    items_per_second: float  # after it, to the device


def loading(parts: RunComponents, device: torch.device, workers: int, batches: int) -> Loading:
    """Waveforms cut in `workers` processes, pinned, and moved to the device: nothing else."""
    dataset = parts.datamodule.training_batches(1)
    some: Subset[Batch] = Subset(dataset, range(min(batches, len(dataset))))
    loader = DataLoader(
        some, batch_size=None, num_workers=workers, pin_memory=device.type == "cuda"
    )
    start, items, first = time.perf_counter(), 0, 0.0
    for batch in loader:
        moved = [values.to(device, non_blocking=True) for values in batch.values()]
        if not first:
            synchronize(device)
            first = time.perf_counter()
        else:
            items += len(moved[0])
    synchronize(device)
    return Loading(first - start, items / (time.perf_counter() - first))


@dataclass
class Clock(pl.Callback):
    """Seconds of each epoch: its batches, what of them is waiting for the next one, validation."""

    training: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    items: int = 0
    batches: int = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.begin = self.last = time.perf_counter()
        self.waited, self.items, self.batches = 0.0, 0, 0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Batch, place: int) -> None:
        self.waited += time.perf_counter() - self.last
        self.items += len(batch["target"])
        self.batches += 1

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.last = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        synchronize(trainer.strategy.root_device)
        self.training.append(time.perf_counter() - self.begin)
        self.waiting.append(self.waited)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.whole.append(time.perf_counter() - self.begin)


def epochs(
    settings: Config, parts: RunComponents, folder: Path, number: int, guarded: bool
) -> Clock:
    """Some epochs through the project's Trainer and callbacks, the stored trajectory included."""
    folder.mkdir(parents=True, exist_ok=True)
    parts.trajectory.folder.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    guards = [DivergenceCallback(folder)] if guarded else []
    callbacks = [
        SnapshotCallback(parts.trajectory, "benchmark"),
        ProgressCallback(number),
        *guards,
        clock,
    ]
    trainer = build_trainer(settings, number, callbacks)
    keep_log_mels(trainer, parts)  # as trainer.cache says
    trainer.fit(parts.module, parts.datamodule)
    parts.trajectory.prune(0)
    return clock


def bare_loop(
    settings: Config, parts: RunComponents, device: torch.device, seconds: float
) -> Timing:
    """The same step without Lightning, loaders and guards, on batches that are on the device."""
    set_arithmetic("TF32" if settings.trainer.matmul_precision == "high" else "float32")
    kind = AUTOCAST.get(settings.trainer.precision)
    module = parts.module.to(device)
    optimizer = module.configure_optimizers()
    kept = [batch_on(parts, device, parts.datamodule.batch_size, number) for number in range(4)]
    place = 0

    def step() -> None:
        nonlocal place
        batch, place = kept[place % len(kept)], place + 1
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=kind, enabled=kind is not None):
            logits = module.network(module.train_inputs(batch).unsqueeze(1))
        torch.autograd.backward(focal_loss(logits.float(), batch["target"], module.gamma))
        optimizer.step()

    return timed(step, device, seconds)


def validation_seconds(clock: Clock, parts: RunComponents) -> float:
    """Per cycle: its segments' answers, and its share of storing an epoch."""
    whole, training = median_of_later(clock.whole), median_of_later(clock.training)
    return (whole - training) / len(parts.datamodule.cycles["val"])


def median_of_later(values: Sequence[float]) -> float:
    """The first epoch pays for what happens once."""
    return statistics.median(values[1:] or values)


def built(*overrides: str) -> tuple[Config, RunComponents]:
    settings = configuration(*overrides)
    return settings, build_components(settings)
