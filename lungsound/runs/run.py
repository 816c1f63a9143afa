"""The whole story of one run, top to bottom."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from typing import Any

import pandas as pd
import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from lungsound.config.schema import Config
from lungsound.data.labels import FOUR_CLASS, label_set
from lungsound.data.splits.leakage import leakage_rows
from lungsound.data.splits.table import split_table
from lungsound.errors import LungsoundError, StorageError
from lungsound.results.biocas import LEGEND, biocas_scores_by_part, biocas_table
from lungsound.results.examples import plot_preprocessing_examples
from lungsound.results.figures import plot_annealing, plot_confusion, plot_ensemble_size
from lungsound.results.folder import RunFolder
from lungsound.results.report import report_markdown, scores_table
from lungsound.runs.build import RunComponents, RunInputs, build_components, build_trainer
from lungsound.runs.estimate import experiment_sentence
from lungsound.runs.naming import data_title, run_metadata, run_name
from lungsound.runs.predict import member_epochs, member_weight_paths, predict_members
from lungsound.runs.validation import validate_config
from lungsound.storage.files import corrupt_file_error, corrupt_file_on_error
from lungsound.storage.signals import interruptible, raise_if_interrupted
from lungsound.tracking.background import Sender, sending
from lungsound.tracking.client import SQLITE, check_address
from lungsound.tracking.state import Record, begin, begin_anew
from lungsound.tracking.sync import RunView
from lungsound.training.divergence import DivergenceCallback
from lungsound.training.interrupt import InterruptCallback
from lungsound.training.progress import ProgressCallback
from lungsound.training.snapshots import SnapshotCallback

CHECKPOINT_CONNECTOR = (
    "checkpoint_connector"  # Lightning's module that puts a checkpoint's content in its places
)


@interruptible()
def run(cfg: DictConfig, choices: dict[str, str]) -> Path:
    """Train what the trajectory lacks, score the ensemble, and leave a folder with all of it, shown
    in MLflow.

    `choices` names the chosen option of each group. Raises LungsoundError where the user can mend
    something.
    """
    settings = validate_config(cfg)
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # before any work on a GPU: the same sums every time
    is_standalone = settings.tracking.study is None
    if is_standalone:  # a study has said it once for all
        print(experiment_sentence(settings, choices["experiment"]), flush=True)
    ensure_writable(settings)
    check_address(settings.tracking.uri)
    parts = build_components(settings)
    print(*parts.notes, parts.leakage_sentence, sep="\n", flush=True)
    folder = RunFolder(Path(settings.output_dir) / run_name(settings, choices, parts))
    with folder.lock():
        if settings.redo:
            begin_anew(folder)
        else:
            folder.quarantine_corrupt()
        with sending(
            RunView(folder.path), make_tracking_state(settings, parts, folder), is_standalone
        ) as sender:
            if folder.is_complete:
                print("This run is finished; its results are listed. redo=true trains it again.")
            else:
                if not folder.has_predictions:
                    train(settings, choices, parts, folder, sender)
                    predict(settings, parts, folder)
                    raise_if_interrupted()  # one that came where Python drops exceptions: in a loader's end, say
                write_run_report(settings, parts, folder)
            if settings.tracking.log_snapshots:
                sender.weights = member_weight_paths(parts, folder)
    print_results(settings, parts, folder, sender.unsent)
    return folder.path


def ensure_writable(settings: Config) -> None:
    """Say it before any work where results could not be written. Raises StorageError."""
    for key in ("output_dir", "store_dir"):
        value = getattr(settings, key)
        with translate_write_errors(key, value):
            Path(value).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=value).close()
    uri = settings.tracking.uri
    database = Path(uri.removeprefix(SQLITE))
    if uri.startswith(SQLITE) and database.parent.is_dir():
        with translate_write_errors("tracking.uri", uri):
            tempfile.TemporaryFile(dir=database.parent).close()  # as sqlite's journal will
            if database.exists() and not os.access(database, os.W_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(database))


@contextmanager
def translate_write_errors(key: str, value: str) -> Iterator[None]:
    """Inside, what cannot be written to becomes a StorageError that names the key."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{key}={value}: expected a place that can be made and written to, but got: {error.strerror} "
            f"({error.filename or value}). Let this user write there, or name another place with {key}=..."
        ) from error


def train(
    settings: Config,
    choices: dict[str, str],
    parts: RunComponents,
    folder: RunFolder,
    sender: Sender,
) -> None:
    """Bring the trajectory to this run's last epoch, and the run's folder and MLflow along with it."""
    trajectory, epochs = parts.trajectory, parts.annealing.epochs

    def sync_history(*_: Any) -> None:
        folder.write_history(trajectory.history(epochs))
        sender.wake()

    def count_epoch(*_: Any) -> None:
        metadata["epochs_trained"] += 1
        metadata["last_epoch_trained"] = trainer.current_epoch + 1
        folder.write_json("facts.json", metadata)

    with trajectory.lock():
        had_corrupt_files = trajectory.quarantine_corrupt()
        epochs_done = 0 if settings.redo else trajectory.completed_epochs()
        if had_corrupt_files:
            print(
                f"Without it, the training {f'goes on after epoch {epochs_done}' if epochs_done else 'begins again'}.",
                flush=True,
            )
        trajectory.prune(epochs_done)  # of what is to be redone, was left unfinished, or is damaged
        folder.write_text("config.yaml", OmegaConf.to_yaml(OmegaConf.structured(settings)))
        folder.write_text(
            "split.csv", split_table(parts.cycles, parts.cycles["set"]).to_csv(index=False)
        )
        metadata = run_metadata(settings, choices, parts, folder, epochs_done)
        folder.write_json("facts.json", metadata)
        sender.wake()
        if epochs_done < epochs:
            epoch_counter, history_sync = (
                pl.callbacks.LambdaCallback(on_train_epoch_end=hook)
                for hook in (count_epoch, sync_history)
            )
            stop_callbacks = [DivergenceCallback(folder.path), InterruptCallback()]
            callbacks = [
                epoch_counter,
                SnapshotCallback(trajectory),
                history_sync,
                ProgressCallback(epochs),
                *stop_callbacks,
            ]
            trainer = build_trainer(settings, epochs, callbacks)
            fit(trainer, parts, epochs_done)
            raise_if_interrupted()  # a signal after the last epoch
        sync_history()


def fit(trainer: pl.Trainer, parts: RunComponents, done: int) -> None:
    """Train on after `done` epochs. A resume point that cannot be restored, whatever its checksum
    says, is named.
    """
    resume_path = parts.trajectory.resume_path(done) if done else None

    def check_resumed_epoch(*_: Any) -> None:
        if resume_path and trainer.current_epoch != done:
            raise corrupt_file_error(
                resume_path,
                ValueError(f"expected {done} finished epochs, but got {trainer.current_epoch}"),
            )

    trainer.callbacks.append(pl.callbacks.LambdaCallback(on_train_start=check_resumed_epoch))  # type: ignore[attr-defined]
    try:
        trainer.fit(parts.module, parts.datamodule, ckpt_path=resume_path)
    except Exception as error:
        failed_while_restoring = any(
            Path(frame.filename).stem == CHECKPOINT_CONNECTOR
            for frame in extract_tb(error.__traceback__)
        )
        if resume_path is None or not failed_while_restoring or isinstance(error, LungsoundError):
            raise
        raise corrupt_file_error(resume_path, error) from error


def predict(settings: Config, parts: RunComponents, folder: RunFolder) -> None:
    """Every member's probabilities for every validation and test cycle: predictions.parquet."""
    folder.write_predictions(
        predict_members(settings, parts, member_epochs(parts.annealing, folder), ("val", "test"))
    )


def write_run_report(settings: Config, parts: RunComponents, folder: RunFolder) -> None:
    """Scores, figures and the report, from the stored predictions and history."""
    write_scores(parts, folder)
    results = folder.read_json("scores.json")
    summary, biocas = results["scores"], results["biocas"]
    history = pd.DataFrame(folder.read_history())
    title, period_epochs = data_title(parts), parts.annealing.epochs_per_period
    folder.write_figure(
        "annealing",
        plot_annealing(history, period_epochs, title, member_epochs(parts.annealing, folder)),
    )
    folder.write_figure("members", plot_ensemble_size(summary, title))
    folder.write_figure("examples", plot_examples(settings, parts, title))
    for labels in label_set(summary["task"]).chain:
        confusion = summary["confusion"][f"ensemble_{len(labels)}"]
        figure = plot_confusion(confusion, labels.labels, title)
        folder.write_figure(f"confusion_{len(labels)}", figure)
    figures = [path.relative_to(folder.path).as_posix() for path in folder.figures()]
    known = {**folder.read_json("facts.json"), "notes": "; ".join(parts.notes)}
    known = {name: str(value) for name, value in known.items() if value != ""}
    extra_sections = ["## BioCAS 2022", biocas_table(biocas), LEGEND] if biocas else []
    leaks = leakage_rows(parts.leakage)
    folder.write_text(
        "report.md",
        report_markdown(
            summary, known, title, parts.leakage_sentence, leaks, extra_sections, figures
        ),
    )


def write_scores(known: RunInputs, folder: RunFolder) -> None:
    """scores.json: every score that follows from the stored predictions, what leaks, and what a
    user should know.
    """
    table = folder.read_predictions()
    summary, biocas = folder.summary(), biocas_scores_by_part(table)
    what = {
        "data": data_title(known),
        "label_order": summary["labels"],
        "leak": known.leakage_sentence,
        "leaks": known.leakage,
    }
    folder.write_json(
        "scores.json", {**what, "notes": list(known.notes), "scores": summary, "biocas": biocas}
    )


def plot_examples(settings: Config, parts: RunComponents, title: str) -> Any:
    """The page of example log-mels: of each class the first training cycle that needs padding, or
    else the first.
    """
    cutting, features = parts.datamodule.cutting, parts.module.features
    cycles, samples = parts.datamodule.cycles["train"], parts.database.store.samples
    fills_segment = cycles["end_sample"] - cycles["start_sample"] >= cutting.length
    example_cycles = (
        cycles.loc[fills_segment.sort_values(kind="stable").index]
        .drop_duplicates("label")
        .set_index("label")
    )
    waveforms = {
        label: samples[
            example_cycles.at[label, "start_sample"] : example_cycles.at[label, "end_sample"]
        ]
        for label in FOUR_CLASS.labels
        if label in example_cycles.index
    }
    augmentation = parts.datamodule.augmentation
    warps = (
        (augmentation.vtlp_alpha, augmentation.vtlp_f_hi)
        if any(augmentation.vtlp_copies.values())
        else None
    )
    return plot_preprocessing_examples(
        waveforms,
        features,
        cutting.length,
        cutting.padding,
        cutting.chunks,
        warps,
        augmentation.roll,
        settings.seed,
        title,
    )


def print_results(
    settings: Config, parts: RunComponents, folder: RunFolder, tracking_warning: str | None
) -> None:
    """What a person reads when it is over, `tracking_warning` to MLflow included; the last line is
    the run's folder.
    """
    print(format_scores(folder))
    print(f"figures: {folder.path / 'figures'}")
    uri = settings.tracking.uri
    print(
        f"MLflow:  {tracking_warning}"
        if tracking_warning
        else "MLflow:  mlflow ui"
        + ("  (or: make ui)" if uri == "sqlite:///mlflow.db" else f" --backend-store-uri {uri}")
    )
    print(f"run: {folder.path}")


def format_scores(folder: RunFolder) -> str:
    """What scores.json holds, for the console."""
    results = folder.read_json("scores.json")
    with corrupt_file_on_error(folder.path / "scores.json"):
        parts = [scores_table(results["scores"], results["data"], results["leak"])]
        return "\n".join(
            [*parts, *([biocas_table(results["biocas"]), LEGEND] if results["biocas"] else [])]
        )


def make_tracking_state(settings: Config, parts: RunComponents, folder: RunFolder) -> Record:
    tags = {
        "data": data_title(parts),
        "leak": parts.leakage_sentence,
        "trajectory": parts.trajectory.folder.name,
    }
    tracking = settings.tracking
    study = None if tracking.study is None else Path(tracking.study)
    return begin(folder.path, tracking.uri, tracking.experiment, tags, study)
