"""A database's figures, drawn from its table of cycles alone: classes, durations, patients. They
read in grey.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lungsound.data.labels import FOUR_CLASS, SPRSOUND_SEVEN
from lungsound.storage.figures import DARK, LIGHT, new_figure

# From light to dark, so that stacked bars too thin for a hatch can be told apart.
SHADES = dict(zip(FOUR_CLASS.labels, ("#e4e4e4", "#eaab6b", LIGHT, DARK), strict=True))
PARTS = ("train", "inter", "intra")
COLUMNS = 4  # panels beside each other
BINS = 50
BAR_MARGIN = 1.35  # of the longest bar possible: room for its count


def database_figures(cycles: pd.DataFrame, title: str) -> dict[str, Figure]:
    """Every figure of a database, by name; `title` is the database's.

    `cycles` has one row or more, and the columns patient, device, part, label, event_type and
    seconds. Those by part and event type are drawn where the database has parts.
    """
    figures = {
        "classes-by-device": classes_by(cycles, "device", "label", f"{title}: classes by device"),
        "classes-by-patient": classes_by_patient(cycles, f"{title}: classes by patient"),
        "cycles-per-patient": cycles_per_patient(cycles, f"{title}: cycles per patient"),
        "durations-by-class": durations_by(
            cycles, "label", f"{title}: durations of the cycles by class"
        ),
    }
    if (cycles["part"] != "").any():
        figures |= {
            "classes-by-part": classes_by(cycles, "part", "label", f"{title}: classes by part"),
            "event-types-by-part": classes_by(
                cycles, "part", "event_type", f"{title}: event types by part"
            ),
            "durations-by-event-type": durations_by(
                cycles, "event_type", f"{title}: durations of the cycles by event type"
            ),
        }
    return figures


def classes_by(cycles: pd.DataFrame, group: str, column: str, title: str) -> Figure:
    """Each class's share and number of cycles, one panel a value of `group` (device, part).

    `column` is label or event_type. Shares make panels comparable whose numbers of cycles are not.
    """
    found = cycles[group].unique()
    groups = [part for part in PARTS if part in found] if group == "part" else sorted(found)
    classes = _classes(column)
    columns = min(len(groups), COLUMNS)
    rows = -(-len(groups) // columns)
    figure = new_figure(
        max(5.4, 2.9 * columns + 1.4), rows * (0.36 * len(classes) + 1.1) + 0.5, title
    )
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, value in zip(panels, groups, strict=False):
        chosen = cycles[cycles[group] == value]
        counts = chosen[column].value_counts().reindex(classes, fill_value=0)
        panel.barh(classes, 100 * counts / len(chosen), color=DARK, height=0.7)
        for place, count in enumerate(counts):
            panel.annotate(f"{count}", (100 * count / len(chosen), place), (4, 0), textcoords="offset points",
                           va="center", fontsize=9)  # fmt: skip
        patients = chosen["patient"].nunique()
        panel.set_title(
            f"{value}: {_pluralize(len(chosen), 'cycle')} of {_pluralize(patients, 'patient')}",
            fontsize=9,
        )
        panel.tick_params(labelbottom=True)  # also above a panel that is not there
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
    panels[0].invert_yaxis()
    panels[0].set_xlim(0, 100 * BAR_MARGIN)
    panels[0].set_xticks(range(0, 101, 25))
    for panel in panels[len(groups) :]:
        panel.set_visible(False)
    figure.supxlabel("share of the panel's cycles (%), and their number", fontsize=10)
    figure.supylabel(column.replace("label", "class").replace("_", " "), fontsize=10)
    return figure


def classes_by_patient(cycles: pd.DataFrame, title: str) -> Figure:
    """One bar a patient, the one with most cycles first: numbers of cycles above, shares below, by
    class.
    """
    counts = pd.crosstab(cycles["patient"], cycles["label"]).reindex(
        columns=list(FOUR_CLASS.labels), fill_value=0
    )
    counts = counts.assign(all=counts.sum(axis=1)).sort_values(
        ["all", "normal"], ascending=False, kind="stable"
    )
    totals = counts.pop("all")
    figure = new_figure(9.0, 5.6, title)
    upper, lower = figure.subplots(2, 1, sharex=True)
    _plot_stacked(upper, counts)
    _plot_stacked(lower, 100 * counts.div(totals, axis=0))
    upper.set_ylabel("cycles")
    upper.yaxis.set_major_locator(MaxNLocator(integer=True))
    lower.set_ylabel("share of the patient's cycles (%)")
    lower.set_ylim(0, 100)
    lower.set_xlim(0.5, len(counts) + 0.5)
    lower.set_xlabel(f"{_pluralize(len(counts), 'patient')} with cycles, the one with most first")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(*upper.get_legend_handles_labels(), loc="outside lower center", ncols=len(FOUR_CLASS), frameon=False,
                  fontsize=9)  # fmt: skip
    return figure


def _plot_stacked(panel: Axes, heights: pd.DataFrame) -> None:
    """Bars without gaps, one a row of `heights`, its columns on top of each other."""
    edges = np.arange(len(heights) + 1) + 0.5
    tops = heights.cumsum(axis=1)
    for label in heights:
        below = tops[label] - heights[label]
        panel.stairs(
            tops[label],
            edges,
            baseline=below,
            fill=True,
            color=SHADES[str(label)],
            label=str(label),
        )


def cycles_per_patient(cycles: pd.DataFrame, title: str) -> Figure:
    """How many patients have how many cycles, and the median patient's."""
    counts = cycles["patient"].value_counts()
    figure = new_figure(7.0, 3.8, title)
    panel = figure.subplots()
    # Whole numbers of cycles in each bin, or some bins would hold more of them than others.
    width = -(-int(counts.max()) // BINS)
    edges = np.arange(1, counts.max() + width + 1, width) - 0.5
    panel.hist(counts, edges.tolist(), color=DARK)
    _mark_median(panel, counts, f"median {counts.median():g} cycles, most {counts.max()}")
    panel.set_xlabel("cycles of a patient")
    panel.set_ylabel(f"patients (of {len(counts)} with cycles)")
    panel.set_xlim(left=0)
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def durations_by(cycles: pd.DataFrame, column: str, title: str) -> Figure:
    """A histogram of the cycles' lengths in seconds, one panel a class (label, event_type), on one
    time axis.
    """
    classes = [label for label in _classes(column) if (cycles[column] == label).any()]
    edges = np.linspace(0, cycles["seconds"].max(), BINS + 1)
    figure = new_figure(7.0, 1.35 * len(classes) + 1.0, title)
    panels = figure.subplots(len(classes), 1, sharex=True, squeeze=False)[:, 0]
    for panel, label in zip(panels, classes, strict=True):
        seconds = cycles.loc[cycles[column] == label, "seconds"]
        panel.hist(seconds, edges.tolist(), color=DARK)
        _mark_median(
            panel,
            seconds,
            f"{label}: {_pluralize(len(seconds), 'cycle')}, median {seconds.median():.2f} s",
        )
        panel.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3, min_n_ticks=1))
    panels[-1].set_xlim(0, edges[-1])
    panels[-1].set_xlabel("length of a cycle (s)")
    figure.supylabel("cycles", fontsize=10)
    return figure


def _mark_median(panel: Axes, values: pd.Series, text: str) -> None:
    panel.axvline(
        values.median(), color="white", linewidth=2.2
    )  # or the dashes are lost on dark bars
    panel.axvline(values.median(), color="black", linestyle="--", linewidth=1.2)
    panel.set_title(text, loc="right", fontsize=9)  # above the panel, where no bar can be


def _classes(column: str) -> list[str]:
    return list((SPRSOUND_SEVEN if column == "event_type" else FOUR_CLASS).labels)


def _pluralize(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
