"""Make the figures and the report of a run from its scores and history."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lungsound.config.schema import Config
from lungsound.data.splits.leakage import leakage_rows
from lungsound.results.biocas import biocas_section
from lungsound.results.calibration import calibration_section
from lungsound.results.combination import combination_section
from lungsound.results.comparison import ensemble_answers
from lungsound.results.examples import plot_preprocessing_examples
from lungsound.results.figures import (
    plot_annealing,
    plot_calibration,
    plot_combinations,
    plot_confusion,
    plot_ensemble_size,
)
from lungsound.results.folder import RunFolder
from lungsound.results.report import report_markdown
from lungsound.results.subgroups import subgroup_section
from lungsound.runs.build import RunComponents
from lungsound.runs.naming import data_title
from lungsound.runs.predict import member_epochs
from lungsound.runs.scores import write_scores
from lungsound.scoring.scores import score_names


def write_run_report(settings: Config, parts: RunComponents, folder: RunFolder) -> None:
    """Write scores.json, the figures and report.md."""
    results = write_scores(parts, folder)
    write_figures(settings, parts, folder, results)
    biocas = biocas_section(results["biocas"])
    metadata = {**folder.metadata(), "notes": "; ".join(parts.notes)}
    report = report_markdown(
        results["scores"],
        results["intervals"],
        {name: str(value) for name, value in metadata.items() if value != ""},
        data_title(parts),
        parts.leakage_sentence,
        leakage_rows(parts.leakage),
        [
            *calibration_section(results["calibration"], results["operating"]),
            *combination_section(results["combinations"]),
            *subgroup_section(results["subgroups"], results["units"]),
            *(["## BioCAS 2022", *biocas] if biocas else []),
        ],
        [path.relative_to(folder.path).as_posix() for path in folder.figures()],
    )
    folder.write_text("report.md", report)


def write_figures(
    settings: Config, parts: RunComponents, folder: RunFolder, results: dict[str, Any]
) -> None:
    """Write figures/*.png; `results` is the content of scores.json."""
    title, summary = data_title(parts), results["scores"]
    history = pd.DataFrame(folder.read_history())
    epochs = member_epochs(parts.annealing, folder)
    period_epochs, monitor = parts.annealing.epochs_per_period, f"val/{parts.annealing.monitor}"
    if monitor == "val/score":
        monitor = score_names(map(str, history))[0]  # of the task's own classes
    # An average's own validation score is not in the history.
    marked = [] if parts.annealing.select == "average" else epochs
    annealing = plot_annealing(history, period_epochs, title, marked, monitor)
    folder.write_figure("annealing", annealing)
    folder.write_figure("members", plot_ensemble_size(summary, title))
    if results["calibration"] and results["operating"]:
        answers = ensemble_answers(folder.read_predictions())
        temperature, points = results["calibration"]["temperature"], results["operating"]["points"]
        folder.write_figure("calibration", plot_calibration(answers, temperature, points, title))
    if results["combinations"]:
        folder.write_figure("combinations", plot_combinations(folder.read_predictions(), title))
    folder.write_figure("examples", plot_examples(settings, parts, title))
    system = f"test set, ensemble of {len(epochs)}"
    for labels in parts.labels.chain:
        confusion = summary["confusion"][f"ensemble_{len(labels)}"]
        figure = plot_confusion(confusion, labels.labels, title, system)
        folder.write_figure(f"confusion_{len(labels)}", figure)


def plot_examples(settings: Config, parts: RunComponents, title: str) -> Figure:
    """Plot log-mels of each class's first training cycle, of one that needs padding if any."""
    cutting, augmentation = parts.datamodule.cutting, parts.datamodule.augmentation
    cycles, samples = parts.datamodule.cycles["train"], parts.database.store.samples
    fills_segment = cycles["end_sample"] - cycles["start_sample"] >= cutting.length
    in_order = cycles.loc[fills_segment.sort_values(kind="stable").index]
    example_cycles = in_order.drop_duplicates("label").set_index("label")
    waveforms = {}
    for label in parts.database.spec.label_sets["label"].labels:
        if label in example_cycles.index:
            start, end = example_cycles.loc[label, ["start_sample", "end_sample"]]
            waveforms[label] = samples[start:end]
    features = parts.module.features
    return plot_preprocessing_examples(
        waveforms, features, cutting, augmentation, settings.seed, title
    )
