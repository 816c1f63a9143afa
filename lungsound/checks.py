"""The configuration's ranges and cross conditions, checked before any work."""

import math

from omegaconf import DictConfig, OmegaConf

from lungsound.config import Config
from lungsound.errors import ConfigError

CHOICES = {
    "data.name": ("demo", "icbhi", "sprsound"),
    "split.protocol": ("random", "patient", "official", "official_clean", "file"),
    "padding.mode": ("sample", "zero"),
    "features.normalization": ("segment", "band", "global"),
    "augment.stretch": ("phase_vocoder", "resample", "none"),
    "augment.redraw": ("once", "epoch"),
    "model.table1": ("inputs", "outputs"),
    "annealing.schedule": ("cosine", "constant"),
    "annealing.select": ("best", "last"),
    "annealing.monitor": ("score", "accuracy", "loss"),
    "annealing.continue_from": ("last", "best"),
    "split.part": ("inter", "intra", "both", None),
    "task.classes": (2, 4, 7),
    "trainer.accelerator": ("auto", "cpu", "gpu"),
    "trainer.precision": ("32-true", "16-mixed", "bf16-mixed"),
}
# key: (lowest, highest) value, both allowed; None: no bound.
RANGES: dict[str, tuple[float | None, float | None]] = {
    "seed": (0, 2**32 - 1),
    "split.seed": (0, 2**32 - 1),
    "split.folds": (2, None),
    "split.fold": (0, None),
    "data.demo_seed": (0, 2**32 - 1),
    "data.demo_patients": (1, 699),
    "data.demo_cycles": (1, None),
    "segment.chunks": (1, None),
    "features.sample_rate": (1, None),
    "features.n_fft": (2, None),
    "features.hop": (1, None),
    "features.n_mels": (1, None),
    "features.f_min": (0, None),
    "annealing.cycles": (1, None),
    "annealing.epochs_per_cycle": (1, None),
    "annealing.total_epochs": (1, None),
    "model.l2": (0, None),
    "model.bn_momentum": (0, 1),
    "loss.gamma": (0, None),
    "trainer.batch_size": (2, None),
    "trainer.num_workers": (0, None),
}
ABOVE_ZERO = (
    "segment.seconds",
    "features.f_max",
    "features.floor",
    "annealing.max_lr",
    "model.width",
    "model.bn_eps",
    "model.adam_eps",
)


def checked(cfg: DictConfig) -> Config:
    """The composed configuration as typed objects, its ranges and cross conditions checked.

    Raises ConfigError that lists everything wrong, each with its key, what was expected and what came.
    """
    value = {
        key: OmegaConf.select(cfg, key, throw_on_missing=True) for key in (*CHOICES, *RANGES, *ABOVE_ZERO, "data.root")
    }
    wrong = [f"{key}: expected one of {', '.join(map(str, known))}, but got {value[key]!r}"
             for key, known in CHOICES.items() if value[key] not in known]  # fmt: skip
    wrong += [f"{key}: expected {_range_words(low, high)}, but got {value[key]!r}"
              for key, (low, high) in RANGES.items() if not _within(value[key], low, high)]  # fmt: skip
    wrong += [f"{key}: expected a number above 0, but got {value[key]!r}"
              for key in ABOVE_ZERO if not 0 < value[key] < math.inf]  # fmt: skip
    if not wrong:  # the cross checks take it that each value alone is right
        wrong = [
            message
            for check in (_check_database, _check_split, _check_budget, _check_augment, _check_device, _check_pictures)
            for message in check(cfg)
        ]
    if wrong:
        raise ConfigError("\n".join(["The configuration cannot be run:", *(f"  - {line}" for line in wrong)]))
    settings = OmegaConf.to_object(cfg)
    assert isinstance(settings, Config)
    return settings


def _check_database(cfg: DictConfig) -> list[str]:
    wrong = []
    if cfg.data.name != "demo" and cfg.data.root is None:
        wrong.append(
            f"data.root: expected the folder of the database {cfg.data.name}, but got none. Add data.root=PATH, "
            "or set LUNGSOUND_DATA=PATH"
        )
    if cfg.data.name == "demo" and cfg.data.root is not None:
        wrong.append(
            f"data.root: expected none for data=demo, which is made on the spot, but got {cfg.data.root!r}. "
            "Add data=icbhi"
        )
    if cfg.data.demo_cycles < cfg.data.demo_patients:
        wrong.append(
            f"data.demo_cycles: expected one or more for each of data.demo_patients={cfg.data.demo_patients}, "
            f"but got {cfg.data.demo_cycles}"
        )
    if cfg.task.classes == 7 and cfg.data.name != "sprsound":
        wrong.append(
            f"task=sprsound_seven: expected data=sprsound, whose event types these are, but got {cfg.data.name}"
        )
    return wrong


def _check_split(cfg: DictConfig) -> list[str]:
    split, data = cfg.split, cfg.data.name
    official = split.protocol.startswith("official")
    wrong = []
    if split.protocol == "file" and split.file is None:
        wrong.append("split.file: expected the path of a split table, but got none. Add split.file=PATH")
    if official and data == "demo":
        wrong.append(f"split={split.protocol}: expected a database with a split of its own, but got data=demo")
    users = {
        "file": (split.protocol == "file" or (official and data == "icbhi"), "split=file, and split=official of icbhi"),
        "part": (official and data == "sprsound", "split=official and official_clean of data=sprsound"),
        "folds": (split.protocol == "patient", "split=patient"),
        "fold": (split.protocol == "patient", "split=patient"),
    }
    for key, (used, users_words) in users.items():
        if split[key] is not None and not used:
            wrong.append(
                f"split.{key}: expected none for split={split.protocol} data={data}, but got {split[key]!r}. "
                f"It is for {users_words}"
            )
    if split.protocol == "patient" and (split.folds is None or split.fold is None):
        wrong.append(f"split.folds, split.fold: expected two numbers, but got {split.folds} and {split.fold}")
    elif split.protocol == "patient" and split.fold >= split.folds:
        wrong.append(f"split.fold: expected less than split.folds={split.folds}, but got {split.fold}")
    return wrong


def _check_budget(cfg: DictConfig) -> list[str]:
    budget = cfg.annealing
    if budget.total_epochs is not None and budget.total_epochs < budget.cycles:
        return [
            f"annealing.total_epochs: expected at least annealing.cycles={budget.cycles}, one epoch a cycle, "
            f"but got {budget.total_epochs}"
        ]
    return []


def _check_augment(cfg: DictConfig) -> list[str]:
    wrong = []
    for key in ("stretch_rate", "vtlp_alpha", "vtlp_f_hi"):
        limits = list(cfg.augment[key])
        if len(limits) != 2 or not 0 < limits[0] <= limits[1]:
            wrong.append(f"augment.{key}: expected two rising numbers above 0, but got {limits}")
    copies = dict(cfg.augment.vtlp_copies)
    if set(copies) != {"normal", "crackle", "wheeze", "both"} or min(copies.values()) < 0:
        wrong.append(
            f"augment.vtlp_copies: expected normal, crackle, wheeze and both with numbers from 0, but got {copies}"
        )
    if not wrong and max(copies.values()) and cfg.augment.vtlp_f_hi[1] >= cfg.features.sample_rate / 2:
        wrong.append(
            f"augment.vtlp_f_hi: expected less than half of features.sample_rate={cfg.features.sample_rate}, "
            f"but got {list(cfg.augment.vtlp_f_hi)} Hz"
        )
    return wrong


def _check_device(cfg: DictConfig) -> list[str]:
    import torch  # here, as the schema above must load in an instant

    if cfg.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        return ["trainer.accelerator: expected a GPU for trainer=gpu, but torch finds none. Use trainer=auto"]
    if cfg.trainer.precision == "16-mixed" and (cfg.trainer.accelerator == "cpu" or not torch.cuda.is_available()):
        return ["trainer.precision: expected another one on a CPU, but got '16-mixed'. Use trainer.precision=32-true"]
    return []


def _check_pictures(cfg: DictConfig) -> list[str]:
    """From the segment to the last feature map: is there enough time for every step?"""
    # Here, as these rooms load torch.
    from lungsound.signal.chunks import chunk_frames
    from lungsound.signal.spectrum import frame_count
    from lungsound.training.cnn import smallest_picture

    features, segment = cfg.features, cfg.segment
    if features.f_max > features.sample_rate / 2 or features.f_min >= features.f_max:
        return [
            f"features.f_max: expected more than features.f_min={features.f_min} and at most half of "
            f"features.sample_rate={features.sample_rate}, but got {features.f_max}"
        ]
    samples = round(segment.seconds * features.sample_rate)
    name = f"segment.seconds={segment.seconds}"
    if samples < features.n_fft:
        return [f"{name}: expected at least one frame of {features.n_fft} samples, but got {samples} samples"]
    frames = frame_count(samples, features.n_fft, features.hop)
    chunk = chunk_frames(frames, segment.chunks)
    if chunk < 1:
        return [f"segment.chunks={segment.chunks}: expected at most one chunk a frame, but {name} has {frames} frames"]
    smallest = smallest_picture(cfg.model.table1)
    wrong = []
    if chunk < smallest:
        what = f"{name} in {segment.chunks} chunks"
        wrong.append(f"{what}: expected at least {smallest} frames a chunk for the network, but got {chunk}")
    if features.n_mels < smallest:
        wrong.append(f"features.n_mels: expected at least {smallest} for the network, but got {features.n_mels}")
    return wrong


def _within(value: float | None, low: float | None, high: float | None) -> bool:
    if value is None:  # a key that may be null; the schema's types refuse null elsewhere
        return True
    if not math.isfinite(value):
        return False
    return (low is None or value >= low) and (high is None or value <= high)


def _range_words(low: float | None, high: float | None) -> str:
    return f"at least {low}" if high is None else f"a value from {low} to {high}"
