"""Train up to the run's last epoch; update trajectory and run folder after every epoch."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from traceback import extract_tb
from typing import Any

import pytorch_lightning as pl
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import LambdaCallback

from lungsound.config.schema import Config
from lungsound.data.splits.table import split_table
from lungsound.errors import Interrupted, LungsoundError
from lungsound.results.folder import RunFolder
from lungsound.runs.build import RunComponents, build_period_network, build_trainer
from lungsound.runs.machine import describe_machine
from lungsound.runs.naming import count_trained_epochs, run_metadata
from lungsound.runs.predict import member_epochs
from lungsound.storage.files import corrupt_file_error
from lungsound.storage.signals import KEPT, handle_signals, raise_if_interrupted
from lungsound.training.average import PeriodAverage
from lungsound.training.divergence import DivergenceCallback
from lungsound.training.history import machine_changes
from lungsound.training.interrupt import InterruptCallback
from lungsound.training.loader import translate_worker_errors
from lungsound.training.progress import ProgressCallback
from lungsound.training.snapshots import SnapshotCallback
from lungsound.training.trajectory import Trajectory

# The file name, in Lightning, of the code that restores a checkpoint.
CHECKPOINT_CONNECTOR = "checkpoint_connector"
NOT_BIT_EQUAL = "not bit-equal to one made on one machine"


def train(
    settings: Config,
    choices: dict[str, str],
    parts: RunComponents,
    folder: RunFolder,
    notify: Callable[[], None],
) -> None:
    """Train the epochs that the trajectory lacks, and link the members into the run's folder.

    `notify` is called if the folder has new content.
    """
    trajectory, epochs = parts.trajectory, parts.annealing.epochs
    machine = describe_machine(settings)
    with trajectory.lock():
        done = prepare_trajectory(trajectory, settings.redo)
        folder.remove_results()
        if done < epochs:
            print_machine_change(trajectory, done, machine)
        folder.write_text("config.yaml", OmegaConf.to_yaml(OmegaConf.structured(settings)))
        split = split_table(parts.cycles, parts.cycles["set"])
        folder.write_text("split.csv", split.to_csv(index=False))
        metadata = run_metadata(settings, choices, parts, *count_trained_epochs(folder, done))
        folder.write_json("metadata.json", metadata)
        notify()

        def count_epoch(trainer: pl.Trainer, _: pl.LightningModule) -> None:
            metadata["epochs_trained"] += 1
            metadata["last_epoch_trained"] = trainer.current_epoch + 1
            folder.write_json("metadata.json", metadata)

        def sync_history(*_: Any) -> None:
            folder.write_history(trajectory.history(epochs))
            notify()

        if done < epochs:
            callbacks = [
                LambdaCallback(on_train_epoch_end=count_epoch),
                *snapshot_callbacks(settings, parts, machine),
                LambdaCallback(on_train_epoch_end=sync_history),
                ProgressCallback(epochs, epoch_lines=settings.tracking.study is None),
                DivergenceCallback(folder.path),
                InterruptCallback(),
            ]
            fit(build_trainer(settings, epochs, callbacks), parts, done)
            raise_if_interrupted()  # a signal after the last epoch
        sync_history()
        metadata["machine"] = describe_machines(trajectory, epochs)
        folder.write_json("metadata.json", metadata)
        members = member_epochs(parts.annealing, folder)
        folder.link_members([trajectory.snapshot_path(epoch) for epoch in members])


def snapshot_callbacks(settings: Config, parts: RunComponents, machine: str) -> list[pl.Callback]:
    """Return what keeps an epoch's weights, after what averages them if the average is selected."""
    average = PeriodAverage(parts.module) if parts.annealing.select == "average" else None
    new_network = partial(build_period_network, settings)
    snapshots = SnapshotCallback(parts.trajectory, machine, new_network, average)
    return [average, snapshots] if average else [snapshots]


def prepare_trajectory(trajectory: Trajectory, redo: bool) -> int:
    """Return the epoch to resume after, 0 for the beginning; remove what comes after it."""
    had_corrupt_files = trajectory.quarantine_corrupt()
    done = 0 if redo else trajectory.completed_epochs()
    if had_corrupt_files:
        start = f"goes on after epoch {done}" if done else "begins again"
        print(f"Without it, the training {start}.", flush=True)
    trajectory.prune(done)
    return done


def print_machine_change(trajectory: Trajectory, done: int, machine: str) -> None:
    """Print which machine trained the first epochs, if it was not this one."""
    stretches = machine_changes(trajectory.history(done))
    if any(name != machine for _, name in stretches):
        made = "; ".join(f"{epochs} were made on {name}" for epochs, name in stretches)
        print(f"{made}; from here on {machine}: valid, {NOT_BIT_EQUAL}", flush=True)


def describe_machines(trajectory: Trajectory, epochs: int) -> str:
    """Return the machine of all epochs, or a list of machines with their epochs."""
    stretches = machine_changes(trajectory.history(epochs))
    if len(stretches) == 1:
        return stretches[0][1]
    return f"{NOT_BIT_EQUAL}: " + "; ".join(map(": ".join, stretches))


def keep_log_mels(trainer: pl.Trainer, parts: RunComponents) -> None:
    """Compute what no epoch changes, after the resume point's statistics are in place."""
    handle_signals()
    device, features = trainer.strategy.root_device, parts.module.features
    parts.datamodule.cache_training(features, device)
    parts.datamodule.cache_evaluation("val", features, device)


def fit(trainer: pl.Trainer, parts: RunComponents, done: int) -> None:
    """Continue training after `done` epochs.

    Raises CorruptFileError if the resume point cannot be restored, even if its checksum matches.
    """
    resume_path = parts.trajectory.resume_path(done) if done else None

    def check_resumed_epoch(*_: Any) -> None:
        if resume_path and trainer.current_epoch != done:
            epochs = f"expected {done} finished epochs, but got {trainer.current_epoch}"
            raise corrupt_file_error(resume_path, ValueError(epochs))

    at_start = LambdaCallback(
        on_fit_start=lambda *_: keep_log_mels(trainer, parts), on_train_start=check_resumed_epoch
    )
    trainer.callbacks.append(at_start)  # type: ignore[attr-defined]
    try:
        with translate_worker_errors():
            trainer.fit(parts.module, parts.datamodule, ckpt_path=resume_path)
    except Interrupted as stop:
        raise _count_epochs(stop, parts) from stop
    except LungsoundError:
        raise
    except Exception as error:
        if isinstance(error.__context__, Interrupted):  # which Lightning could not end in order
            raise _count_epochs(error.__context__, parts) from error
        frames = (Path(frame.filename).stem for frame in extract_tb(error.__traceback__))
        if resume_path is None or CHECKPOINT_CONNECTOR not in frames:
            raise
        raise corrupt_file_error(resume_path, error) from error


def _count_epochs(stop: Interrupted, parts: RunComponents) -> Interrupted:
    epochs = parts.trajectory.completed_epochs()
    message = str(stop).replace(KEPT, f"{epochs} epochs are finished and kept.")
    return Interrupted(stop.signal_number, message)
