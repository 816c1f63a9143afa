"""The figures of a run, from plain tables. They are legible in greyscale."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from lungsound.scoring.scores import score_names
from lungsound.storage.figures import DARK, LIGHT, new_figure

STYLES = {"test": (DARK, "-", "o"), "val": (LIGHT, "--", "s")}
SET_TITLES = {"test": "test", "val": "validation"}


def plot_annealing(
    history: pd.DataFrame, period_epochs: int, title: str, snapshots: Sequence[int]
) -> Figure:
    """Plot learning rate and losses over epochs, as the paper's Fig. 1.

    `history` has the columns epoch (t of Eq. 1, from 1), lr, train/loss and val/loss; `snapshots`
    are the epochs whose weights became members.
    """
    history = history.sort_values("epoch")
    epochs = history["epoch"].to_numpy()
    figure = new_figure(8.0, 5.5, title)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    exponent = math.floor(math.log10(history["lr"].max()))
    edges = np.append(epochs - 0.5, epochs[-1] + 0.5)
    upper.stairs(history["lr"] / 10.0**exponent, edges, baseline=None, color=DARK, linewidth=1.5)
    upper.set_ylabel(f"learning rate ($10^{{{exponent}}}$)")
    upper.set_ylim(bottom=0)
    lower.plot(epochs, history["train/loss"], color=DARK, linestyle="-", label="training loss")
    lower.plot(epochs, history["val/loss"], color=LIGHT, linestyle="--", label="validation loss")
    protected = history[history["epoch"].isin(list(snapshots))]
    lower.plot(protected["epoch"], protected["val/loss"], linestyle="none", marker="D",
               color="black", label="snapshot", clip_on=False, zorder=3)  # fmt: skip
    lower.set_yscale("log")  # an early epoch's loss may be a hundred times the last one's
    lower.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    lower.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    lower.yaxis.set_minor_locator(NullLocator())
    lower.set_ylabel("loss (log scale)")
    lower.set_xlabel("epoch")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    lower.set_xlim(0.5, epochs[-1] + 0.5)
    _mark_periods((upper, lower), period_epochs, int(epochs[-1]))
    figure.legend(
        *lower.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    return figure


def _mark_periods(axes: Sequence[Axes], period_epochs: int, last_epoch: int) -> None:
    """Draw a line between periods in every panel, and the periods' numbers above the first."""
    starts = range(0, last_epoch, period_epochs)
    for start in starts[1:]:
        for panel in axes:
            panel.axvline(start + 0.5, color="0.6", linewidth=0.8, linestyle=":")
    every = 1 + len(starts) // 21  # with more than 21 numbers they would overlap
    for number, start in list(enumerate(starts, start=1))[::every]:
        middle = (start + min(start + period_epochs, last_epoch)) / 2 + 0.5
        text = f"period {number}" if len(starts) <= 8 else str(number)
        axes[0].annotate(text, (middle, 1), (0, 3), xycoords=("data", "axes fraction"),
                         textcoords="offset points", ha="center", va="bottom",
                         fontsize=8)  # fmt: skip
    if len(starts) > 8:
        axes[0].annotate("period", (0, 1), (-6, 3), xycoords="axes fraction",
                         textcoords="offset points", ha="right", va="bottom",
                         fontsize=8)  # fmt: skip


def plot_ensemble_size(summary: dict[str, Any], title: str) -> Figure:
    """Plot score against number of members m (lines), and the single members (points).

    `summary` is the result of `summarize`. One panel per score of the task: 2-class, 4-class and
    7-class, as far as it has them; validation and test in each.
    """
    scores = score_names(summary["ensemble"][0]["test"])
    figure = new_figure(4.6 * len(scores) + 0.4, 4.6, title)
    panels = figure.subplots(1, len(scores), squeeze=False)[0]
    for panel, score in zip(panels, scores, strict=True):
        classes = score.rpartition("_")[2]
        for name, (color, line, marker) in STYLES.items():
            count, value = _series(summary["ensemble"], "members", name, score)
            panel.plot(
                count,
                value,
                color=color,
                linestyle=line,
                marker=marker,
                label=f"first m members, {SET_TITLES[name]}",
            )
            number, value = _series(summary["members"], "member", name, score)
            panel.plot(number, value, linestyle="none", marker=marker, markerfacecolor="none",
                       color=color, markersize=9,
                       label=f"member m alone, {SET_TITLES[name]}")  # fmt: skip
        single = summary["single"]
        panel.axvline(single["member"], color="0.6", linewidth=0.8, linestyle=":", zorder=0,
                      label=f"best on validation: member {single['member']}")  # fmt: skip
        panel.set_xlabel("m: number of members, or a member's number")
        panel.set_ylabel(f"{classes}-class ICBHI score")
        panel.set_xlim(0.5, len(summary["members"]) + 0.5)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.grid(axis="y", color="0.9")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center",
                  ncols=len(scores) + 1, frameon=False, fontsize=9)  # fmt: skip
    return figure


def _series(
    entries: list[dict[str, Any]], place: str, name: str, score: str
) -> tuple[list[int], list[float]]:
    values = [np.nan if entry[name][score] is None else entry[name][score] for entry in entries]
    return [entry[place] for entry in entries], values


def plot_confusion(confusion: Sequence[Sequence[int]], labels: Sequence[str], title: str) -> Figure:
    """Plot a confusion matrix: rows are true classes; each cell has its count and row share."""
    counts = np.asarray(confusion)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    figure = new_figure(1.1 * len(labels) + 2.6, 0.9 * len(labels) + 1.9, title)
    panel = figure.subplots()
    image = panel.imshow(shares, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        share = f"{100 * shares[row, column]:.1f} %" if totals[row, 0] else "no cycle"
        panel.text(column, row, f"{count}\n{share}", ha="center", va="center", fontsize=9,
                   color="white" if shares[row, column] > 0.5 else "black")  # fmt: skip
    panel.set_xticks(range(len(labels)), labels)
    panel.set_yticks(
        range(len(labels)),
        [f"{label}\n(n = {total})" for label, total in zip(labels, totals[:, 0], strict=True)],
    )
    panel.set_xlabel("predicted")
    panel.set_ylabel("true")
    figure.colorbar(image, ax=panel, label="share of the row")
    return figure
