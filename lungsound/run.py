"""The whole story of one run, top to bottom."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lungsound.build import Parts, build, build_trainer
from lungsound.config import Config, checked
from lungsound.cost import announcement
from lungsound.data.labels import LABELS
from lungsound.data.splits import split_table
from lungsound.evaluation.examples import example_page
from lungsound.evaluation.figures import annealing_curve, confusion_figure, members_curve
from lungsound.evaluation.folder import RunFolder
from lungsound.evaluation.predictions import predictions_table
from lungsound.evaluation.report import report_markdown, scores_table
from lungsound.evaluation.summary import summarize
from lungsound.files import is_whole, key_of
from lungsound.scoring.probabilities import cycle_probabilities
from lungsound.tracking.view import MlflowView
from lungsound.training.progress import RunProgress
from lungsound.training.snapshots import Snapshots


def run(cfg: DictConfig, choices: dict[str, str]) -> Path:
    """Train what the trajectory lacks, score the ensemble, and leave a folder with all of it, shown in MLflow.

    `choices` names the chosen option of each group. Raises LungsoundError where the user can mend something.
    """
    settings = checked(cfg)
    print(announcement(settings, choices["experiment"]), flush=True)
    parts = build(settings)
    print(*parts.notes, parts.leak, sep="\n", flush=True)
    folder = RunFolder(Path(settings.output_dir) / run_name(settings, choices, parts))
    if settings.redo:
        folder.clear()
    view = open_view(settings, parts, folder)
    if folder.finished:
        print("This run is finished; its results are listed. redo=true trains it again.")
    else:
        with view.running():
            train(settings, choices, parts, folder, view)
            predict(settings, parts, folder)
            report(settings, parts, folder)
    view.send_all(member_files(parts) if settings.tracking.log_snapshots else [])
    show(settings, parts, folder)
    return folder.path


def train(settings: Config, choices: dict[str, str], parts: Parts, folder: RunFolder, view: MlflowView) -> None:
    """Bring the trajectory to this run's last epoch, and the run's folder and MLflow along with it."""
    trajectory, epochs = parts.trajectory, parts.annealing.epochs

    def keep_up(*_: Any) -> None:
        folder.write_history(trajectory.history(epochs))
        view.send_history()

    with trajectory.held():
        done = 0 if settings.redo else trajectory.epochs_done()
        trajectory.tidy(done)  # of what is to be redone, was left unfinished, or is damaged
        folder.write_text("config.yaml", OmegaConf.to_yaml(OmegaConf.structured(settings)))
        folder.write_text("split.csv", split_table(parts.cycles, parts.cycles["set"]).to_csv(index=False))
        folder.write_json("facts.json", facts(settings, choices, parts, folder, done))
        view.send_facts()
        if done < epochs:
            report_epoch = pl.callbacks.LambdaCallback(on_train_epoch_end=keep_up)
            trainer = build_trainer(settings, epochs, [Snapshots(trajectory), report_epoch, RunProgress(epochs)])
            trainer.fit(parts.module, parts.datamodule, ckpt_path=trajectory.resume_point(done) if done else None)
    keep_up()


def predict(settings: Config, parts: Parts, folder: RunFolder) -> None:
    """Every member's probabilities for every validation and test cycle: predictions.parquet."""
    trainer = build_trainer(settings, epochs=0)
    members = []
    for epoch in kept_epochs(parts):
        parts.module.load_snapshot(parts.trajectory.snapshot(epoch))
        members.append(torch.cat([set_probabilities(trainer, parts, name) for name in ("val", "test")]))
    cycles = pd.concat([parts.datamodule.cycles[name] for name in ("val", "test")])
    folder.write_predictions(predictions_table(cycles, members, parts.database.synthetic))


def kept_epochs(parts: Parts) -> list[int]:
    """The epoch each member comes from."""
    history = parts.trajectory.history(parts.annealing.epochs)
    return [parts.annealing.kept_epoch(history, period) for period in range(1, parts.annealing.periods + 1)]


def member_files(parts: Parts) -> list[Path]:
    return [parts.trajectory.snapshot_path(epoch) for epoch in kept_epochs(parts)]


def set_probabilities(trainer: pl.Trainer, parts: Parts, name: str) -> Tensor:
    """Mean over the chunks of each cycle of one set: [cycles, K]."""
    batches = trainer.predict(parts.module, parts.datamodule.evaluation_loader(name))
    assert batches is not None
    probabilities, cycle = (torch.cat(column) for column in zip(*batches, strict=True))
    return cycle_probabilities(probabilities, cycle, len(parts.datamodule.cycles[name]))


def report(settings: Config, parts: Parts, folder: RunFolder) -> None:
    """Scores, figures and the report, from the stored predictions and history."""
    summary = summarize(folder.read_predictions())
    what = {"data": heading(parts), "label_order": list(LABELS), "leak": parts.leak}
    folder.write_json("scores.json", {**what, "scores": summary})
    history = pd.DataFrame(folder.read_history())
    title, period_epochs = heading(parts), parts.annealing.period_epochs
    folder.write_figure("annealing", annealing_curve(history, period_epochs, title, kept_epochs(parts)))
    folder.write_figure("members", members_curve(summary, title))
    folder.write_figure("examples", examples(settings, parts, title))
    for name, confusion in summary["confusion"].items():
        labels = LABELS if name.endswith("4") else ("normal", "abnormal")
        folder.write_figure(f"confusion_{name[-1]}", confusion_figure(confusion, labels, title))
    figures = [path.relative_to(folder.path).as_posix() for path in folder.figures()]
    known = {name: str(value) for name, value in folder.read_json("facts.json").items()}
    folder.write_text("report.md", report_markdown(summary, {**known, "leak": parts.leak}, title, figures))


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
    return example_page(waveforms, features, cutting.length, cutting.padding, cutting.chunks, settings.seed, title)


def show(settings: Config, parts: Parts, folder: RunFolder) -> None:
    """What a person reads when it is over; the last line is the run's folder."""
    print(scores_table(folder.read_json("scores.json")["scores"], heading(parts)))
    print(parts.leak)
    print(f"figures: {folder.path / 'figures'}")
    uri = settings.tracking.uri
    print("MLflow:  mlflow ui" + ("" if uri == "sqlite:///mlflow.db" else f" --backend-store-uri {uri}"))
    print(f"run: {folder.path}")


def heading(parts: Parts) -> str:
    """Names the data, and says SYNTHETIC where they are."""
    if parts.database.synthetic:
        return "SYNTHETIC demo database (no patient was recorded)"
    return f"{parts.database.name}: {parts.database.recordings} recordings, {len(parts.cycles)} cycles"


def facts(settings: Config, choices: dict[str, str], parts: Parts, folder: RunFolder, done: int) -> dict[str, Any]:
    """What a reader wants to know of a run at a glance; MLflow's params."""
    epochs = parts.annealing.epochs
    trained = epochs - min(done, epochs)
    if is_whole(folder.path / "facts.json"):  # a start that goes on keeps what the first one found
        trained = folder.read_json("facts.json")["epochs_trained"]
    return {
        **{group: option for group, option in choices.items() if not group.startswith("hydra/")},
        "annealing.cycles": settings.annealing.cycles,
        "model.parameters": sum(parameter.numel() for parameter in parts.module.network.parameters()),
        "data.recordings": parts.database.recordings,
        "data.cycles": len(parts.cycles),
        "split.seed": settings.split.seed,
        "seed": settings.seed,
        "epochs_trained": trained,
        "trajectory": parts.trajectory.folder.name,
    }


def run_name(settings: Config, choices: dict[str, str], parts: Parts) -> str:
    """Readable, and with a key of all that decides the run's scores."""
    annealing = settings.annealing
    key = key_of([parts.trajectory.folder.name, annealing.cycles, annealing.select, annealing.monitor])
    words = (
        choices["experiment"],
        choices["padding"],
        choices["segment"],
        f"M{annealing.cycles}",
        f"split{settings.split.seed}",
    )
    return "-".join((*words, key[:8]))


def open_view(settings: Config, parts: Parts, folder: RunFolder) -> MlflowView:
    prefix = "SYNTHETIC " if parts.database.synthetic else ""
    tags = {
        "data": f"{prefix}{parts.database.name}",
        "leak": parts.leak,
        "trajectory": parts.trajectory.folder.name,
    }
    tracking = settings.tracking
    return MlflowView(tracking.uri, tracking.experiment, folder, f"{prefix}{folder.path.name}", tags, settings.redo)
