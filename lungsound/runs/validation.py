"""Check the configuration before any work: each value, and values that depend on each other."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lungsound.config.schema import Config, ModelConfig
from lungsound.data.labels import LABEL_SETS
from lungsound.data.registry import DATABASES
from lungsound.data.splits.protocols import PROTOCOLS, protocol_keys
from lungsound.errors import ConfigError

CHOICES: dict[str, Sequence[Any]] = {
    "padding.mode": ("sample", "zero", "tile"),
    "features.normalization": ("segment", "band", "global"),
    "augment.stretch": ("phase_vocoder", "resample", "none"),
    "augment.redraw": ("once", "epoch"),
    "model.table1": ("inputs", "outputs", None),
    "annealing.schedule": ("cosine", "constant"),
    "annealing.select": ("best", "last"),
    "annealing.monitor": ("score", "accuracy", "loss"),
    "annealing.continue_from": ("last", "best"),
    "trainer.accelerator": ("auto", "cpu", "gpu"),
    "trainer.precision": ("32-true", "16-mixed", "bf16-mixed"),
    "trainer.matmul_precision": ("highest", "high", "medium"),
}
# Key -> (lowest, highest) value, both allowed; None: no bound. The highest values are far above any
# use: they reject typing errors and foreign files that would exhaust memory.
RANGES: dict[str, tuple[float | None, float | None]] = {
    "seed": (0, 2**32 - 1),
    "split.seed": (0, 2**32 - 1),
    "split.folds": (2, 10_000),
    "split.fold": (0, None),
    "data.demo_seed": (0, 2**32 - 1),
    "data.demo_patients": (1, 699),
    "data.demo_cycles": (1, 1_000_000),
    "segment.chunks": (1, 10_000),
    "features.sample_rate": (1, 1_000_000),
    "features.n_fft": (2, 2**16),
    "features.hop": (1, 2**16),
    "features.n_mels": (1, 2**12),
    "features.f_min": (0, None),
    "annealing.cycles": (1, 10_000),
    "annealing.epochs_per_cycle": (1, 1_000_000),
    "annealing.total_epochs": (1, 1_000_000),
    "annealing.constant_epochs": (1, 1_000_000),
    "model.l2": (0, None),
    "model.bn_momentum": (0, 1),
    "loss.gamma": (0, None),
    "trainer.batch_size": (2, 2**16),
    "trainer.num_workers": (0, 1000),
}
# Key -> highest value, None for no bound; values must be above 0.
POSITIVE_UPPER_BOUNDS: dict[str, float | None] = {
    "segment.seconds": 3600,
    "features.f_max": None,
    "features.floor": None,
    "annealing.max_lr": None,
    "model.width": 8,
    "model.bn_eps": None,
    "model.adam_eps": None,
}
MAX_VTLP_COPIES = 1000  # per cycle
AUGMENT_RANGES = {"stretch_rate": (0.1, 10.0), "vtlp_alpha": (0.1, 10.0), "vtlp_f_hi": (0.0, 1e6)}


def registered_choices() -> dict[str, Sequence[Any]]:
    """Return the valid values of the keys that name an entry of a registry."""
    from lungsound.models.registry import NETWORKS  # here: it imports torch, which is slow

    protocols = dict.fromkeys(PROTOCOLS)
    for spec in DATABASES.values():
        protocols |= dict.fromkeys(spec.protocols)
    return {
        "data.name": tuple(DATABASES),
        "model.name": tuple(NETWORKS),
        "split.protocol": tuple(protocols),
        "task.classes": sorted({len(labels) for labels in LABEL_SETS}),
    }


def validate_config(cfg: DictConfig) -> Config:
    """Check the composed configuration, and return it as typed objects.

    Raises ConfigError with all errors, each with its key, the expected and the given value.
    """
    choices = {**CHOICES, **registered_choices()}
    try:
        settings = OmegaConf.to_object(cfg)
        value = {
            key: OmegaConf.select(cfg, key) for key in (*choices, *RANGES, *POSITIVE_UPPER_BOUNDS)
        }
    except OmegaConfBaseException as error:  # ???, or an interpolation that leads nowhere
        raise ConfigError(f"The configuration cannot be run: {error}") from error
    errors = [f"{key}: expected a key that there is; --cfg job shows them all, but got a new one"
              for key in _unknown_keys(cfg, settings)]  # fmt: skip
    errors += [f"{key}: expected one of {', '.join(str(one) for one in known if one is not None)}, but got {value[key]!r}"
             for key, known in choices.items() if value[key] not in known]  # fmt: skip
    errors += [f"{key}: expected {_describe_range(value[key], low, high)}, but got {value[key]!r}"
               for key, (low, high) in RANGES.items()
               if not _in_range(value[key], low, high)]  # fmt: skip
    errors += [f"{key}: expected a number above 0, but got {value[key]!r}"
               for key in POSITIVE_UPPER_BOUNDS
               if value[key] is not None and not 0 < value[key] < math.inf]  # fmt: skip
    errors += [f"{key}: expected at most {high}, but got {value[key]!r}"
               for key, high in POSITIVE_UPPER_BOUNDS.items()
               if None not in (high, value[key]) and high < value[key] < math.inf]  # fmt: skip
    if not errors:  # the checks below rely on each value being valid
        errors = [
            message
            for check in (
                _check_database,
                _check_split,
                _check_epochs,
                _check_augment,
                _check_device,
                _check_feature_sizes,
            )
            for message in check(cfg)
        ]
    if errors:
        raise ConfigError(
            "\n".join(["The configuration cannot be run:", *(f"  - {line}" for line in errors)])
        )
    assert isinstance(settings, Config)
    return settings


def _unknown_keys(cfg: DictConfig, settings: Any, prefix: str = "") -> Iterator[str]:
    """Yield the keys that Hydra's `+key=value` added and nothing would read."""
    known = {field.name for field in fields(settings)}
    for key in map(str, cfg):
        if key not in known:
            yield f"{prefix}{key}"
        elif is_dataclass(part := getattr(settings, key)):
            yield from _unknown_keys(cfg[key], part, f"{prefix}{key}.")


def _check_database(cfg: DictConfig) -> list[str]:
    data, spec = cfg.data, DATABASES[cfg.data.name]
    wrong = []
    if spec.create is None and data.root is None:
        wrong.append(
            f"data.root: expected the folder of the database {data.name}, but got none. "
            "Add data.root=PATH, or set LUNGSOUND_DATA=PATH"
        )
    if spec.create is not None and data.root is not None:
        wrong.append(
            f"data.root: expected none for data={data.name}, which is generated, but got "
            f"{data.root!r}. Add data=icbhi"
        )
    if data.demo_cycles < data.demo_patients:
        wrong.append(
            "data.demo_cycles: expected one or more for each of "
            f"data.demo_patients={data.demo_patients}, but got {data.demo_cycles}"
        )
    sizes = sorted(len(labels) for labels in spec.tasks)
    if cfg.task.classes not in sizes:
        wrong.append(
            f"task.classes: expected one of {', '.join(map(str, sizes))} for data={data.name}, "
            f"but got {cfg.task.classes}"
        )
    return wrong


def _check_split(cfg: DictConfig) -> list[str]:
    """Compare the keys of `split` with the signature of the protocol's function."""
    split, data = cfg.split, cfg.data.name
    protocols = DATABASES[data].all_protocols
    if split.protocol not in protocols:
        return [
            f"split={split.protocol}: expected one of {', '.join(protocols)} for data={data}, "
            "whose own split is not known"
        ]
    keys = protocol_keys(protocols[split.protocol])
    wrong = []
    for key in ("file", "folds", "fold", "part"):
        if split[key] is None and keys.get(key, False):
            wrong.append(
                f"split.{key}: expected a value for split={split.protocol}, but got none. "
                f"Add split.{key}={'PATH' if key == 'file' else 'NUMBER'}"
            )
        if split[key] is not None and key not in keys:
            users = [name for name, one in protocols.items() if key in protocol_keys(one)]
            wrong.append(
                f"split.{key}: expected none for split={split.protocol} data={data}, but got "
                f"{split[key]!r}. It is for split={' or '.join(users) or 'another database'}"
            )
    if not wrong and None not in (split.fold, split.folds) and split.fold >= split.folds:
        wrong.append(
            f"split.fold: expected less than split.folds={split.folds}, but got {split.fold}"
        )
    return wrong


def _check_epochs(cfg: DictConfig) -> list[str]:
    annealing = cfg.annealing
    total, cycles = annealing.total_epochs, annealing.cycles
    if annealing.schedule == "constant" or total is None or total >= cycles:
        return []
    return [
        f"annealing.total_epochs: expected at least annealing.cycles={cycles}, one epoch per "
        f"cycle, but got {total}"
    ]


def _check_augment(cfg: DictConfig) -> list[str]:
    wrong = []
    for key, (low, high) in AUGMENT_RANGES.items():
        limits = list(cfg.augment[key])
        if len(limits) != 2 or not 0 < limits[0] <= limits[1]:
            wrong.append(f"augment.{key}: expected two rising numbers above 0, but got {limits}")
        elif limits[0] < low or limits[1] > high:
            wrong.append(f"augment.{key}: expected numbers from {low} to {high}, but got {limits}")
    copies = dict(cfg.augment.vtlp_copies)
    labels = DATABASES[cfg.data.name].label_sets["label"].labels
    known = {label for one in LABEL_SETS for label in one.labels}
    in_range = all(0 <= count <= MAX_VTLP_COPIES for count in copies.values())
    is_named = set(labels) <= set(copies) or not any(copies.values())
    if not is_named or not set(copies) <= known or not in_range:
        wrong.append(
            f"augment.vtlp_copies: expected {', '.join(labels)} with numbers from 0 to "
            f"{MAX_VTLP_COPIES}, but got {copies}"
        )
    if (
        not wrong
        and max(copies.values())
        and cfg.augment.vtlp_f_hi[1] >= cfg.features.sample_rate / 2
    ):
        wrong.append(
            "augment.vtlp_f_hi: expected less than half of "
            f"features.sample_rate={cfg.features.sample_rate}, "
            f"but got {list(cfg.augment.vtlp_f_hi)} Hz"
        )
    return wrong


def _check_device(cfg: DictConfig) -> list[str]:
    import torch  # here: torch is slow to import

    if cfg.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        return [
            "trainer.accelerator: expected a GPU for trainer=gpu, but torch finds none. "
            "Use trainer=auto"
        ]
    if cfg.trainer.precision == "16-mixed" and (
        cfg.trainer.accelerator == "cpu" or not torch.cuda.is_available()
    ):
        return [
            "trainer.precision: expected another one on a CPU, but got '16-mixed'. "
            "Use trainer.precision=32-true"
        ]
    return []


def _check_feature_sizes(cfg: DictConfig) -> list[str]:
    """Check that segment, frame, chunk and network input are large enough for each other."""
    # Here: these modules import torch, which is slow.
    from lungsound.models.registry import NETWORKS
    from lungsound.signal.chunks import frames_per_chunk
    from lungsound.signal.spectrum import frame_count

    features, segment = cfg.features, cfg.segment
    if features.f_max > features.sample_rate / 2 or features.f_min >= features.f_max:
        return [
            f"features.f_max: expected more than features.f_min={features.f_min} "
            f"and at most half of features.sample_rate={features.sample_rate}, "
            f"but got {features.f_max}"
        ]
    samples = round(segment.seconds * features.sample_rate)
    name = f"segment.seconds={segment.seconds}"
    if samples < features.n_fft:
        return [
            f"{name}: expected at least one frame of {features.n_fft} samples, "
            f"but got {samples} samples"
        ]
    frames = frame_count(samples, features.n_fft, features.hop)
    chunk = frames_per_chunk(frames, segment.chunks)
    if chunk < 1:
        return [
            f"segment.chunks={segment.chunks}: expected at most one chunk per frame, "
            f"but {name} has {frames} frames"
        ]
    model = OmegaConf.to_object(cfg.model)
    assert isinstance(model, ModelConfig)
    wrong = NETWORKS[model.name].check_settings(model.settings())
    if wrong:
        return [f"model.{line} (model.name={model.name})" for line in wrong]
    min_size = NETWORKS[model.name].min_size(**model.settings())
    if chunk < min_size:
        where = f"{name} in {segment.chunks} chunks"
        wrong.append(
            f"{where}: expected at least {min_size} frames per chunk for the network, "
            f"but got {chunk}"
        )
    if features.n_mels < min_size:
        wrong.append(
            f"features.n_mels: expected at least {min_size} for the network, "
            f"but got {features.n_mels}"
        )
    return wrong


def _in_range(value: float | None, low: float | None, high: float | None) -> bool:
    if value is None:  # the key may be null, or the schema would have rejected it
        return True
    if not math.isfinite(value):
        return False
    return (low is None or value >= low) and (high is None or value <= high)


def _describe_range(value: float, low: float | None, high: float | None) -> str:
    return (
        f"at least {low}"
        if high is None or (low is not None and value < low)
        else f"a value from {low} to {high}"
    )
