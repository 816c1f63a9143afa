"""Describe the experiment, and measure a training step for the estimate of plan=true."""

import json
import math
import textwrap
import time
from functools import lru_cache

import torch

from lungsound.config.schema import Config
from lungsound.models.registry import find_network, network_settings
from lungsound.runs.inputs import segment_spec
from lungsound.training.losses import focal_loss
from lungsound.training.memory import keep_freed_memory

TIMING_BATCH_SIZE, TIMING_SECONDS = 8, 0.6
DESCRIPTIONS = {
    "paper": "the settings of Nguyen & Pernkopf (2020) except for the keys of this command",
    "demo": "a narrow network and few epochs",
    "distill": "one network learns from the ensemble of loss.teacher",
    "tiny": "the smallest run through every step, with scores at chance level",
}
HINTS = {
    "paper": "sweep.py with plan=true measures the time. For a run of minutes: experiment=demo",
    "demo": "The paper's settings: python train.py experiment=paper data.root=PATH",
}


def experiment_sentence(settings: Config, experiment: str) -> str:
    """Return lines of up to 80 columns: the chosen experiment, and how to choose the other one."""
    data = settings.data.name
    database = "the SYNTHETIC demo database" if data == "demo" else data
    description = DESCRIPTIONS.get(experiment, f"see conf/experiment/{experiment}.yaml")
    hint = HINTS["demo" if data == "demo" else "paper"]
    sentence = textwrap.fill(f"experiment={experiment}: {description}; on {database}.", width=80)
    return f"{sentence}\n{hint}"


def seconds_per_item(settings: Config) -> float:
    """Measure the seconds of training per item, without computing features."""
    model = settings.model
    frames = segment_spec(settings).chunk_frames
    # Text, because lru_cache needs hashable arguments.
    options = json.dumps(network_settings(vars(model)))
    accelerator = settings.trainer.accelerator
    return time_training_step(model.name, options, settings.features.n_mels, frames, accelerator)


@lru_cache
def time_training_step(
    name: str, model_settings: str, bands: int, frames: int, accelerator: str
) -> float:
    """Return seconds per item, forward and backward: the fastest of several small batches."""
    keep_freed_memory()  # as training does
    device = torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    options = json.loads(model_settings)
    spec = find_network(name)
    network = spec.create(seed=0, classes=4, bands=bands, frames=frames, **options).to(device)
    log_mels = torch.zeros(TIMING_BATCH_SIZE, 1, bands, frames, device=device)
    target = torch.zeros(TIMING_BATCH_SIZE, dtype=torch.long, device=device)
    fastest, begin = math.inf, time.perf_counter()
    while fastest == math.inf or time.perf_counter() - begin < TIMING_SECONDS:
        start = time.perf_counter()
        torch.autograd.backward(focal_loss(network(log_mels), target, 1.0))
        if device.type == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest / TIMING_BATCH_SIZE
