"""Choices and ranges of single keys of the configuration."""

import math
from collections.abc import Sequence
from typing import Any

CHOICES: dict[str, Sequence[Any]] = {
    "padding.mode": ("sample", "zero", "tile"),
    "features.normalization": ("segment", "band", "global"),
    "augment.stretch": ("phase_vocoder", "resample", "none"),
    "augment.redraw": ("once", "epoch"),
    "model.table1": ("inputs", "outputs", None),
    "annealing.schedule": ("cosine", "one_cosine", "constant"),
    "annealing.select": ("best", "last", "average"),
    "annealing.monitor": ("score", "accuracy", "loss"),
    "annealing.continue_from": ("last", "best", "fresh"),
    "trainer.accelerator": ("auto", "cpu", "gpu"),
    "trainer.precision": ("32-true", "16-mixed", "bf16-mixed"),
    "trainer.cache": ("auto", "device", "host", "off", "False"),  # off in a YAML file is False
    "trainer.matmul_precision": ("highest", "high", "medium"),
}
ABOVE_0 = math.ulp(0.0)
# Key -> lowest and highest value. The highest values are far above any use: they reject typing
# errors and foreign files that would exhaust memory.
RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "split.seed": (0, 2**32 - 1),
    "split.folds": (2, 10_000),
    "split.fold": (0, math.inf),
    "data.demo_seed": (0, 2**32 - 1),
    "data.demo_patients": (1, 699),
    "data.demo_cycles": (1, 1_000_000),
    "segment.seconds": (ABOVE_0, 3600),
    "segment.chunks": (1, 10_000),
    "features.sample_rate": (1, 1_000_000),
    "features.n_fft": (2, 2**16),
    "features.hop": (1, 2**16),
    "features.test_rolls": (1, 100),
    "features.n_mels": (1, 2**12),
    "features.f_min": (0, math.inf),
    "features.f_max": (ABOVE_0, math.inf),
    "features.floor": (ABOVE_0, math.inf),
    "augment.balance": (0, 1),
    "augment.mixup": (0, 100),
    "augment.band_mask": (0, 2**12),
    "augment.frame_mask": (0, 2**16),
    "annealing.cycles": (1, 10_000),
    "annealing.epochs_per_cycle": (1, 1_000_000),
    "annealing.total_epochs": (1, 1_000_000),
    "annealing.constant_epochs": (1, 1_000_000),
    "annealing.max_lr": (ABOVE_0, math.inf),
    "model.l2": (0, math.inf),
    "model.width": (ABOVE_0, 8),
    "model.bn_momentum": (0, 1),
    "model.bn_eps": (ABOVE_0, math.inf),
    "model.adam_eps": (ABOVE_0, math.inf),
    "loss.gamma": (0, math.inf),
    "trainer.batch_size": (2, 2**16),
    "trainer.num_workers": (0, 1000),
}
PATH_KEYS = (
    *("output_dir", "store_dir", "data.root", "data.table", "split.file", "loss.teacher"),
    *("model.checkpoint", "tracking.uri"),
)
MAX_VTLP_COPIES = 1000  # per cycle
AUGMENT_RANGES = {"stretch_rate": (0.1, 10.0), "vtlp_alpha": (0.1, 10.0), "vtlp_f_hi": (0.0, 1e6)}
