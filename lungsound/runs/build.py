"""Build what training needs besides its inputs: datamodule, module and trainer."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]
from torch import nn

from lungsound.config.schema import Config
from lungsound.data.database import Database
from lungsound.data.labels import LabelSet
from lungsound.models.checkpoint import load_checkpoint
from lungsound.runs.inputs import (
    RunInputs,
    build_inputs,
    build_network,
    segment_spec,
    vtlp_copies,
)
from lungsound.runs.machine import uses_gpu
from lungsound.signal.features import Features
from lungsound.signal.rng import make_rng
from lungsound.training.batches import Augmentation
from lungsound.training.checkpoint import ChecksummedCheckpointIO
from lungsound.training.datamodule import CyclesDataModule
from lungsound.training.memory import keep_freed_memory
from lungsound.training.module import SnapshotModule
from lungsound.training.schedule import Annealing

GPU_NUM_WORKERS = 4


@dataclass(frozen=True)
class RunComponents(RunInputs):
    """Everything that a run needs."""

    datamodule: CyclesDataModule
    module: SnapshotModule


def build_components(settings: Config, inputs: RunInputs | None = None) -> RunComponents:
    """Build everything that a run needs, with `inputs` if they are given.

    Raises DataError as `build_inputs` does.
    """
    inputs = inputs or build_inputs(settings)
    datamodule = build_datamodule(settings, inputs.database, inputs.cycles)
    val_cycles = datamodule.cycles["val"]
    module = build_module(settings, inputs.annealing, inputs.labels, val_cycles)
    load_initial_weights(settings, module.network)
    if settings.features.normalization != "segment":
        module.features.fit_statistics(datamodule.unaugmented_waveforms())
    return RunComponents(**vars(inputs), datamodule=datamodule, module=module)


def build_datamodule(
    settings: Config, database: Database, cycles: pd.DataFrame
) -> CyclesDataModule:
    """Build the datamodule of `cycles`, which have `set` and `target`."""
    trainer, cutting = settings.trainer, segment_spec(settings)
    copies = vtlp_copies(settings, database)
    augment = {**vars(settings.augment), "vtlp_copies": copies}
    augment |= {"roll": settings.features.roll, "bands": settings.features.n_mels}
    workers = trainer.num_workers
    if workers is None:  # on a CPU, workers would compete with training for cores
        workers = GPU_NUM_WORKERS if uses_gpu(settings) else 0
    augmentation, size, seed = Augmentation(**augment), trainer.batch_size, settings.seed
    store, cache = database.store, trainer.cache
    return CyclesDataModule(cycles, store, cutting, augmentation, size, workers, seed, cache)


def build_module(
    settings: Config, annealing: Annealing, labels: LabelSet, val_cycles: pd.DataFrame
) -> SnapshotModule:
    """Build the untrained module, which logs scores of the `val_cycles`."""
    model = settings.model
    module = SnapshotModule(
        Features.from_settings(vars(settings.features)),
        build_network(settings),
        annealing,
        settings.loss.gamma,
        settings.segment.chunks,
        model.l2,
        model.adam_eps,
        torch.tensor(val_cycles["target"].tolist()),
        labels,
        settings.features.test_rolls,
    )
    if settings.trainer.compile and uses_gpu(settings):
        module.compile_network()
    return module


def build_period_network(settings: Config, period: int) -> nn.Module:
    """Build the network that a period starts from, if each has its own (continue_from="fresh").

    The first one is that of any run. With `model.checkpoint` or `model.pretrained` they share what
    that has.
    """
    seed = settings.seed
    if period > 1:
        seed = int(make_rng(settings.seed, "period", period).integers(2**31))
    seeded = replace(settings, seed=seed)
    network = build_network(seeded)
    load_initial_weights(seeded, network)
    return network


def load_initial_weights(settings: Config, network: nn.Module) -> None:
    """Load published weights, then those of a file; print what the file lacks or does not fit.

    Raises ConfigError if they cannot be read.
    """
    model = settings.model
    if model.pretrained:
        network.load_state_dict(build_network(settings, pretrained=True).state_dict())
    if model.checkpoint is not None:
        others = load_checkpoint(network, Path(model.checkpoint))
        left_out = "; ".join(others) or "nothing"
        print(f"model.checkpoint={model.checkpoint}: loaded. Not loaded: {left_out}", flush=True)


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

    def seed_epoch(trainer: pl.Trainer, _: pl.LightningModule, __: Any, batch: int) -> None:
        """Seed torch's generator, of dropout, so that a resumed training draws the same."""
        if batch == 0:  # not at the epoch's start: a DataLoader draws after it
            rng = make_rng(settings.seed, "network", trainer.current_epoch)
            torch.manual_seed(int(rng.integers(2**31)))

    # Hide Lightning's hints on unused devices, on its own products, and wherever Slurm is.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for hint in (".*LeafSpec.*is deprecated", ".*`srun`"):
        warnings.filterwarnings("ignore", message=hint)
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
        callbacks=[LambdaCallback(on_train_batch_start=seed_epoch), *callbacks],
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
