"""Build objects from the configuration. No other package gets it, except studies and cli."""

import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]
from torch import nn

from lungsound.config.schema import Config
from lungsound.data.database import Database, assign_split, open_database
from lungsound.data.labels import LabelSet
from lungsound.data.registry import DATABASES
from lungsound.data.splits.leakage import count_leakage
from lungsound.data.splits.leakage import leakage_sentence as leak_line
from lungsound.models.registry import NETWORKS, network_settings
from lungsound.runs.identity import trajectory_key_fields, uses_gpu
from lungsound.signal.features import Features
from lungsound.signal.rng import make_rng
from lungsound.storage.keys import content_key
from lungsound.training.batches import Augmentation, SegmentSpec
from lungsound.training.datamodule import CyclesDataModule
from lungsound.training.memory import keep_freed_memory
from lungsound.training.module import SnapshotModule
from lungsound.training.schedule import Annealing
from lungsound.training.trajectory import ChecksummedCheckpointIO, Trajectory

GPU_NUM_WORKERS = 4
# Makes cuBLAS deterministic. The libraries read these variables only once, at the first product,
# which may be a step that `plan=true` times: therefore they are set at import.
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
# With one of these, NVIDIA's libraries, oneDNN, MKL and torch round otherwise than without.
for _name in (
    *("NVIDIA_TF32_OVERRIDE", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"),
    *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS"),
):
    os.environ.pop(_name, None)


@dataclass(frozen=True)
class RunInputs:
    """The data and schedule of a run: enough to name it and to find its stored files."""

    database: Database
    labels: LabelSet  # the classes of the task
    cycles: pd.DataFrame  # columns of Database.cycles, `set`, `target` (index in labels)
    notes: tuple[str, ...]  # on the database and the split, for the user
    leakage: dict[str, Any]  # `count_leakage` of the split
    annealing: Annealing
    trajectory: Trajectory

    @property
    def leakage_sentence(self) -> str:
        """The sentence that is printed with every score."""
        return leak_line(self.leakage)


@dataclass(frozen=True)
class RunComponents(RunInputs):
    """Everything that a run needs."""

    datamodule: CyclesDataModule
    module: SnapshotModule


def build_inputs(settings: Config, database: Database | None = None) -> RunInputs:
    """Open the database, unless `database` is given, and split it.

    Raises DataError if the database or the split cannot be used.
    """
    database = database or build_database(settings)
    labels = database.spec.task(settings.task.classes)
    split = {**vars(settings.split), "root": settings.data.root}
    cycles, notes = assign_split(database, labels, split.pop("protocol"), split)
    annealing = Annealing(**vars(settings.annealing))
    key = content_key(trajectory_key_fields(settings, database, cycles, annealing))
    trajectory = build_trajectory(settings, annealing, key)
    notes = (*database.notes, *notes)
    return RunInputs(database, labels, cycles, notes, count_leakage(cycles), annealing, trajectory)


def build_trajectory(settings: Config, annealing: Annealing, key: str) -> Trajectory:
    """Open the trajectory with this content key in the store."""
    return Trajectory(Path(settings.store_dir) / "trajectories" / key, annealing)


def build_components(settings: Config) -> RunComponents:
    """Build everything that a run needs. Raises DataError as `build_inputs` does."""
    inputs = build_inputs(settings)
    datamodule = build_datamodule(settings, inputs.database, inputs.cycles)
    val_cycles = datamodule.cycles["val"]
    module = build_module(settings, inputs.annealing, inputs.labels, val_cycles)
    if settings.features.normalization != "segment":
        module.features.fit_statistics(datamodule.unaugmented_waveforms())
    return RunComponents(**vars(inputs), datamodule=datamodule, module=module)


def build_datamodule(
    settings: Config, database: Database, cycles: pd.DataFrame
) -> CyclesDataModule:
    """Build the datamodule of `cycles`, which have `set` and `target`."""
    trainer, cutting = settings.trainer, segment_spec(settings)
    copies = vtlp_copies(settings, database)
    augment = {**vars(settings.augment), "vtlp_copies": copies, "roll": settings.features.roll}
    workers = trainer.num_workers
    if workers is None:  # on a CPU, workers would compete with training for cores
        workers = GPU_NUM_WORKERS if uses_gpu(settings) else 0
    augmentation, size, seed = Augmentation(**augment), trainer.batch_size, settings.seed
    store, cache = database.store, trainer.cache
    return CyclesDataModule(cycles, store, cutting, augmentation, size, workers, seed, cache)


def segment_spec(settings: Config) -> SegmentSpec:
    """Return how cycles are cut into segments and chunks."""
    segment, features = settings.segment, settings.features
    grid = features.sample_rate, features.n_fft, features.hop
    return SegmentSpec.from_seconds(segment.seconds, segment.chunks, settings.padding.mode, *grid)


def vtlp_copies(settings: Config, database: Database) -> dict[str, int]:
    """Return the number of VTLP copies per cycle of each label; 0 if the settings name none."""
    labels = database.spec.label_sets["label"].labels
    return {**dict.fromkeys(labels, 0), **settings.augment.vtlp_copies}


def build_module(
    settings: Config, annealing: Annealing, labels: LabelSet, val_cycles: pd.DataFrame
) -> SnapshotModule:
    """Build the untrained module, which logs scores of the `val_cycles`."""
    model, features = settings.model, {**vars(settings.features)}
    del features["roll"]
    module = SnapshotModule(
        Features(**features),
        build_network(settings),
        annealing,
        settings.loss.gamma,
        settings.segment.chunks,
        model.l2,
        model.adam_eps,
        torch.tensor(val_cycles["target"].tolist()),
        labels,
    )
    if settings.trainer.compile and uses_gpu(settings):
        module.compile_network()
    return module


def build_network(settings: Config) -> nn.Module:
    """Build the untrained network."""
    model = settings.model
    return NETWORKS[model.name].build(
        classes=settings.task.classes,
        bands=settings.features.n_mels,
        frames=segment_spec(settings).chunk_frames,
        seed=int(make_rng(settings.seed, "weights").integers(2**31)),
        **network_settings(vars(model)),
    )


def build_database(settings: Config) -> Database:
    """Open the database; create a synthetic one first. Raises DataError if it cannot be used."""
    data, store_dir = settings.data, Path(settings.store_dir)
    create = DATABASES[data.name].create
    if create is not None:
        root = create(store_dir, data.demo_seed, data.demo_patients, data.demo_cycles)
    else:
        assert data.root is not None  # `validate_config` has checked it
        root = Path(data.root)
    return open_database(data.name, root, settings.features.sample_rate, store_dir, data.skip_bad)


def set_float32(settings: Config) -> None:
    """Set how a GPU multiplies float32 numbers; by default torch allows TF32 in convolutions.

    The setting is global: an earlier run in this process may have changed it.
    """
    word = settings.trainer.matmul_precision if uses_gpu(settings) else "highest"
    # By these names, not torch's newer `fp32_precision`: torch forbids to mix them, and Lightning
    # uses these.
    torch.set_float32_matmul_precision(word)
    torch.backends.cudnn.allow_tf32 = word != "highest"


def build_trainer(
    settings: Config, epochs: int, callbacks: Sequence[pl.Callback] = ()
) -> pl.Trainer:
    """Build a Trainer that leaves logging, printing and storing to `callbacks`."""
    set_float32(settings)
    # Hide Lightning's hints on unused devices and on its own products.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
    accelerator = "gpu" if uses_gpu(settings) else "cpu"
    if accelerator == "cpu":
        keep_freed_memory()
    # Lightning takes an argument that is not given from PL_TRAINER_*: therefore all are given.
    defaults = {name: one.default for name, one in signature(pl.Trainer).parameters.items()}
    return partial(pl.Trainer, **defaults)(
        max_epochs=epochs,
        accelerator=accelerator,
        devices=1,
        precision=settings.trainer.precision,  # type: ignore[arg-type]
        callbacks=list(callbacks),
        # One process on one device, whatever SLURM, torchrun or mpirun have set.
        plugins=[ChecksummedCheckpointIO(), LightningEnvironment()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,  # each epoch has its own dataset
        # On a CPU all operators that we use are deterministic anyway.
        deterministic=settings.trainer.deterministic if accelerator == "gpu" else None,
    )
