"""The one place where the configuration becomes objects. Below, functions and classes take plain
arguments.
"""

import functools
import hashlib
import inspect
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch

import lungsound.data
import lungsound.signal
import lungsound.training
from lungsound.config.schema import Config, to_container
from lungsound.data.database import Database, open_database
from lungsound.data.labels import FOUR_CLASS, SPRSOUND_SEVEN, LabelSet, label_set
from lungsound.data.readers.icbhi import find_icbhi_folder
from lungsound.data.readers.icbhi_metadata import find_metadata_file
from lungsound.data.splits.leakage import count_leakage
from lungsound.data.splits.leakage import leakage_sentence as leak_line
from lungsound.data.splits.protocols import (
    OFFICIAL_SPLIT_FILENAME,
    official_icbhi,
    official_sprsound,
    patient_split,
)
from lungsound.data.splits.table import check_classes, random_split, read_split
from lungsound.data.synthetic.database import demo_root
from lungsound.errors import DataError
from lungsound.models.cnn7 import CNN7
from lungsound.signal.features import Features
from lungsound.signal.rng import make_rng
from lungsound.signal.spectrum import frame_count
from lungsound.storage.keys import content_key
from lungsound.training.datamodule import Augmentation, CyclesDataModule, SegmentSpec
from lungsound.training.module import SnapshotModule
from lungsound.training.schedule import Annealing
from lungsound.training.trajectory import ChecksummedCheckpointIO, Trajectory

GPU_NUM_WORKERS = 4


@dataclass(frozen=True)
class RunInputs:
    """What a run works on: enough to name it, and to see what of it is stored."""

    database: Database
    cycles: (
        pd.DataFrame
    )  # those in a set: the database's columns, `set`, and `target` (class number)
    notes: tuple[str, ...]  # what a user should know of the database and the split
    leakage: dict[str, Any]  # `count_leakage` of the split
    annealing: Annealing
    trajectory: Trajectory

    @property
    def leakage_sentence(self) -> str:
        """The line that stands beside every score."""
        return leak_line(self.leakage)


@dataclass(frozen=True)
class RunComponents(RunInputs):
    """What one run is built of."""

    datamodule: CyclesDataModule
    module: SnapshotModule


def build_inputs(settings: Config, database: Database | None = None) -> RunInputs:
    """`database`: where it is open already. Raises DataError where the database or the split cannot
    be used.
    """
    database = database or build_database(settings)
    cycles, notes = assign_split(database, settings)
    annealing = Annealing(**vars(settings.annealing))
    key = content_key(trajectory_key_fields(settings, database, cycles, annealing))
    trajectory = Trajectory(Path(settings.store_dir) / "trajectories" / key, annealing)
    return RunInputs(
        database, cycles, (*database.notes, *notes), count_leakage(cycles), annealing, trajectory
    )


def build_components(settings: Config) -> RunComponents:
    """Everything a run needs. Raises DataError where the database or the split cannot be used."""
    inputs = build_inputs(settings)
    datamodule = build_datamodule(settings, inputs.database, inputs.cycles)
    module = build_module(settings, datamodule.cycles["val"])
    if settings.features.normalization != "segment":
        module.features.fit_statistics(datamodule.unaugmented_waveforms())
    return RunComponents(**vars(inputs), datamodule=datamodule, module=module)


def build_datamodule(
    settings: Config, database: Database, cycles: pd.DataFrame
) -> CyclesDataModule:
    """The batches of `cycles`, which have `set` and `target`."""
    features, segment = settings.features, settings.segment
    length = round(segment.seconds * features.sample_rate)
    cutting = SegmentSpec(
        length,
        settings.padding.mode,
        frame_count(length, features.n_fft, features.hop),
        segment.chunks,
    )
    augmentation = Augmentation(**vars(settings.augment), roll=features.roll)
    workers = settings.trainer.num_workers
    if workers is None:  # on a CPU they would take the training's cores
        workers = GPU_NUM_WORKERS if uses_gpu(settings) else 0
    batch_size, seed = settings.trainer.batch_size, settings.seed
    return CyclesDataModule(
        cycles, database.store, cutting, augmentation, batch_size, workers, seed
    )


def build_module(settings: Config, val_cycles: pd.DataFrame) -> SnapshotModule:
    """The untrained module, which watches the scores of the `val_cycles` cycles."""
    model, feature_settings = settings.model, vars(settings.features)
    features = Features(
        **{name: value for name, value in feature_settings.items() if name != "roll"}
    )
    targets = torch.tensor(val_cycles["target"].tolist())
    annealing, chunks = Annealing(**vars(settings.annealing)), settings.segment.chunks
    network, gamma = build_network(settings), settings.loss.gamma
    labels = label_set(settings.task.classes)
    return SnapshotModule(
        features, network, annealing, gamma, chunks, model.l2, model.adam_eps, targets, labels
    )


def build_network(settings: Config) -> CNN7:
    model, seed = settings.model, int(make_rng(settings.seed, "weights").integers(2**31))
    return CNN7(
        settings.task.classes, model.width, model.table1, model.bn_momentum, model.bn_eps, seed
    )


def build_database(settings: Config) -> Database:
    data, store_dir = settings.data, Path(settings.store_dir)
    if data.name == "demo":
        root = demo_root(store_dir, data.demo_seed, data.demo_patients, data.demo_cycles)
    else:
        assert data.root is not None  # checked with the configuration
        root = Path(os.path.expanduser(data.root))
    return open_database(data.name, root, settings.features.sample_rate, store_dir, data.skip_bad)


def assign_split(database: Database, settings: Config) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The cycles that are in a set, with `set` and `target`; what a user should know of the split."""
    cycles, labels = database.cycles, label_set(settings.task.classes)
    sets, notes = assign_sets(cycles, settings)
    notes = (*notes, *check_classes(cycles, sets, label_column(labels)))
    used = cycles.assign(set=sets, target=encode_targets(cycles, labels))[sets != ""]
    return used.reset_index(drop=True), notes


def label_column(labels: LabelSet) -> str:
    return "event_type" if labels == SPRSOUND_SEVEN else "label"


def encode_targets(cycles: pd.DataFrame, labels: LabelSet) -> pd.Series:
    """The index in `labels` of each cycle's class."""
    annotated = SPRSOUND_SEVEN if labels == SPRSOUND_SEVEN else FOUR_CLASS
    numbers = dict(zip(annotated.labels, annotated.fold_to(labels), strict=True))
    return cycles[label_column(labels)].map(numbers).astype("int64")


def assign_sets(cycles: pd.DataFrame, settings: Config) -> tuple[pd.Series, tuple[str, ...]]:
    """The set of every cycle, "" for none, by the chosen protocol; and notes."""
    split = settings.split
    clean = split.protocol == "official_clean"
    if split.protocol == "random":
        return random_split(cycles, split.seed), ()
    if split.protocol == "patient":
        assert split.folds is not None and split.fold is not None  # checked with the configuration
        return patient_split(cycles, split.folds, split.fold, split.seed), ()
    if split.protocol == "file":
        assert split.file is not None
        return read_split(Path(os.path.expanduser(split.file)), cycles)
    if settings.data.name == "sprsound":
        return official_sprsound(cycles, split.part, split.seed, clean)
    return official_icbhi(cycles, official_split_path(settings), split.seed, clean)


def official_split_path(settings: Config) -> Path:
    """ICBHI's official split: `split.file`, or the published file beside the database."""
    if settings.split.file is not None:
        return Path(os.path.expanduser(settings.split.file))
    assert settings.data.root is not None
    found = find_metadata_file(
        find_icbhi_folder(Path(os.path.expanduser(settings.data.root))), OFFICIAL_SPLIT_FILENAME
    )
    if found is None:
        raise DataError(
            f"split={settings.split.protocol}: expected {OFFICIAL_SPLIT_FILENAME} in the database's folder {settings.data.root}, "
            "or up to two above, but it is not there. Get it from the database's page, or name it: split.file=PATH"
        )
    return found


def uses_gpu(settings: Config) -> bool:
    return settings.trainer.accelerator != "cpu" and torch.cuda.is_available()


def build_trainer(
    settings: Config, epochs: int, callbacks: Sequence[pl.Callback] = ()
) -> pl.Trainer:
    """A Trainer that logs, prints and stores nothing by itself: the callbacks do."""
    # What Lightning says of absent devices, of its own products and at its end is not for our
    # users.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
    accelerator = "gpu" if uses_gpu(settings) else "cpu"
    return pl.Trainer(
        max_epochs=epochs,
        accelerator=accelerator,
        devices=1,
        precision=settings.trainer.precision,  # type: ignore[arg-type]
        callbacks=list(callbacks),
        plugins=[ChecksummedCheckpointIO()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,  # an epoch's batches are made for that epoch
        deterministic="warn"
        if accelerator == "gpu"
        else None,  # on a CPU our operators are, as they stand
    )


def trajectory_key_fields(
    settings: Config, database: Database, cycles: pd.DataFrame, annealing: Annealing
) -> dict[str, Any]:
    """All that shapes a training path; what is not in it (M, select, names, tracking, workers)
    shares the path.
    """
    groups = ("segment", "padding", "features", "augment", "model", "loss", "task")
    continue_from = annealing.continue_from
    return {
        "data": database.fingerprint,
        "split": cycles[["recording", "cycle", "set"]].to_numpy(dtype=object).tolist(),
        **{group: to_container(getattr(settings, group)) for group in groups},
        "annealing": {
            "schedule": annealing.schedule,
            "period_epochs": annealing.epochs_per_period,
            "max_lr": annealing.max_lr,
            "continue_from": continue_from,
            "monitor": annealing.monitor if continue_from == "best" else None,
        },
        "seed": settings.seed,
        "batch_size": settings.trainer.batch_size,
        "precision": settings.trainer.precision,
        "device": torch.cuda.get_device_name() if uses_gpu(settings) else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "source": source_hash(),
    }


@functools.cache  # the code that runs is the code that was there when the process began
def source_hash() -> str:
    """A hash of the rooms whose code decides the weights: another code, another trajectory."""
    digest = hashlib.sha256()
    for package in (lungsound.data, lungsound.signal, lungsound.training):
        folder = Path(inspect.getfile(package)).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(
                path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0"
            )
    return digest.hexdigest()
