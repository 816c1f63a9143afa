"""The figures of a study. They are legible in greyscale."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from lungsound.scoring.scores import score_names
from lungsound.storage.figures import DARK, LIGHT, new_figure, score_panels, use_log_scale
from lungsound.studies.tables import segment_lengths

PAPER_LABEL, PAPER_COLOR = "Nguyen & Pernkopf (2020)", "0.6"
SPREAD_LABEL = "bars: ± standard deviation over splits"
COLORS = (DARK, LIGHT, "#7b3f8c", "#7fb8d4", "black")
LINES, MARKERS = ("-", "--", "-.", ":"), "os^Dv*X"
MAX_LEGEND_ENTRIES = 12  # with more learning curves a colour bar numbers them instead


class Style(NamedTuple):
    """How a series is drawn."""

    color: str
    line: str
    marker: str
    shift: float = 0.0  # points to the right, so that error bars at one place stay apart


# Per padding: the line of unsplit segments, the markers of 2, 3, 4 and more chunks, their shift.
PADDING_STYLES = {
    "sample": (Style(DARK, "-", "o"), "^vDP", 5.0),
    "zero": (Style(LIGHT, "--", "s", -2.0), "<p>X", -5.0),
    "tile": (Style("#2e8b57", "-.", "*", 2.0), "h8dH", 3.5),
}
OTHER_PADDING_STYLE = (Style("black", ":", "x"), "1234", 2.5)


def score_against_members(
    table: pd.DataFrame, lines: Sequence[str], title: str, paper: pd.DataFrame | None = None
) -> Figure:
    """Plot score against number of members M: a panel per task, a line per combination of `lines`.

    `table` has one row per point: annealing.cycles, the columns named in `lines`, each score_N that
    some run has, and their deviations score_N_std, which are drawn as bars if they are present and
    not NaN. `paper` has the columns cycles, score_2 and score_4.
    """
    groups = list(table.groupby(list(lines), sort=False, dropna=False)) if lines else [((), table)]
    figure, panels = score_panels(_scores(table), title, "M: number of members")
    for score, panel in panels.items():
        for (values, rows), style in zip(groups, _styles(len(groups)), strict=True):
            name = ", ".join(f"{key}={value}" for key, value in zip(lines, values, strict=True))
            _draw_series(panel, rows, "annealing.cycles", score, style, name or "this study")
        if paper is not None:
            _draw_series(panel, paper, "cycles", score, Style(PAPER_COLOR, ":", "o"), PAPER_LABEL)
    _add_legend(figure, list(panels.values()))
    return figure


def score_against_length(
    table: pd.DataFrame, title: str, paper: pd.DataFrame | None = None
) -> Figure:
    """Plot score against the length of a whole segment (the paper's Table II), a panel per task.

    A line per padding for unsplit segments; points per number of chunks. `table` has one row per
    point: segment ("9s", or "2x4.5s" for 2 chunks of 4.5 s; other names are left out), padding
    unless all runs share it, and the scores as in `score_against_members`. `paper` has the columns
    arrangement (zero, sample or sample_split), segment, score_2 and score_4.
    """
    figure, panels = score_panels(_scores(table), title, "length of a whole segment (s)")
    for score, panel in panels.items():
        for style, name, rows in _arrangements(table):
            _draw_series(panel, rows, "seconds", score, style, name)
        if paper is not None:
            padded = paper.assign(padding=paper["arrangement"].str.removesuffix("_split"))
            for style, name, rows in _arrangements(padded):
                grey, label = style._replace(color=PAPER_COLOR), f"{PAPER_LABEL}: {name}"
                _draw_series(panel, rows, "seconds", score, grey, label)
    _add_legend(figure, list(panels.values()))
    return figure


def learning_curves(histories: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Plot validation score and loss over epochs, a curve per training; a marker ends each run.

    `histories`: a run's name -> its history (columns epoch, val/loss and each val/score_N). The
    score is that of the most classes that every run has. Runs that share a training path are one
    curve, with the name of the longest.
    """
    tables = {name: rows.sort_values("epoch") for name, rows in histories.items() if len(rows)}
    shared = set.intersection(*map(set, tables.values())) if tables else set()
    score = next(iter(score_names(shared)), "val/score_2")
    columns = ["epoch", "val/loss", score]
    for name, rows in tables.items():  # NaN if it has none
        tables[name] = rows.reindex(columns=columns).astype(float).reset_index(drop=True)
    paths = _training_paths(tables)
    longest = max((int(rows["epoch"].max()) for rows in tables.values()), default=1)
    named = len(paths) <= MAX_LEGEND_ENTRIES
    shades = [to_hex(shade) for shade in colormaps["viridis"](np.linspace(0, 0.9, len(paths)))]
    styles = _styles(len(paths)) if named else [Style(shade, "-", "o") for shade in shades]
    figure, panels = _curve_panels(title, score, longest)
    for number, (style, (name, ends)) in enumerate(zip(styles, paths.items(), strict=True)):
        rows, label, markers = tables[name], name, ends
        if len(ends) > 1:
            label = f"{name} (a marker ends each run)"
        elif named:  # a second marker, each at another epoch, distinguishes runs of one length
            markers = [int((number + 0.5) / len(paths) * len(rows)), *ends]
        options: dict[str, Any] = {"linewidth": 0.8, "markersize": 3}
        if named:
            options = {"linewidth": 1.3, "markersize": 6}
        options |= {"color": style.color, "linestyle": style.line, "marker": style.marker}
        options |= {"label": label, "markevery": markers, "zorder": 3 - len(rows) / longest}
        for column, panel in panels.items():
            panel.plot(rows["epoch"], rows[column], clip_on=False, **options)
    use_log_scale(panels["val/loss"])
    if named:
        _add_legend(figure, [panels["val/loss"]])
    else:
        _add_training_colorbar(figure, list(panels.values()), shades)
    return figure


def _training_paths(tables: Mapping[str, pd.DataFrame]) -> dict[str, list[int]]:
    """Return the longest run of each training path -> the last rows of all runs on it."""
    paths: dict[str, list[int]] = {}
    for name in sorted(tables, key=lambda name: len(tables[name]), reverse=True):
        rows = tables[name]
        same = (other for other in paths if rows.equals(tables[other].iloc[: len(rows)]))
        paths.setdefault(next(same, name), []).append(len(rows) - 1)
    return {name: sorted(set(paths[name])) for name in tables if name in paths}


def _curve_panels(title: str, score: str, last_epoch: int) -> tuple[Figure, dict[str, Axes]]:
    figure = new_figure(8.0, 6.0, title)
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.set_ylabel(f"validation: {score.rpartition('_')[2]}-class ICBHI score")
    lower.set_ylabel("validation loss (log scale)")
    lower.set_xlabel("epoch")
    lower.set_xlim(0.5, last_epoch + 0.5)
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    return figure, {score: upper, "val/loss": lower}


def _scores(table: pd.DataFrame) -> list[str]:
    return [name for name in score_names(table) if table[name].notna().any()] or ["score_2"]


def _styles(number: int) -> list[Style]:
    """Return a style per series, their bars beside each other."""
    endless = (itertools.cycle(values) for values in (COLORS, LINES, MARKERS))
    looks = itertools.islice(zip(*endless, strict=False), number)
    return [
        Style(color, line, marker, (i - (number - 1) / 2) * min(3, 12 / number))
        for i, (color, line, marker) in enumerate(looks)
    ]


def _draw_series(
    panel: Axes, rows: pd.DataFrame, place: str, score: str, style: Style, label: str
) -> None:
    """Draw a series, with a bar of one standard deviation to both sides of each mean."""
    rows = rows.sort_values(place)
    if rows[place].duplicated().any():
        raise ValueError(
            f"{label}: several rows at one {place}; their other keys need a line or a figure each"
        )
    x, mean, std = rows.reindex(columns=[place, score, f"{score}_std"]).to_numpy(float).T
    shift = ScaledTranslation(style.shift / 72, 0, panel.figure.dpi_scale_trans)
    from_paper = style.color == PAPER_COLOR
    panel.errorbar(
        x,
        mean,
        std if np.isfinite(std).any() else None,
        color=style.color,
        linestyle=style.line,
        marker=style.marker,
        markersize=5,
        markerfacecolor="white" if from_paper else style.color,
        linewidth=1.0 if from_paper else 1.5,
        elinewidth=0.8,
        capsize=2.5,
        transform=panel.transData + shift,
        label=label,
    )
    low, high = mean - np.nan_to_num(std), mean + np.nan_to_num(std)
    panel.update_datalim(np.column_stack([[*x, *x], [*low, *high]]))
    panel.autoscale_view()


def _arrangements(table: pd.DataFrame) -> list[tuple[Style, str, pd.DataFrame]]:
    """Return (style, name, rows) per padding and number of chunks, unsplit first."""
    table = table.join(segment_lengths(table["segment"])).dropna(subset="seconds")
    if "padding" not in table:
        table = table.assign(padding="")
    groups = table.groupby(["chunks", "padding"])
    return [(*_arrangement(str(name), int(str(chunks))), rows) for (chunks, name), rows in groups]


def _arrangement(padding: str, chunks: int) -> tuple[Style, str]:
    style, markers, shift = PADDING_STYLES.get(padding or "sample", OTHER_PADDING_STYLE)
    if chunks == 1:
        return style, f"{padding} padding" if padding else "not split"
    number = min(chunks, 5) - 2
    color, shift = (*COLORS[2:], "0.4")[number], shift * min(chunks - 1, 3)
    return Style(color, "none", markers[number], shift), f"{padding}, {chunks} chunks".lstrip(", ")


def _add_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """Add a legend below the panels, the paper's entries last; make the figure higher for it."""
    handles: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    labels = sorted(handles, key=lambda label: label.startswith(PAPER_LABEL))
    texts = [textwrap.fill(label, 80) for label in labels]
    lines = [line for text in texts for line in text.split("\n")]
    inches = 0.65 + 0.075 * max(map(len, lines), default=1)  # of a column
    columns = max(1, min(len(texts), int(figure.get_figwidth() / inches)))
    has_bars = any(getattr(one, "has_yerr", False) for panel in panels for one in panel.containers)
    style: dict[str, Any] = {"loc": "outside lower center", "frameon": False, "fontsize": 9}
    style |= {"title": SPREAD_LABEL if has_bars else None, "title_fontsize": 9}
    figure.set_figheight(figure.get_figheight() + 0.19 * (-(-len(lines) // columns) + has_bars))
    figure.legend([handles[label] for label in labels], texts, ncols=columns, **style)


def _add_training_colorbar(figure: Figure, panels: Sequence[Axes], shades: Sequence[str]) -> None:
    """Add a colour bar with the trainings' numbers, for too many to name."""
    count = len(shades)
    colors = ScalarMappable(BoundaryNorm(np.arange(count + 1) + 0.5, count), ListedColormap(shades))
    bar = figure.colorbar(colors, ax=panels, label=f"{count} trainings, in the study's order")
    bar.set_ticks(list(range(1, count + 1, 1 + count // 10)))
    bar.minorticks_off()
    bar.ax.invert_yaxis()
