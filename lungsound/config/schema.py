"""The typed schema of the configuration; conf/ explains each key. Imports no torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from lungsound.storage.places import environment, expand_user

PACKAGE = Path(__file__).parents[1]
# A wheel has conf/ in the package. A checkout has it beside the package, with a link to it.
CONFIG_DIR = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir())


@dataclass
class DataConfig:
    """`data`: the database."""

    name: str = MISSING
    root: str | None = MISSING
    skip_bad: bool = MISSING
    demo_seed: int = MISSING
    demo_patients: int = MISSING
    demo_cycles: int = MISSING
    # Of data=table; the defaults are for other databases.
    table: str | None = None
    labels: list[str] | None = None


@dataclass
class SplitConfig:
    """`split`: the protocol and its settings."""

    protocol: str = MISSING
    seed: int = MISSING
    file: str | None = None
    folds: int | None = None
    fold: int | None = None
    part: str | None = None


@dataclass
class SegmentConfig:
    """`segment`: length of a segment, and number of chunks."""

    seconds: float = MISSING
    chunks: int = MISSING


@dataclass
class PaddingConfig:
    """`padding`: how a short segment is completed."""

    mode: str = MISSING


@dataclass
class FeatureConfig:
    """`features`: waveform to log-mel."""

    sample_rate: int = MISSING
    n_fft: int = MISSING
    hop: int = MISSING
    n_mels: int = MISSING
    f_min: float = MISSING
    f_max: float = MISSING
    floor: float = MISSING
    normalization: str = MISSING
    roll: bool = MISSING
    test_rolls: int = 1  # the default is for runs of release 0.1


@dataclass
class AugmentConfig:
    """`augment`: copies of the training cycles, and how an epoch uses them."""

    stretch: str = MISSING
    stretch_rate: list[float] = MISSING
    vtlp_copies: dict[str, int] = MISSING
    vtlp_alpha: list[float] = MISSING
    vtlp_f_hi: list[float] = MISSING
    redraw: str = MISSING
    # The defaults are for runs of release 0.2, which lack these keys.
    balance: float = 0.0
    mixup: float = 0.0
    band_mask: int = 0
    frame_mask: int = 0


@dataclass
class ModelConfig:
    """`model`: the network, its initial weights, L2 penalty and Adam's epsilon."""

    name: str = "cnn7"  # in models/registry.py; the default is for runs of release 0.1
    l2: float = MISSING
    adam_eps: float = MISSING
    checkpoint: str | None = None
    pretrained: bool = False
    # Settings of cnn7, then those of any other network.
    width: float | None = None
    table1: str | None = None
    bn_momentum: float | None = None
    bn_eps: float | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class LossConfig:
    """`loss`: the focal loss, or a teacher's probabilities."""

    gamma: float = MISSING
    teacher: str | None = None


@dataclass
class AnnealingConfig:
    """`annealing`: learning rate, periods and snapshots."""

    schedule: str = MISSING
    cycles: int = MISSING
    epochs_per_cycle: int = MISSING
    total_epochs: int | None = MISSING
    max_lr: float = MISSING
    select: str = MISSING
    monitor: str = MISSING
    continue_from: str = MISSING
    constant_epochs: int | None = 150  # the default is for runs of release 0.1


@dataclass
class TaskConfig:
    """`task`: number of classes."""

    classes: int = MISSING


@dataclass
class TrainerConfig:
    """`trainer`: device, batches and precision."""

    accelerator: str = MISSING
    batch_size: int = MISSING
    num_workers: int | None = MISSING
    precision: str = MISSING
    # The defaults are for runs of release 0.1, which lack these keys.
    cache: str = "auto"
    matmul_precision: str = "highest"
    deterministic: bool = True
    compile: bool = False


@dataclass
class TrackingConfig:
    """`tracking`: MLflow."""

    uri: str = MISSING
    experiment: str = MISSING
    study: str | None = MISSING
    log_snapshots: bool = MISSING
    # The defaults are for runs of release 0.2, which lack these keys.
    log_model: bool = False
    system_metrics: bool = False


@dataclass
class Config:
    """All settings of a run."""

    data: DataConfig = MISSING
    split: SplitConfig = MISSING
    segment: SegmentConfig = MISSING
    padding: PaddingConfig = MISSING
    features: FeatureConfig = MISSING
    augment: AugmentConfig = MISSING
    model: ModelConfig = MISSING
    loss: LossConfig = MISSING
    annealing: AnnealingConfig = MISSING
    task: TaskConfig = MISSING
    trainer: TrainerConfig = MISSING
    tracking: TrackingConfig = MISSING
    seed: int = MISSING
    output_dir: str = MISSING
    store_dir: str = MISSING
    redo: bool = MISSING


def gpu_count(default: int) -> int:
    """Return the number of visible GPUs; `default` if there is none."""
    import torch  # slow, and only a parallel launcher asks

    return torch.cuda.device_count() or default


def gpus_per_job() -> int:
    """Return 1 if a GPU is visible, and else 0: a training uses one at most."""
    return min(1, gpu_count(0))


ConfigStore.instance().store(name="schema", node=Config)
for resolver in (environment, expand_user, gpu_count, gpus_per_job):  # ${environment:NAME,DEFAULT}
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


def to_container(settings: Any) -> Any:
    """Return a settings object as plain dicts and lists, for content keys and files."""
    return OmegaConf.to_container(OmegaConf.structured(settings))
