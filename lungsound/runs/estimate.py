"""What a training costs on this machine, from one measured step of its own network: the first line
a run prints.
"""

import math
import time
from functools import lru_cache

import torch
from hydra import compose
from omegaconf import OmegaConf

from lungsound.config.schema import Config
from lungsound.data.registry import DATABASES, ICBHI, CycleStatistics
from lungsound.models.cnn7 import CNN7
from lungsound.signal.chunks import frames_per_chunk
from lungsound.signal.spectrum import frame_count
from lungsound.training.losses import focal_loss
from lungsound.training.schedule import Annealing

TRAIN_FRACTION = 0.8 * 0.8
TIMING_BATCH_SIZE, TIMING_SECONDS = 8, 0.6


def cost_message(settings: Config, experiment: str) -> str:
    """Which experiment is in force, what it costs here, and how to get the other."""
    seconds = estimate_training_seconds(settings)
    data_name = (
        "the SYNTHETIC demo database"
        if settings.data.name == "demo"
        else f"the whole of {settings.data.name}"
    )
    if experiment == "paper":
        return (
            "experiment=paper: Nguyen & Pernkopf's contract, but for what this command changes; for "
            f"{data_name} the training takes about {_format_duration(seconds)} on this machine, as measured "
            "just now. For a try that ends in minutes: experiment=demo."
        )
    paper = OmegaConf.to_object(compose("config", overrides=["experiment=paper"]))
    assert isinstance(paper, Config)
    description = (
        "a narrow network and few epochs" if experiment == "demo" else "a set-up of your own"
    )
    return (
        f"experiment={experiment}: {description}; for {data_name} the training takes about {_format_duration(seconds)} on this machine, as "
        f"measured just now. The paper's contract would take about {_format_duration(estimate_training_seconds(paper))} a split: "
        "python train.py experiment=paper data.root=PATH"
    )


def estimate_training_seconds(settings: Config) -> float:
    """Seconds of all epochs."""
    return Annealing(**vars(settings.annealing)).epochs * estimate_epoch_seconds(settings)


def estimate_epoch_seconds(settings: Config) -> float:
    """Expected items × a measured training step."""
    return items_per_epoch(settings) * seconds_per_item(settings)


def seconds_per_item(settings: Config) -> float:
    """A measured training step of the chosen network on one chunk, features not counted."""
    features, segment = settings.features, settings.segment
    samples = round(segment.seconds * features.sample_rate)
    frames = frames_per_chunk(frame_count(samples, features.n_fft, features.hop), segment.chunks)
    model = settings.model
    return time_training_step(
        model.width, model.table1, features.n_mels, frames, settings.trainer.accelerator
    )


def items_per_epoch(settings: Config) -> float:
    """Training items an epoch, from the class counts, the copies and the distribution of the
    cycles' lengths.
    """
    statistics = DATABASES[settings.data.name].statistics or ICBHI.statistics
    assert statistics is not None
    counts = statistics.counts
    cycles = settings.data.demo_cycles if settings.data.name == "demo" else sum(counts.values())
    stretched = ("wheeze", "both") if settings.augment.stretch != "none" else ()
    copies = sum(
        count * (1 + settings.augment.vtlp_copies.get(label, 0)) * (2 if label in stretched else 1)
        for label, count in counts.items()
    )
    segments = mean_segments_per_cycle(settings.segment.seconds, statistics)
    return (
        TRAIN_FRACTION * cycles * copies / sum(counts.values()) * segments * settings.segment.chunks
    )


def mean_segments_per_cycle(seconds: float, known: CycleStatistics) -> float:
    """E[ceil(d / seconds)] = Σ P(d > j · seconds), j from 0, for log-normal durations d."""
    scores = [(math.log(j * seconds) - known.log_mean) / known.log_std for j in range(1, 50)]
    return 1 + sum(math.erfc(score / math.sqrt(2)) / 2 for score in scores)


@lru_cache
def time_training_step(
    width: float, table1: str, bands: int, frames: int, accelerator: str
) -> float:
    """Seconds an item takes forward and backward: the fastest of some small batches, as others may
    use the machine.
    """
    device = torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    network = CNN7(4, width, table1, bn_momentum=0.9, bn_eps=1e-5, seed=0).to(device)
    log_mels = torch.zeros(TIMING_BATCH_SIZE, 1, bands, frames, device=device)
    target = torch.zeros(TIMING_BATCH_SIZE, dtype=torch.long, device=device)
    fastest, begin = math.inf, time.perf_counter()
    while fastest == math.inf or time.perf_counter() - begin < TIMING_SECONDS:
        start = time.perf_counter()
        focal_loss(network(log_mels), target, 1.0).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest / TIMING_BATCH_SIZE


def _format_duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return (
                f"{seconds / size:.0f} {unit}"
                if seconds >= 10 * size
                else f"{seconds / size:.1f} {unit}"
            )
    return "a minute" if seconds > 30 else "half a minute"
