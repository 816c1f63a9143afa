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
from lungsound.data.labels import LABELS, labels_of
from lungsound.data.splits.leakage import leak_rows
from lungsound.data.splits.table import split_table
from lungsound.errors import LungsoundError, StorageError
from lungsound.results.biocas import LEGEND, biocas_rows, biocas_table
from lungsound.results.examples import example_page
from lungsound.results.figures import annealing_curve, confusion_figure, members_curve
from lungsound.results.folder import RunFolder
from lungsound.results.report import report_markdown, scores_table
from lungsound.runs.build import Outline, Parts, build, build_trainer
from lungsound.runs.estimate import announcement
from lungsound.runs.naming import facts, heading, run_name
from lungsound.runs.predict import kept_epochs, member_files, predictions
from lungsound.runs.validation import checked
from lungsound.storage.files import not_ours, understood
from lungsound.storage.signals import stop_if_asked, stoppable
from lungsound.tracking.background import Sender, sending
from lungsound.tracking.client import SQLITE, check_address
from lungsound.tracking.state import Record, begin, begin_anew
from lungsound.tracking.sync import RunView
from lungsound.training.divergence import StopOnDivergence
from lungsound.training.interrupt import StopOnSignal
from lungsound.training.progress import RunProgress
from lungsound.training.snapshots import Snapshots

RESTORING = "checkpoint_connector"  # Lightning's module that puts a checkpoint's content in its places


@stoppable()
def run(cfg: DictConfig, choices: dict[str, str]) -> Path:
    """Train what the trajectory lacks, score the ensemble, and leave a folder with all of it, shown in MLflow.

    `choices` names the chosen option of each group. Raises LungsoundError where the user can mend something.
    """
    settings = checked(cfg)
    alone = settings.tracking.study is None
    if alone:  # a study has said it once for all
        print(announcement(settings, choices["experiment"]), flush=True)
    make_folders(settings)
    check_address(settings.tracking.uri)
    parts = build(settings)
    print(*parts.notes, parts.leak, sep="\n", flush=True)
    folder = RunFolder(Path(settings.output_dir) / run_name(settings, choices, parts))
    with folder.held():
        if settings.redo:
            begin_anew(folder)
        else:
            folder.put_damaged_aside()
        with sending(RunView(folder.path), tracking_record(settings, parts, folder), alone) as sender:
            if folder.finished:
                print("This run is finished; its results are listed. redo=true trains it again.")
            else:
                if not folder.trained:
                    train(settings, choices, parts, folder, sender)
                    predict(settings, parts, folder)
                    stop_if_asked()  # one that came where Python drops exceptions: in a loader's end, say
                report(settings, parts, folder)
            if settings.tracking.log_snapshots:
                sender.weights = member_files(parts, folder)
    show(settings, parts, folder, sender.unsent)
    return folder.path


def make_folders(settings: Config) -> None:
    """Say it before any work where results could not be written. Raises StorageError."""
    for key in ("output_dir", "store_dir"):
        value = getattr(settings, key)
        with said(key, value):
            Path(value).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=value).close()
    uri = settings.tracking.uri
    database = Path(uri.removeprefix(SQLITE))
    if uri.startswith(SQLITE) and database.parent.is_dir():
        with said("tracking.uri", uri):
            tempfile.TemporaryFile(dir=database.parent).close()  # as sqlite's journal will
            if database.exists() and not os.access(database, os.W_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(database))


@contextmanager
def said(key: str, value: str) -> Iterator[None]:
    """Inside, what cannot be written to becomes a StorageError that names the key."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{key}={value}: expected a place that can be made and written to, but got: {error.strerror} "
            f"({error.filename or value}). Let this user write there, or name another place with {key}=..."
        ) from error


def train(settings: Config, choices: dict[str, str], parts: Parts, folder: RunFolder, sender: Sender) -> None:
    """Bring the trajectory to this run's last epoch, and the run's folder and MLflow along with it."""
    trajectory, epochs = parts.trajectory, parts.annealing.epochs

    def keep_up(*_: Any) -> None:
        folder.write_history(trajectory.history(epochs))
        sender.wake()

    def count(*_: Any) -> None:
        known["epochs_trained"] += 1
        known["last_epoch_trained"] = trainer.current_epoch + 1
        folder.write_json("facts.json", known)

    with trajectory.held():
        damaged = trajectory.put_damaged_aside()
        done = 0 if settings.redo else trajectory.epochs_done()
        if damaged:
            print(f"Without it, the training {f'goes on after epoch {done}' if done else 'begins again'}.", flush=True)
        trajectory.tidy(done)  # of what is to be redone, was left unfinished, or is damaged
        folder.write_text("config.yaml", OmegaConf.to_yaml(OmegaConf.structured(settings)))
        folder.write_text("split.csv", split_table(parts.cycles, parts.cycles["set"]).to_csv(index=False))
        known = facts(settings, choices, parts, folder, done)
        folder.write_json("facts.json", known)
        sender.wake()
        if done < epochs:
            counted, kept_up = (pl.callbacks.LambdaCallback(on_train_epoch_end=what) for what in (count, keep_up))
            guards = [StopOnDivergence(folder.path), StopOnSignal()]
            callbacks = [counted, Snapshots(trajectory), kept_up, RunProgress(epochs), *guards]
            trainer = build_trainer(settings, epochs, callbacks)
            fit(trainer, parts, done)
            stop_if_asked()  # a signal after the last epoch
        keep_up()


def fit(trainer: pl.Trainer, parts: Parts, done: int) -> None:
    """Train on after `done` epochs. A resume point that cannot be restored, whatever its checksum says, is named."""
    point = parts.trajectory.resume_point(done) if done else None

    def check(*_: Any) -> None:
        if point and trainer.current_epoch != done:
            raise not_ours(point, ValueError(f"expected {done} finished epochs, but got {trainer.current_epoch}"))

    trainer.callbacks.append(pl.callbacks.LambdaCallback(on_train_start=check))  # type: ignore[attr-defined]
    try:
        trainer.fit(parts.module, parts.datamodule, ckpt_path=point)
    except Exception as error:
        restoring = any(Path(frame.filename).stem == RESTORING for frame in extract_tb(error.__traceback__))
        if point is None or not restoring or isinstance(error, LungsoundError):
            raise
        raise not_ours(point, error) from error


def predict(settings: Config, parts: Parts, folder: RunFolder) -> None:
    """Every member's probabilities for every validation and test cycle: predictions.parquet."""
    folder.write_predictions(predictions(settings, parts, kept_epochs(parts.annealing, folder), ("val", "test")))


def report(settings: Config, parts: Parts, folder: RunFolder) -> None:
    """Scores, figures and the report, from the stored predictions and history."""
    write_scores(parts, folder)
    results = folder.read_json("scores.json")
    summary, biocas = results["scores"], results["biocas"]
    history = pd.DataFrame(folder.read_history())
    title, period_epochs = heading(parts), parts.annealing.period_epochs
    folder.write_figure(
        "annealing", annealing_curve(history, period_epochs, title, kept_epochs(parts.annealing, folder))
    )
    folder.write_figure("members", members_curve(summary, title))
    folder.write_figure("examples", examples(settings, parts, title))
    for name, confusion in summary["confusion"].items():
        folder.write_figure(f"confusion_{name[-1]}", confusion_figure(confusion, labels_of(int(name[-1])), title))
    figures = [path.relative_to(folder.path).as_posix() for path in folder.figures()]
    known = {**folder.read_json("facts.json"), "notes": "; ".join(parts.notes)}
    known = {name: str(value) for name, value in known.items() if value != ""}
    more = ["## BioCAS 2022", biocas_table(biocas), LEGEND] if biocas else []
    leaks = leak_rows(parts.leaks)
    folder.write_text("report.md", report_markdown(summary, known, title, parts.leak, leaks, more, figures))


def write_scores(known: Outline, folder: RunFolder) -> None:
    """scores.json: every score that follows from the stored predictions, what leaks, and what a user should know."""
    table = folder.read_predictions()
    summary, biocas = folder.summary(), biocas_rows(table)
    what = {"data": heading(known), "label_order": summary["labels"], "leak": known.leak, "leaks": known.leaks}
    folder.write_json("scores.json", {**what, "notes": list(known.notes), "scores": summary, "biocas": biocas})


def examples(settings: Config, parts: Parts, title: str) -> Any:
    """The page of example pictures: of each class the first training cycle that needs padding, or else the first."""
    cutting, features = parts.datamodule.cutting, parts.module.features
    cycles, samples = parts.datamodule.cycles["train"], parts.database.store.samples
    full = cycles["end_sample"] - cycles["start_sample"] >= cutting.length
    first = cycles.loc[full.sort_values(kind="stable").index].drop_duplicates("label").set_index("label")
    waveforms = {
        label: samples[first.at[label, "start_sample"] : first.at[label, "end_sample"]]
        for label in LABELS
        if label in first.index
    }
    augmentation = parts.datamodule.augmentation
    warps = (augmentation.vtlp_alpha, augmentation.vtlp_f_hi) if any(augmentation.vtlp_copies.values()) else None
    return example_page(
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


def show(settings: Config, parts: Parts, folder: RunFolder, unsent: str | None) -> None:
    """What a person reads when it is over, `unsent` to MLflow included; the last line is the run's folder."""
    print(scores_text(folder))
    print(f"figures: {folder.path / 'figures'}")
    uri = settings.tracking.uri
    print(
        f"MLflow:  {unsent}"
        if unsent
        else "MLflow:  mlflow ui"
        + ("  (or: make ui)" if uri == "sqlite:///mlflow.db" else f" --backend-store-uri {uri}")
    )
    print(f"run: {folder.path}")


def scores_text(folder: RunFolder) -> str:
    """What scores.json holds, for the console."""
    results = folder.read_json("scores.json")
    with understood(folder.path / "scores.json"):
        parts = [scores_table(results["scores"], results["data"], results["leak"])]
        return "\n".join([*parts, *([biocas_table(results["biocas"]), LEGEND] if results["biocas"] else [])])


def tracking_record(settings: Config, parts: Parts, folder: RunFolder) -> Record:
    tags = {"data": heading(parts), "leak": parts.leak, "trajectory": parts.trajectory.folder.name}
    tracking = settings.tracking
    study = None if tracking.study is None else Path(tracking.study)
    return begin(folder.path, tracking.uri, tracking.experiment, tags, study)
