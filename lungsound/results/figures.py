"""A run's figures, from plain tables; line styles and lightness keep them readable in grey."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lungsound.results.calibration import POINTS, abnormal_scores, is_abnormal
from lungsound.results.combination import Floats, member_answers, member_orders
from lungsound.results.comparison import Answers
from lungsound.scoring.calibration import reliability_bins, scale_temperature
from lungsound.scoring.combination import disagreement, error_correlation
from lungsound.scoring.scores import score_names
from lungsound.storage.figures import DARK, LIGHT, new_figure, score_panels, use_log_scale

STYLES = {"test": (DARK, "-", "o"), "val": (LIGHT, "--", "s")}
SET_TITLES = {"test": "test", "val": "validation"}
LEGEND: dict[str, Any] = {"loc": "outside lower center", "frameon": False, "fontsize": 9}


def plot_annealing(
    history: pd.DataFrame, period_epochs: int, title: str, snapshots: Sequence[int], monitor: str
) -> Figure:
    """Plot learning rate and losses over epochs, as in Nguyen & Pernkopf (2020), Fig. 1.

    `history` has the columns epoch (t of Eq. 1, from 1), lr, train/loss, val/loss, and `monitor`,
    which chooses the snapshots and has a panel if it is not the loss; `snapshots` are the epochs
    whose weights became members.
    """
    history = history.sort_values("epoch")
    epochs = history["epoch"].to_numpy()
    columns = ["val/loss", monitor] if monitor != "val/loss" else ["val/loss"]
    figure = new_figure(8.0, 3.4 + 2.1 * len(columns), title)
    heights = (2, *[3] * len(columns))
    upper, *lowers = figure.subplots(1 + len(columns), 1, sharex=True, height_ratios=heights)
    exponent = math.floor(math.log10(history["lr"].max()))
    edges = np.append(epochs - 0.5, epochs[-1] + 0.5)
    upper.stairs(history["lr"] / 10.0**exponent, edges, baseline=None, color=DARK, linewidth=1.5)
    upper.set_ylabel(f"learning rate ($10^{{{exponent}}}$)")
    upper.set_ylim(bottom=0)
    losses, lower = lowers[0], lowers[-1]
    losses.plot(epochs, history["train/loss"], color=DARK, linestyle="-", label="training")
    kept = history[history["epoch"].isin(list(snapshots))]
    for column, panel in zip(columns, lowers, strict=True):
        values, kept_values = history[column].astype(float), kept[column].astype(float)
        panel.plot(epochs, values, color=LIGHT, linestyle="--", label="validation")
        panel.plot(kept["epoch"], kept_values, "kD", label="snapshot", clip_on=False, zorder=3)
        panel.set_ylabel(_metric_title(column))
    use_log_scale(losses)
    losses.set_ylabel("loss (log scale)")
    lower.set_xlabel("epoch")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    lower.set_xlim(0.5, epochs[-1] + 0.5)
    _mark_periods((upper, *lowers), period_epochs, int(epochs[-1]))
    figure.legend(*losses.get_legend_handles_labels(), ncols=3, **LEGEND)
    return figure


def _metric_title(column: str) -> str:
    name = column.removeprefix("val/")
    classes = name.removeprefix("score_")
    return f"{classes}-class ICBHI score" if classes != name else name


def _mark_periods(axes: Sequence[Axes], period_epochs: int, last_epoch: int) -> None:
    """Mark a line between periods in every panel, and their numbers above the first panel."""
    starts = range(0, last_epoch, period_epochs)
    for start in starts[1:]:
        for panel in axes:
            panel.axvline(start + 0.5, color="0.6", linewidth=0.8, linestyle=":")
    middles = [(start + min(start + period_epochs, last_epoch)) / 2 + 0.5 for start in starts]
    numbers = range(1, len(starts) + 1)
    every = 1 + len(starts) // 21  # more numbers than this would touch
    above = axes[0].secondary_xaxis("top")
    above.set_xticks(middles[::every], [str(number) for number in numbers[::every]])
    above.tick_params(length=0, labelsize=8)
    above.set_xlabel("period", fontsize=8)


def plot_ensemble_size(summary: dict[str, Any], title: str) -> Figure:
    """Plot scores against the number of members m (lines), and the single members (points).

    `summary` is what `summarize` returns; each of its scores has a panel, with validation and test.
    """
    scores = score_names(summary["ensemble"][0]["test"])
    figure, panels = score_panels(scores, title, "m: number of members, or a member's number")
    for score, panel in panels.items():
        _plot_members(panel, summary, score)
    best = summary["single"]["member"]  # by the score of the task's own classes
    line: dict[str, Any] = {"color": "0.6", "linewidth": 0.8, "linestyle": ":", "zorder": 0}
    panels[scores[0]].axvline(best, label=f"best on validation: member {best}", **line)
    entries = panels[scores[0]].get_legend_handles_labels()
    figure.legend(*entries, ncols=len(scores) + 1, **LEGEND)
    return figure


def _plot_members(panel: Axes, summary: dict[str, Any], score: str) -> None:
    for name, (color, line, marker) in STYLES.items():
        ensemble = _series(summary["ensemble"], "members", name, score)
        label = f"first m members, {SET_TITLES[name]}"
        panel.plot(*ensemble, color=color, linestyle=line, marker=marker, label=label)
        members = _series(summary["members"], "member", name, score)
        label = f"member m alone, {SET_TITLES[name]}"
        points: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "none", "markersize": 9}
        panel.plot(*members, color=color, marker=marker, label=label, **points)
    panel.set_xlim(0.5, len(summary["members"]) + 0.5)


def _series(
    entries: list[dict[str, Any]], place: str, name: str, score: str
) -> tuple[list[int], list[float]]:
    values = [np.nan if entry[name][score] is None else entry[name][score] for entry in entries]
    return [entry[place] for entry in entries], values


def plot_calibration(
    answers: Answers, temperature: float, points: dict[str, dict[str, float]], title: str
) -> Figure:
    """Plot the ensemble's reliability diagram, ROC and precision-recall curve on its cycles.

    `temperature` and `points` are of `calibration_summary` and `operating_summary`.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve  # slow to import

    figure = new_figure(13.0, 4.6, f"{title}\ntest set, ensemble")
    reliability, roc, recall = figure.subplots(1, 3)
    diagonal: dict[str, Any] = {"color": "0.6", "linewidth": 0.8, "linestyle": ":"}
    reliability.plot([0, 1], [0, 1], **diagonal)
    scaled = scale_temperature(answers.probabilities, temperature)
    for probabilities, label, (color, line, marker) in (
        (answers.probabilities, "as it is", STYLES["test"]),
        (scaled, f"temperature {temperature:.2f}, fitted on validation", STYLES["val"]),
    ):
        confidence, accuracy, _ = reliability_bins(probabilities, answers.truth)
        reliability.plot(confidence, accuracy, color=color, ls=line, marker=marker, label=label)
    reliability.set(xlabel="mean confidence of a tenth of the cycles", ylabel="share of them right")
    scores, abnormal = abnormal_scores(answers), is_abnormal(answers)
    false_alarms, hits, _ = roc_curve(abnormal, scores)
    roc.plot([0, 1], [0, 1], **diagonal)
    roc.plot(false_alarms, hits, color=DARK)
    roc.set(xlabel="1 − specificity", ylabel="sensitivity (abnormal)")
    precision, found, _ = precision_recall_curve(abnormal, scores)
    recall.plot(found, precision, color=DARK)
    recall.set(xlabel="sensitivity (abnormal)", ylabel="precision", ylim=(0, 1.02))
    for (name, point), marker in zip(points.items(), ("D", "s"), strict=True):
        called = scores >= point["threshold"]
        mark: dict[str, Any] = {"color": LIGHT, "marker": marker, "linestyle": "none", "zorder": 3}
        label = f"threshold: {POINTS[name]}"
        roc.plot(1 - point["specificity"], point["sensitivity"], label=label, **mark)
        if called.any():
            recall.plot(point["sensitivity"], abnormal[called].mean(), **mark)
    handles = [panel.get_legend_handles_labels() for panel in (reliability, roc)]
    lines, labels = ([*one, *other] for one, other in zip(*handles, strict=True))
    figure.legend(lines, labels, ncols=4, **LEGEND)
    return figure


def plot_confusion(
    confusion: Sequence[Sequence[int]], labels: Sequence[str], title: str, system: str
) -> Figure:
    """Plot the confusion matrix of a `system`, which is named below the title.

    Rows are the truth, fields have counts and shares of the row.
    """
    counts = np.asarray(confusion)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    figure = new_figure(1.1 * len(labels) + 2.6, 0.9 * len(labels) + 2.1, f"{title}\n{system}")
    panel = figure.subplots()
    image = panel.imshow(shares, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    centered: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9}
    for (row, column), count in np.ndenumerate(counts):
        share = f"{100 * shares[row, column]:.1f} %" if totals[row, 0] else "no cycle"
        color = "white" if shares[row, column] > 0.5 else "black"
        panel.text(column, row, f"{count}\n{share}", color=color, **centered)
    rows = [f"{label}\n(n = {n})" for label, n in zip(labels, totals[:, 0], strict=True)]
    panel.set_xticks(range(len(labels)), labels)
    panel.set_yticks(range(len(labels)), rows)
    panel.set_xlabel("predicted")
    panel.set_ylabel("true")
    figure.colorbar(image, ax=panel, label="share of the row")
    return figure


def plot_combinations(predictions: pd.DataFrame, title: str) -> Figure:
    """Plot how the members differ on test, and the ensemble's score against its size.

    Raises DataError as `summarize`.
    """
    validation, test = (member_answers(predictions, name) for name in ("val", "test"))
    figure = new_figure(14.0, 4.6, f"{title}\ntest set")
    left, middle, right = figure.subplots(1, 3)
    _heat_map(left, disagreement(test.members), "share of cycles in different classes")
    errors = error_correlation(test.members, test.mean.truth)
    _heat_map(middle, errors, "correlation of the errors")
    numbers = np.arange(1, len(test.members) + 1)
    styles = ((DARK, "-", "o"), (LIGHT, "--", "s"), ("0.4", ":", "^"))
    orders = member_orders(validation).items()
    for (name, order), (color, line, marker) in zip(orders, styles, strict=True):
        scores = [test.score(test.members[order[:size]].mean(0)) for size in numbers]
        label = f"{name} on validation" if name == "best m" else name
        right.plot(numbers, scores, color=color, ls=line, marker=marker, label=label)
    right.set(xlabel="m: number of members", ylabel=f"{test.members.shape[2]}-class ICBHI score")
    right.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    right.grid(axis="y", color="0.9")
    right.legend(frameon=False, fontsize=9)
    return figure


def _heat_map(panel: Axes, values: Floats, title: str) -> None:
    """Draw values [M, M] of pairs of members; the diagonal is left out, for it says nothing."""
    count = len(values)
    pairs = np.where(np.eye(count, dtype=bool), np.nan, values)
    image = panel.imshow(pairs, cmap="viridis", extent=(0.5, count + 0.5, count + 0.5, 0.5))
    panel.set(xlabel="member", ylabel="member", title=title)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panel.figure.colorbar(image, ax=panel, shrink=0.85)
