"""A snapshot ensemble beside its controls: other uses of the same epochs, on the same splits.

Each option of `annealing` that a study sweeps is one or two systems; the differences are those to
the ensemble of annealing=cosine with the same other keys, on the same test cycles.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lungsound.results.comparison import Answers, ensemble_answers
from lungsound.results.folder import RunFolder
from lungsound.scoring.bootstrap import bootstrap_scores, quantile_interval, scores_of_counts
from lungsound.scoring.scores import score_names
from lungsound.storage.figures import DARK, LIGHT, new_figure, score_panels
from lungsound.studies.statistics import SPLIT_KEYS, exclude, spread_over_splits

ENSEMBLE, SINGLE, LAST = "ensemble", "single", "last"


class System(NamedTuple):
    """What answers for the test cycles: a run's whole ensemble or one of its members."""

    title: str
    annealing: str
    answer: str


BASE = System("snapshot ensemble", "cosine", ENSEMBLE)
SYSTEMS = (
    BASE,
    System("best single member", "cosine", SINGLE),
    System("one model, one cosine", "one_cosine", ENSEMBLE),
    System("one model, constant rate", "constant", ENSEMBLE),
    System("independent, same epochs", "independent", ENSEMBLE),
    System("average of last weights", "average", LAST),
    System("ensemble of averages", "average", ENSEMBLE),
    System("independent, M × epochs", "independent_long", ENSEMBLE),
)
# What makes an option of `annealing` the control that it is.
OWN_SETTINGS = {
    "one_cosine": {"schedule": "one_cosine", "continue_from": "last"},
    "constant": {"schedule": "constant"},
    "independent": {"schedule": "cosine", "continue_from": "fresh"},
    "average": {"schedule": "cosine", "select": "average"},
    "independent_long": {"schedule": "one_cosine", "continue_from": "fresh"},
}
CONTROLS = {system.annealing for system in SYSTEMS} - {"cosine", "constant"}


def has_controls(runs: pd.DataFrame) -> bool:
    """Return whether a study's runs (`annealing` ...) are a snapshot ensemble and its controls."""
    options = set(runs["annealing"])
    return "cosine" in options and bool(options & CONTROLS)


def control_rows(runs: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return a row per system and split: its scores, and their differences to the base.

    `runs` has the swept `keys`, `protocol`, the numbers of cycles and `folder`. Columns: `system`,
    `members`, `epochs` (trained in all), and for each `score_N` of the ensemble that, `d_score_N`,
    `low_score_N` and `high_score_N` (95 % by bootstrap over patients; NaN if it would mislead).
    Splits without a run of annealing=cosine are left out. Raises DataError as `summarize`.
    """
    same = [*exclude(keys, "annealing"), "protocol"]
    rows: list[dict[str, Any]] = []
    for _, group in runs.groupby(same, sort=False, dropna=False):
        by_option = {str(row["annealing"]): row for _, row in group.iterrows()}
        if BASE.annealing not in by_option:
            continue
        base = _answers(by_option[BASE.annealing], BASE.answer)
        for system in SYSTEMS:
            run = by_option.get(system.annealing)
            if run is not None and _is_system(system, run):
                rows.append(dict(run) | _system_row(system, run, base))
    return pd.DataFrame(rows)


def _is_system(system: System, run: pd.Series) -> bool:
    """Return whether the run has the option's own settings: a command may have changed them."""
    annealing = RunFolder(Path(run["folder"])).read_config()["annealing"]
    settings = OWN_SETTINGS.get(system.annealing, {})
    return all(annealing[name] == value for name, value in settings.items())


def _answers(run: pd.Series, answer: str) -> Answers:
    folder = RunFolder(Path(run["folder"]))
    predictions = folder.read_predictions()
    if answer != ENSEMBLE:
        number = predictions["member"].max()
        if answer == SINGLE:
            number = folder.summary()["single"]["member"]
        predictions = predictions[predictions["member"] == number]
    return ensemble_answers(predictions)


def _system_row(system: System, run: pd.Series, base: Answers) -> dict[str, Any]:
    answers = _answers(run, system.answer)
    epochs = len(RunFolder(Path(run["folder"])).read_history())
    members = run["members"] if system.answer == ENSEMBLE else 1
    row = {"system": system.title, "members": members, "epochs": epochs}
    counts = np.stack([answers.counts, base.counts])
    scores = scores_of_counts(counts.sum(1), base.labels)
    draws = {} if base.interval_problem else bootstrap_scores(counts, base.labels)
    for name in score_names(scores):
        row[name] = float(scores[name][0])
        difference = float(scores[name][0] - scores[name][1])
        row[f"d_{name}"] = np.nan if system == BASE else difference
        interval: tuple[float, float] = (np.nan, np.nan)
        if draws and system != BASE:
            interval = quantile_interval(draws[name][:, 0] - draws[name][:, 1])
        row[f"low_{name}"], row[f"high_{name}"] = interval
    return row


def control_table(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return a row per system: mean, spread and interval over the splits, and of its difference.

    `rows` is of `control_rows`. Columns: `system`, other keys, `protocol`, `members`, `epochs`,
    `splits`, and for each N `score_N` and `minus_ensemble_score_N` with `_std` and `_interval`
    (`corrected_interval`), and `above_0_N`, `below_0_N`: the number of splits whose interval
    by patient lies above or below 0.
    """
    others = exclude(keys, "annealing", *SPLIT_KEYS)
    by = ["system", *others, "protocol", "members", "epochs"]
    table = []
    for values, group in rows.groupby(by, sort=False, dropna=False):
        row = dict(zip(by, values, strict=True)) | {"splits": len(group)}
        for name in score_names(rows):
            classes = name.removeprefix("score_")
            for title, column in ((name, name), (f"minus_ensemble_{name}", f"d_{name}")):
                spread = spread_over_splits(group[column], group)
                row |= {title: spread.mean, f"{title}_std": spread.std}
                row[f"{title}_interval"] = spread.interval
            row[f"above_0_{classes}"] = int((group[f"low_{name}"] > 0).sum())
            row[f"below_0_{classes}"] = int((group[f"high_{name}"] < 0).sum())
        table.append(row)
    return pd.DataFrame(table)


def draw_controls(rows: pd.DataFrame, keys: Sequence[str], title: str) -> dict[str, Figure]:
    """Return the figures of `control_rows`; with other swept keys, those of each combination."""
    others = exclude(keys, "annealing", *SPLIT_KEYS)
    if not others:
        return {"differences": plot_differences(rows, title), "controls": plot_sizes(rows, title)}
    figures = {}
    for number, (values, group) in enumerate(rows.groupby(others, sort=False), start=1):
        words = [f"{key}={value}" for key, value in zip(others, values, strict=True)]
        full_title = " ".join([title, *words])
        figures[f"differences_{number}"] = plot_differences(group, full_title)
        figures[f"controls_{number}"] = plot_sizes(group, full_title)
    return figures


def plot_differences(rows: pd.DataFrame, title: str) -> Figure:
    """Plot each system's difference to the snapshot ensemble: a line per split with its interval.

    `rows` is of `control_rows`; a diamond is the mean over the splits.
    """
    scores = _defined_scores(rows)
    systems = [system.title for system in SYSTEMS[1:] if (rows["system"] == system.title).any()]
    figure = new_figure(4.2 * len(scores) + 3.4, 0.55 * len(systems) + 2.0, title)
    panels = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    for panel, score in zip(panels, scores, strict=True):
        for place, name in enumerate(systems):
            _draw_differences(panel, place, rows[rows["system"] == name], score)
        panel.axvline(0, color="0.6", linewidth=0.8, linestyle=":")
        panel.set_xlabel(f"{score.removeprefix('score_')}-class score, minus the ensemble's")
    panels[0].set_yticks(range(len(systems)), systems)
    panels[0].set_ylim(len(systems) - 0.5, -0.5)
    note = "lines: 95 % by bootstrap over a split's patients; diamond: mean over the splits"
    figure.supxlabel(note, fontsize=9)
    return figure


def _defined_scores(rows: pd.DataFrame) -> list[str]:
    return [name for name in score_names(rows) if rows[name].notna().any()]


def _draw_differences(panel: Axes, place: int, group: pd.DataFrame, score: str) -> None:
    heights = place + np.linspace(-0.25, 0.25, len(group)) * (len(group) > 1)
    low, high = group[f"low_{score}"], group[f"high_{score}"]
    panel.hlines(heights, low, high, color=LIGHT, linewidth=1.2)
    panel.plot(group[f"d_{score}"], heights, "o", color=LIGHT, markersize=3.5)
    panel.plot([group[f"d_{score}"].mean()], [place], "D", color=DARK, markersize=6)


def plot_sizes(rows: pd.DataFrame, title: str) -> Figure:
    """Plot mean score against the number of members; systems of one model are horizontal lines.

    `rows` is of `control_rows`. The band is the base's standard deviation.
    """
    scores = _defined_scores(rows)
    note = "m: the first m members; band: ± standard deviation"
    figure, panels = score_panels(scores, title, note)
    colors = (DARK, LIGHT, "#7b3f8c", "#2e8b57", "black", "#7fb8d4", "0.5", "#8b2e2e")
    lines = ("-", "--", "-.", ":")
    for number, system in enumerate(SYSTEMS):
        group = rows[rows["system"] == system.title]
        look: dict[str, Any] = {"color": colors[number], "ls": lines[number % 4]}
        for score, panel in panels.items() if len(group) else ():
            if group["members"].max() == 1:
                panel.axhline(group[score].mean(), label=system.title, linewidth=1.2, **look)
            else:
                curves = np.array(list(_size_curves(group, score)))
                sizes, mean = np.arange(1, curves.shape[1] + 1), curves.mean(0)
                panel.plot(sizes, mean, marker="o", markersize=4, label=system.title, **look)
                if len(curves) > 1 and system == BASE:
                    std = curves.std(0, ddof=1)
                    panel.fill_between(
                        sizes, mean - std, mean + std, color=look["color"], alpha=0.12
                    )
    handles, labels = panels[scores[0]].get_legend_handles_labels()
    figure.set_figheight(figure.get_figheight() + 0.2 * (len(labels) / 2 + 1))
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _size_curves(group: pd.DataFrame, score: str) -> Iterator[list[float]]:
    for folder in group["folder"]:
        ensembles = RunFolder(Path(folder)).summary()["ensemble"]
        yield [np.nan if one["test"][score] is None else one["test"][score] for one in ensembles]
