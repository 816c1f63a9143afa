"""Check the configuration before any work: each value, and values that depend on each other."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lungsound.config.corrections import KEYS, describe_unknown_key
from lungsound.config.limits import (
    ABOVE_0,
    AUGMENT_RANGES,
    CHOICES,
    MAX_VTLP_COPIES,
    PATH_KEYS,
    RANGES,
)
from lungsound.config.schema import Config
from lungsound.data.labels import own_label_set
from lungsound.data.registry import DATABASES, DatabaseSpec, find_database
from lungsound.data.splits.protocols import PROTOCOLS, protocol_keys
from lungsound.errors import ConfigError
from lungsound.storage.places import expand_user


def registered_choices() -> dict[str, Sequence[Any]]:
    """Return the valid values of the keys that name an entry of a registry."""
    protocols = dict.fromkeys(PROTOCOLS)
    for spec in DATABASES.values():
        protocols |= dict.fromkeys(spec.protocols)
    return {
        "data.name": tuple(DATABASES),
        "split.protocol": tuple(protocols),
    }


def validate_config(cfg: DictConfig, trains_here: bool = True) -> Config:
    """Check the composed configuration, and return it as typed objects.

    `trains_here`: this machine's device is checked too; a run on another one checks its own.
    Raises ConfigError with all errors, each with its key, the expected and the given value.
    """
    try:
        missing = OmegaConf.missing_keys(cfg)  # set to ???, or deleted by ~key, as those below
        if not missing:
            missing = {
                key for key in KEYS if OmegaConf.select(cfg, key, default=MISSING) == MISSING
            }
        if missing:
            keys = ", ".join(sorted(missing))
            raise ConfigError(f"The configuration cannot be run: {keys}: expected a value")
        settings: Config = OmegaConf.to_object(cfg)  # type: ignore[assignment]
    except OmegaConfBaseException as error:  # an interpolation that leads nowhere
        raise ConfigError(f"The configuration cannot be run: {error}") from error
    errors = [f"{key}: {describe_unknown_key(key)}" for key in _unknown_keys(cfg, settings)]
    errors += [*_check_values(cfg), *_check_labels(settings), *_expand_paths(settings)]
    if not errors:  # the checks below rely on each value being valid
        checks = [_check_database, _check_split, _check_augment, _check_sizes]
        if trains_here:
            checks.append(_check_device)
        errors = [message for check in checks for message in check(settings)]
    if errors:
        lines = "".join(f"\n  - {error}" for error in errors)
        raise ConfigError(f"The configuration cannot be run:{lines}")
    return settings


def _unknown_keys(cfg: DictConfig, settings: Any, prefix: str = "") -> Iterator[str]:
    """Yield the keys that Hydra's `+key=value` added and nothing would read."""
    known = {field.name for field in fields(settings)}
    for key in map(str, cfg):
        if key not in known:
            yield f"{prefix}{key}"
        elif is_dataclass(part := getattr(settings, key)):
            yield from _unknown_keys(cfg[key], part, f"{prefix}{key}.")


def _expand_paths(settings: Config) -> Iterator[str]:
    """Replace `~` in every key that is a path, and yield an error for each that is none."""
    for key in PATH_KEYS:
        block, _, name = key.rpartition(".")
        part = getattr(settings, block) if block else settings
        value = getattr(part, name)
        try:
            setattr(part, name, None if value is None else expand_user(value))
        except ConfigError as error:
            yield f"{key}={value}: {error}"


def _format_error(key: str, what: str, got: Any, hint: str = "") -> str:
    return f"{key}: expected {what}, but got {got}" + (f". {hint}" if hint else "")


def _format_range(low: float, high: float) -> str:
    if high < math.inf and low != ABOVE_0:
        return f"a number from {low} to {high}"
    lowest = "above 0" if low == ABOVE_0 else f"of at least {low}"
    return f"a number {lowest}" + (f" and at most {high}" if high < math.inf else "")


def _check_values(cfg: DictConfig) -> Iterator[str]:
    for key, known in (CHOICES | registered_choices()).items():
        value = OmegaConf.select(cfg, key)
        if value not in known:
            names = ", ".join(str(one) for one in known if one is not None)
            yield _format_error(key, f"one of {names}", repr(value))
    for key, (low, high) in RANGES.items():
        value = OmegaConf.select(cfg, key)  # None if the schema allows it
        if value is not None and not (low <= value <= high and math.isfinite(value)):
            yield _format_error(key, _format_range(low, high), value)


def _check_labels(settings: Config) -> Iterator[str]:
    try:
        own_label_set(settings.data.labels or ["normal", "abnormal"])
    except ValueError as error:
        yield f"data.labels: {error}"


def _database(settings: Config) -> DatabaseSpec:
    data = settings.data
    return find_database(data.name, data.table, data.labels)


def _check_database(settings: Config) -> Iterator[str]:
    data, spec, classes = settings.data, _database(settings), settings.task.classes
    if spec.create is None and data.root is None:
        hint = "Add data.root=PATH, or set LUNGSOUND_DATA=PATH"
        yield _format_error("data.root", f"the folder of the database {data.name}", "none", hint)
    if spec.create is not None and data.root is not None:
        what = f"none for data={data.name}, which is generated"
        yield _format_error("data.root", what, repr(data.root), "Add data=icbhi")
    if data.demo_cycles < data.demo_patients:
        what = f"one or more for each of data.demo_patients={data.demo_patients}"
        yield _format_error("data.demo_cycles", what, data.demo_cycles)
    for key in ("table", "labels"):
        value = getattr(data, key)
        if data.name != "table" and value is not None:
            what = f"none for data={data.name}"
            yield _format_error(f"data.{key}", what, repr(value), "It is for data=table")
    sizes = sorted(len(labels) for labels in spec.tasks)
    if classes not in sizes:
        what = f"one of {', '.join(map(str, sizes))} for data={data.name}"
        yield _format_error("task.classes", what, classes, f"Add task.classes={sizes[-1]}")


def _check_split(settings: Config) -> Iterator[str]:
    """Compare the keys of `split` with the signature of the protocol's function."""
    split, data = settings.split, settings.data.name
    name, protocols = split.protocol, _database(settings).all_protocols
    if name not in protocols:
        what = f"one of {', '.join(protocols)} for data={data}"
        yield _format_error("split", what, f"{name}, which that database does not have")
        return
    keys = protocol_keys(protocols[name])
    for key in ("file", "folds", "fold", "part"):
        value = getattr(split, key)
        if value is None and keys.get(key, False):
            hint = f"Add split.{key}={'PATH' if key == 'file' else 'NUMBER'}"
            yield _format_error(f"split.{key}", f"a value for split={name}", "none", hint)
        elif value is not None and key not in keys:
            users = [user for user, one in protocols.items() if key in protocol_keys(one)]
            hint = f"It is for split={' or '.join(users) or 'another database'}"
            what = f"none for split={name} data={data}"
            yield _format_error(f"split.{key}", what, repr(value), hint)
        elif key == "fold" and value is not None and value >= (split.folds or math.inf):
            yield _format_error("split.fold", f"less than split.folds={split.folds}", value)


def _check_augment(settings: Config) -> Iterator[str]:
    augment, rate = settings.augment, settings.features.sample_rate
    for key, (low, high) in AUGMENT_RANGES.items():
        limits = getattr(augment, key)
        if len(limits) != 2 or not 0 < limits[0] <= limits[1]:
            yield _format_error(f"augment.{key}", "two rising numbers above 0", limits)
        elif limits[0] < low or limits[1] > high:
            yield _format_error(f"augment.{key}", f"numbers from {low} to {high}", limits)
    copies, labels = augment.vtlp_copies, _database(settings).label_sets["label"].labels
    known = {one for spec in DATABASES.values() for one in spec.label_sets["label"].labels}
    known.update(labels)
    in_range = all(0 <= count <= MAX_VTLP_COPIES for count in copies.values())
    is_named = set(labels) <= set(copies) or not any(copies.values())
    if not (is_named and in_range and set(copies) <= known):
        what = f"{', '.join(labels)} with numbers from 0 to {MAX_VTLP_COPIES}"
        hint = "Without copies: augment=none"
        yield _format_error("augment.vtlp_copies", what, copies, hint)
    if any(copies.values()) and max(augment.vtlp_f_hi, default=0) >= rate / 2:
        what = f"less than half of features.sample_rate={rate} Hz"
        yield _format_error("augment.vtlp_f_hi", what, augment.vtlp_f_hi)


def _check_device(settings: Config) -> Iterator[str]:
    import torch  # here: torch is slow to import

    trainer, has_gpu = settings.trainer, torch.cuda.is_available()
    if trainer.accelerator == "gpu" and not has_gpu:
        got = "none that torch finds"
        yield _format_error("trainer.accelerator", "a GPU", got, "Use trainer=auto")
    elif trainer.precision == "16-mixed" and (trainer.accelerator == "cpu" or not has_gpu):
        hint = "Use trainer.precision=32-true"
        yield _format_error("trainer.precision", "another one on a CPU", "'16-mixed'", hint)


def _check_sizes(settings: Config) -> Iterator[str]:
    """Check that epochs, segment, frame, chunk and network input fit each other."""
    # Here: these modules import torch, which is slow.
    from lungsound.signal.chunks import frames_per_chunk
    from lungsound.signal.spectrum import frame_count

    features, segment, annealing = settings.features, settings.segment, settings.annealing
    epochs, cycles = annealing.total_epochs, annealing.cycles
    if annealing.schedule != "constant" and epochs is not None and epochs < cycles:
        what = f"at least annealing.cycles={cycles}, one epoch per cycle"
        yield _format_error("annealing.total_epochs", what, epochs)
    if annealing.select == "average" and annealing.continue_from == "best":
        what = "last or fresh with annealing.select=average"
        yield _format_error("annealing.continue_from", what, "best")
    if not features.f_min < features.f_max <= features.sample_rate / 2:
        what = f"more than features.f_min={features.f_min} and at most half of "
        what += f"features.sample_rate={features.sample_rate}"
        yield _format_error("features.f_max", what, features.f_max)
        return
    samples = round(segment.seconds * features.sample_rate)
    name = f"segment.seconds={segment.seconds}"
    if samples < features.n_fft:
        what = f"at least one frame of {features.n_fft} samples"
        yield _format_error(name, what, f"{samples} samples")
        return
    frames = frame_count(samples, features.n_fft, features.hop)
    if segment.chunks > frames:
        what = f"at most {frames}, one per frame of {name}"
        yield _format_error("segment.chunks", what, segment.chunks)
        return
    chunk_frames = frames_per_chunk(frames, segment.chunks)
    yield from _check_masks(settings, chunk_frames)
    yield from _check_network(settings, chunk_frames)


def _check_masks(settings: Config, frames: int) -> Iterator[str]:
    sizes = {"band_mask": settings.features.n_mels, "frame_mask": frames}
    for key, size in sizes.items():
        if (widest := getattr(settings.augment, key)) > size:
            yield _format_error(f"augment.{key}", f"at most a chunk's {size}", widest)


def _check_network(settings: Config, frames: int) -> Iterator[str]:
    """Check the network's settings, and its input of `frames` per chunk."""
    from lungsound.models.registry import OURS, find_network, network_settings  # here, as above

    model, segment, bands = settings.model, settings.segment, settings.features.n_mels
    if model.checkpoint is not None and not Path(model.checkpoint).is_file():
        yield _format_error("model.checkpoint", "a file of weights", repr(model.checkpoint))
    try:
        network = find_network(model.name)
    except ConfigError as error:
        yield str(error)
        return
    if model.pretrained and network.pretrained is None:
        yield _format_error("model.pretrained", f"false for model.name={model.name}", "true")
    own = network_settings(vars(model))
    wrong = network.check_settings(own)
    yield from (f"model.{line} (model.name={model.name})" for line in wrong)
    if wrong:
        return
    smallest = network.min_size(**own)
    if frames < smallest:
        what = f"at least {smallest} frames per chunk for the network"
        name = f"segment.seconds={segment.seconds} in {segment.chunks} chunks"
        yield _format_error(name, what, frames)
    if bands < smallest:
        yield _format_error("features.n_mels", f"at least {smallest} for the network", bands)
    if model.name in OURS or min(frames, bands) < smallest:
        return
    sizes = {"classes": settings.task.classes, "bands": bands, "frames": frames}
    if problem := network.check_input(**sizes, **own):
        yield f"model.name={model.name}: {problem}"
