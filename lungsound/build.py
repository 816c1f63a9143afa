"""The one place where the configuration becomes objects. Below, functions and classes take plain arguments."""

import hashlib
import inspect
import logging
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
from lungsound.config import Config, plain
from lungsound.data.database import Database, open_database
from lungsound.data.demo import demo_root
from lungsound.data.labels import LABELS
from lungsound.data.splits import check_classes, random_split, read_split, shared_patients
from lungsound.files import key_of
from lungsound.signal.draws import generator
from lungsound.signal.features import Features
from lungsound.signal.spectrum import frame_count
from lungsound.training.annealing import Annealing
from lungsound.training.cnn import CNN7
from lungsound.training.datamodule import Augmentation, Cutting, CyclesDataModule
from lungsound.training.module import SnapshotTraining
from lungsound.training.trajectory import SealedCheckpoints, Trajectory

WORKERS_FOR_A_GPU = 4


@dataclass(frozen=True)
class Outline:
    """What a run works on: enough to name it, and to see what of it is stored."""

    database: Database
    cycles: pd.DataFrame  # those in a set: the database's columns, `set`, and `target` (class number)
    notes: tuple[str, ...]  # what a user should know of the database and the split
    leak: str  # the line that stands beside every score
    annealing: Annealing
    trajectory: Trajectory


@dataclass(frozen=True)
class Parts(Outline):
    """What one run is built of."""

    datamodule: CyclesDataModule
    module: SnapshotTraining


def outline(settings: Config) -> Outline:
    """Raises DataError where the database or the split cannot be used."""
    database = build_database(settings)
    cycles, notes, leak = split_cycles(database, settings)
    annealing = Annealing(**vars(settings.annealing))
    key = key_of(trajectory_identity(settings, database, cycles, annealing))
    trajectory = Trajectory(Path(settings.store_dir) / "trajectories" / key, annealing)
    return Outline(database, cycles, (*database.notes, *notes), leak, annealing, trajectory)


def build(settings: Config) -> Parts:
    """Everything a run needs. Raises DataError where the database or the split cannot be used."""
    features, segment = settings.features, settings.segment
    known = outline(settings)
    length = round(segment.seconds * features.sample_rate)
    cutting = Cutting(length, settings.padding.mode, frame_count(length, features.n_fft, features.hop), segment.chunks)
    augmentation = Augmentation(**vars(settings.augment), roll=features.roll)
    batch_size, workers = settings.trainer.batch_size, settings.trainer.num_workers
    if workers is None:  # on a CPU they would take the training's cores
        workers = WORKERS_FOR_A_GPU if on_gpu(settings) else 0
    store, cycles = known.database.store, known.cycles
    datamodule = CyclesDataModule(cycles, store, cutting, augmentation, batch_size, workers, settings.seed)
    pictures = Features(**{name: value for name, value in vars(features).items() if name != "roll"})
    if features.normalization != "segment":
        pictures.fit_statistics(datamodule.training_originals())
    targets = torch.tensor(datamodule.cycles["val"]["target"].tolist())
    network, gamma, model = build_network(settings), settings.loss.gamma, settings.model
    module = SnapshotTraining(
        pictures, network, known.annealing, gamma, segment.chunks, model.l2, model.adam_eps, targets
    )
    return Parts(**vars(known), datamodule=datamodule, module=module)


def build_network(settings: Config) -> CNN7:
    model, seed = settings.model, int(generator(settings.seed, "weights").integers(2**31))
    return CNN7(settings.task.classes, model.width, model.table1, model.bn_momentum, model.bn_eps, seed)


def build_database(settings: Config) -> Database:
    data, store_dir = settings.data, Path(settings.store_dir)
    if data.name == "demo":
        root = demo_root(store_dir, data.demo_seed, data.demo_patients, data.demo_cycles)
    else:
        assert data.root is not None  # checked with the configuration
        root = Path(data.root)
    return open_database(data.name, root, settings.features.sample_rate, store_dir, data.skip_bad)


def split_cycles(database: Database, settings: Config) -> tuple[pd.DataFrame, tuple[str, ...], str]:
    """The cycles that are in a set, with `set` and `target`; what a user should know of the split; its leak line."""
    cycles, split = database.cycles, settings.split
    notes: tuple[str, ...] = ()
    if split.protocol == "random":
        sets = random_split(cycles, split.seed)
    else:
        assert split.file is not None  # checked with the configuration
        sets, notes = read_split(Path(split.file), cycles)
    notes = (*notes, *check_classes(cycles, sets))
    target = cycles["label"].map({label: number for number, label in enumerate(LABELS)})
    if settings.task.classes == 2:
        target = target.clip(upper=1)  # every adventitious class is "abnormal"
    used = cycles.assign(set=sets, target=target.astype("int64"))[sets != ""]
    return used.reset_index(drop=True), notes, leak_line(*shared_patients(cycles, sets))


def leak_line(shared: int, patients: int) -> str:
    """The line that stands beside every score of a split."""
    if not shared:
        return f"No patient of the {patients} in test is also in training or validation."
    return (
        f"{shared} OF {patients} TEST PATIENTS ARE ALSO IN TRAINING OR VALIDATION: "
        "these scores say nothing about new patients."
    )


def on_gpu(settings: Config) -> bool:
    return settings.trainer.accelerator != "cpu" and torch.cuda.is_available()


def build_trainer(settings: Config, epochs: int, callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
    """A Trainer that logs, prints and stores nothing by itself: the callbacks do."""
    # What Lightning says of absent devices, of its own products and at its end is not for our users.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
    accelerator = "gpu" if on_gpu(settings) else "cpu"
    return pl.Trainer(
        max_epochs=epochs,
        accelerator=accelerator,
        devices=1,
        precision=settings.trainer.precision,  # type: ignore[arg-type]
        callbacks=list(callbacks),
        plugins=[SealedCheckpoints()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,  # an epoch's batches are made for that epoch
        deterministic="warn" if accelerator == "gpu" else None,  # on a CPU our operators are, as they stand
    )


def trajectory_identity(
    settings: Config, database: Database, cycles: pd.DataFrame, annealing: Annealing
) -> dict[str, Any]:
    """All that shapes a training path; what is not in it (M, select, names, tracking, workers) shares the path."""
    groups = ("segment", "padding", "features", "augment", "model", "loss", "task")
    continued = annealing.continue_from
    return {
        "data": database.fingerprint,
        "split": cycles[["recording", "cycle", "set"]].to_numpy(dtype=object).tolist(),
        **{group: plain(getattr(settings, group)) for group in groups},
        "annealing": {
            "schedule": annealing.schedule,
            "period_epochs": annealing.period_epochs,
            "max_lr": annealing.max_lr,
            "continue_from": continued,
            "monitor": annealing.monitor if continued == "best" else None,
        },
        "seed": settings.seed,
        "batch_size": settings.trainer.batch_size,
        "precision": settings.trainer.precision,
        "device": torch.cuda.get_device_name() if on_gpu(settings) else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "source": source_hash(),
    }


def source_hash() -> str:
    """A hash of the rooms whose code decides the weights: another code, another trajectory."""
    digest = hashlib.sha256()
    for room in (lungsound.data, lungsound.signal, lungsound.training):
        folder = Path(inspect.getfile(room)).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
