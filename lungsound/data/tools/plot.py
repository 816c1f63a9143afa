"""A database's figures, drawn from its table of cycles alone: classes, durations, patients.

They are legible in greyscale.
"""

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lungsound.data.labels import LabelSet
from lungsound.data.registry import DatabaseSpec
from lungsound.storage.figures import DARK, LIGHT, new_figure

# From light to dark: stacked bars that are too thin for a hatch differ in greyscale too.
SHADES = ("#e4e4e4", "#eaab6b", LIGHT, DARK)
PARTS = ("train", "inter", "intra")  # panels of these parts come first, in this order
# Column of the table of cycles -> its title for one value, and for several.
COLUMN_TITLES = {"label": ("class", "classes"), "event_type": ("event type", "event types")}
COLUMNS = 4  # panels beside each other
BINS = 50
INSIDE_SHARE = 75  # %: the count of a longer bar is in it


def database_figures(cycles: pd.DataFrame, spec: DatabaseSpec, title: str) -> dict[str, Figure]:
    """Draw all figures of the database `spec`, by name; `title` is above each.

    `cycles` has at least one row, and the columns patient, device, part, label, event_type and
    seconds. Figures by patient, part and event type are drawn if the database has these.
    """
    cycles = cycles.replace({"device": {"": "unknown device"}})
    labels, types = spec.label_sets["label"], spec.label_sets.get("event_type")
    figures = {
        "classes-by-device": classes_by(cycles, "device", labels, title),
        "durations-by-class": durations_by(cycles, "label", labels, title),
    }
    if (cycles["patient"] != "").all():
        figures["classes-by-patient"] = classes_by_patient(cycles, labels, title)
        figures["cycles-per-patient"] = cycles_per_patient(cycles, title)
    has_parts = (cycles["part"] != "").any()
    if has_parts:
        figures["classes-by-part"] = classes_by(cycles, "part", labels, title)
    if has_parts and types:
        figures["event-types-by-part"] = classes_by(cycles, "part", types, title, "event_type")
    if types:
        figures["durations-by-event-type"] = durations_by(cycles, "event_type", types, title)
    return figures


def classes_by(
    cycles: pd.DataFrame, group: str, labels: LabelSet, title: str, column: str = "label"
) -> Figure:
    """Draw share and number of cycles of each class, one panel per value of `group` (device, part).

    `column` has the classes `labels`. Shares make panels with different counts comparable.
    """
    found = cycles[group].unique()
    groups = [part for part in PARTS if part in found]
    groups += sorted(set(found) - set(groups))
    classes = list(labels.labels)
    columns = min(len(groups), COLUMNS)
    rows = -(-len(groups) // columns)
    height = rows * (0.36 * len(classes) + 1.1) + 0.5
    title = f"{title}: {COLUMN_TITLES[column][1]} by {group}"
    figure = new_figure(max(5.4, 2.9 * columns + 1.4), height, title)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, value in zip(panels, groups, strict=False):
        chosen = cycles[cycles[group] == value]
        counts = chosen[column].value_counts().reindex(classes, fill_value=0)
        shares = 100 * counts / len(chosen)
        panel.barh(classes, shares, color=DARK, height=0.7)
        for place, (count, share) in enumerate(zip(counts, shares, strict=True)):
            look = {"ha": "right", "color": "white"} if share > INSIDE_SHARE else {"ha": "left"}
            end = share - 2 if share > INSIDE_SHARE else share + 2
            panel.text(end, place, str(count), va="center", fontsize=9, **look)
        patients = _pluralize(chosen["patient"].nunique(), "patient")
        of = f" of {patients}" if (chosen["patient"] != "").all() else ""
        panel.set_title(f"{value}: {_pluralize(len(chosen), 'cycle')}{of}", fontsize=9)
        panel.tick_params(labelbottom=True)  # also above a hidden panel
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
    panels[0].invert_yaxis()
    panels[0].set(xlim=(0, 100), xticks=range(0, 101, 25))
    for panel in panels[len(groups) :]:
        panel.set_visible(False)
    figure.supxlabel("share of the panel's cycles (%), and their number", fontsize=10)
    figure.supylabel(COLUMN_TITLES[column][0], fontsize=10)
    return figure


def classes_by_patient(cycles: pd.DataFrame, labels: LabelSet, title: str) -> Figure:
    """Draw one bar per patient, most cycles first: numbers by class above, their shares below."""
    counts = pd.crosstab(cycles["patient"], cycles["label"])
    counts = counts.reindex(columns=list(labels.labels), fill_value=0)
    counts["all"] = counts.sum(axis=1)
    counts = counts.sort_values(["all", labels.normal], ascending=False, kind="stable")
    totals = counts.pop("all")
    figure = new_figure(9.0, 5.6, f"{title}: classes by patient")
    upper, lower = figure.subplots(2, 1, sharex=True)
    _plot_stacked(upper, counts)
    _plot_stacked(lower, 100 * counts.div(totals, axis=0))
    upper.set_ylabel("cycles")
    upper.yaxis.set_major_locator(MaxNLocator(integer=True))
    patients = f"{_pluralize(len(counts), 'patient')} with cycles, the one with most first"
    lower.set(ylabel="share of the patient's cycles (%)", xlabel=patients)
    lower.set(xlim=(0.5, len(counts) + 0.5), ylim=(0, 100))
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    names = upper.get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    return figure


def _plot_stacked(panel: Axes, heights: pd.DataFrame) -> None:
    """Draw bars without gaps, one per row of `heights`, its columns stacked."""
    edges = np.arange(len(heights) + 1) + 0.5
    tops = heights.cumsum(axis=1)
    for label, color in zip(heights, itertools.cycle(SHADES), strict=False):
        below = tops[label] - heights[label]
        panel.stairs(tops[label], edges, baseline=below, fill=True, color=color, label=str(label))


def cycles_per_patient(cycles: pd.DataFrame, title: str) -> Figure:
    """Draw a histogram of the number of cycles per patient, with its median."""
    counts = cycles["patient"].value_counts()
    figure = new_figure(7.0, 3.8, f"{title}: cycles per patient")
    panel = figure.subplots()
    # A whole-numbered bin width: otherwise bins would cover different numbers of integers.
    width = -(-int(counts.max()) // BINS)
    edges = np.arange(1, counts.max() + width + 1, width) - 0.5
    panel.hist(counts, edges.tolist(), color=DARK)
    _mark_median(panel, counts, f"median {counts.median():g} cycles, most {counts.max()}")
    panel.set_xlim(left=0)
    panel.set(xlabel="cycles of a patient", ylabel=f"patients (of {len(counts)} with cycles)")
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def durations_by(cycles: pd.DataFrame, column: str, labels: LabelSet, title: str) -> Figure:
    """Draw histograms of the cycles' lengths in seconds, one panel per class, on one time axis."""
    classes = [label for label in labels.labels if (cycles[column] == label).any()]
    edges = np.linspace(0, cycles["seconds"].max(), BINS + 1)
    title = f"{title}: durations of the cycles by {COLUMN_TITLES[column][0]}"
    figure = new_figure(7.0, 1.35 * len(classes) + 1.0, title)
    panels = figure.subplots(len(classes), 1, sharex=True, squeeze=False)[:, 0]
    for panel, label in zip(panels, classes, strict=True):
        seconds = cycles.loc[cycles[column] == label, "seconds"]
        panel.hist(seconds, edges.tolist(), color=DARK)
        count = _pluralize(len(seconds), "cycle")
        _mark_median(panel, seconds, f"{label}: {count}, median {seconds.median():.2f} s")
        panel.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3, min_n_ticks=1))
    panels[-1].set(xlim=(0, edges[-1]), xlabel="length of a cycle (s)")
    figure.supylabel("cycles", fontsize=10)
    return figure


def _mark_median(panel: Axes, values: pd.Series, text: str) -> None:
    # A white line below the black dashes makes them visible on dark bars.
    panel.axvline(values.median(), color="white", linewidth=2.2)
    panel.axvline(values.median(), color="black", linestyle="--", linewidth=1.2)
    panel.set_title(text, loc="right", fontsize=9)  # above the panel, where no bar can be


def _pluralize(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
