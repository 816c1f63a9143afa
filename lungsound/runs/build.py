"""The one place where the configuration becomes objects. Below, functions and classes take plain arguments."""

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
from lungsound.config.schema import Config, plain
from lungsound.data.database import Database, open_database
from lungsound.data.labels import SPRSOUND_LABELS, labels_of
from lungsound.data.readers.icbhi import find_icbhi
from lungsound.data.readers.icbhi_metadata import find_beside
from lungsound.data.splits.leakage import leak_line, leak_report
from lungsound.data.splits.protocols import OFFICIAL_FILE, official_icbhi, official_sprsound, patient_split
from lungsound.data.splits.table import check_classes, random_split, read_split
from lungsound.data.synthetic.database import demo_root
from lungsound.errors import DataError
from lungsound.models.cnn7 import CNN7
from lungsound.signal.features import Features
from lungsound.signal.rng import generator
from lungsound.signal.spectrum import frame_count
from lungsound.storage.keys import key_of
from lungsound.training.datamodule import Augmentation, Cutting, CyclesDataModule
from lungsound.training.module import SnapshotTraining
from lungsound.training.schedule import Annealing
from lungsound.training.trajectory import SealedCheckpoints, Trajectory

WORKERS_FOR_A_GPU = 4
# The same sums every time. torch reads it once, at a process's first product on a GPU; a study
# measures a step before its first run.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@dataclass(frozen=True)
class Outline:
    """What a run works on: enough to name it, and to see what of it is stored."""

    database: Database
    cycles: pd.DataFrame  # those in a set: the database's columns, `set`, and `target` (class number)
    notes: tuple[str, ...]  # what a user should know of the database and the split
    leaks: dict[str, Any]  # `leak_report` of the split
    annealing: Annealing
    trajectory: Trajectory

    @property
    def leak(self) -> str:
        """The line that stands beside every score."""
        return leak_line(self.leaks)


@dataclass(frozen=True)
class Parts(Outline):
    """What one run is built of."""

    datamodule: CyclesDataModule
    module: SnapshotTraining


def outline(settings: Config, database: Database | None = None) -> Outline:
    """`database`: where it is open already. Raises DataError where the database or the split cannot be used."""
    database = database or build_database(settings)
    cycles, notes = split_cycles(database, settings)
    annealing = Annealing(**vars(settings.annealing))
    key = key_of(trajectory_identity(settings, database, cycles, annealing))
    trajectory = Trajectory(Path(settings.store_dir) / "trajectories" / key, annealing)
    return Outline(database, cycles, (*database.notes, *notes), leak_report(cycles), annealing, trajectory)


def build(settings: Config) -> Parts:
    """Everything a run needs. Raises DataError where the database or the split cannot be used."""
    known = outline(settings)
    datamodule = build_datamodule(settings, known.database, known.cycles)
    module = build_module(settings, datamodule.cycles["val"])
    if settings.features.normalization != "segment":
        module.features.fit_statistics(datamodule.training_originals())
    return Parts(**vars(known), datamodule=datamodule, module=module)


def build_datamodule(settings: Config, database: Database, cycles: pd.DataFrame) -> CyclesDataModule:
    """The batches of `cycles`, which have `set` and `target`."""
    features, segment = settings.features, settings.segment
    length = round(segment.seconds * features.sample_rate)
    cutting = Cutting(length, settings.padding.mode, frame_count(length, features.n_fft, features.hop), segment.chunks)
    augmentation = Augmentation(**vars(settings.augment), roll=features.roll)
    workers = settings.trainer.num_workers
    if workers is None:  # on a CPU they would take the training's cores
        workers = WORKERS_FOR_A_GPU if on_gpu(settings) else 0
    batch_size, seed = settings.trainer.batch_size, settings.seed
    return CyclesDataModule(cycles, database.store, cutting, augmentation, batch_size, workers, seed)


def build_module(settings: Config, validation: pd.DataFrame) -> SnapshotTraining:
    """The untrained module, which watches the scores of the `validation` cycles."""
    model, settings_of_features = settings.model, vars(settings.features)
    pictures = Features(**{name: value for name, value in settings_of_features.items() if name != "roll"})
    targets = torch.tensor(validation["target"].tolist())
    annealing, chunks = Annealing(**vars(settings.annealing)), settings.segment.chunks
    network, gamma = build_network(settings), settings.loss.gamma
    return SnapshotTraining(pictures, network, annealing, gamma, chunks, model.l2, model.adam_eps, targets)


def build_network(settings: Config) -> CNN7:
    model, seed = settings.model, int(generator(settings.seed, "weights").integers(2**31))
    return CNN7(settings.task.classes, model.width, model.table1, model.bn_momentum, model.bn_eps, seed)


def build_database(settings: Config) -> Database:
    data, store_dir = settings.data, Path(settings.store_dir)
    if data.name == "demo":
        root = demo_root(store_dir, data.demo_seed, data.demo_patients, data.demo_cycles)
    else:
        assert data.root is not None  # checked with the configuration
        root = Path(os.path.expanduser(data.root))
    return open_database(data.name, root, settings.features.sample_rate, store_dir, data.skip_bad)


def split_cycles(database: Database, settings: Config) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The cycles that are in a set, with `set` and `target`; what a user should know of the split."""
    cycles, classes = database.cycles, labels_of(settings.task.classes)
    sets, notes = assigned_sets(cycles, settings)
    notes = (*notes, *check_classes(cycles, sets, class_column(classes)))
    used = cycles.assign(set=sets, target=class_numbers(cycles, classes))[sets != ""]
    return used.reset_index(drop=True), notes


def class_column(classes: tuple[str, ...]) -> str:
    return "event_type" if classes == SPRSOUND_LABELS else "label"


def class_numbers(cycles: pd.DataFrame, classes: tuple[str, ...]) -> pd.Series:
    """The place in `classes` of each cycle's; with two of them every adventitious one is "abnormal", the second."""
    numbers = {label: number for number, label in enumerate(classes)}
    return cycles[class_column(classes)].map(numbers).fillna(1).astype("int64")


def assigned_sets(cycles: pd.DataFrame, settings: Config) -> tuple[pd.Series, tuple[str, ...]]:
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
    return official_icbhi(cycles, official_file(settings), split.seed, clean)


def official_file(settings: Config) -> Path:
    """ICBHI's official split: `split.file`, or the published file beside the database."""
    if settings.split.file is not None:
        return Path(os.path.expanduser(settings.split.file))
    assert settings.data.root is not None
    found = find_beside(find_icbhi(Path(os.path.expanduser(settings.data.root))), OFFICIAL_FILE)
    if found is None:
        raise DataError(
            f"split={settings.split.protocol}: expected {OFFICIAL_FILE} in the database's folder {settings.data.root}, "
            "or up to two above, but it is not there. Get it from the database's page, or name it: split.file=PATH"
        )
    return found


def on_gpu(settings: Config) -> bool:
    return settings.trainer.accelerator != "cpu" and torch.cuda.is_available()


def set_float32(settings: Config) -> None:
    """How a GPU multiplies float32 numbers, in convolutions too, which torch allows TF32 by default.

    These are settings of the whole process: a run before this one may have had others.
    """
    word = settings.trainer.matmul_precision if on_gpu(settings) else "highest"
    # torch must not be asked by these names where its newer `fp32_precision` was set, and
    # Lightning asks by these.
    torch.set_float32_matmul_precision(word)
    torch.backends.cudnn.allow_tf32 = word != "highest"


def build_trainer(settings: Config, epochs: int, callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
    """A Trainer that logs, prints and stores nothing by itself: the callbacks do."""
    set_float32(settings)
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
        # On a CPU our operators are deterministic as they stand.
        deterministic=settings.trainer.deterministic if accelerator == "gpu" else None,
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
        "matmul_precision": settings.trainer.matmul_precision,
        "device": torch.cuda.get_device_name() if on_gpu(settings) else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "source": source_hash(),
    }


@functools.cache  # the code that runs is the code that was there when the process began
def source_hash() -> str:
    """A hash of the rooms whose code decides the weights: another code, another trajectory."""
    digest = hashlib.sha256()
    for room in (lungsound.data, lungsound.signal, lungsound.training):
        folder = Path(inspect.getfile(room)).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
