"""The figures of a study. They are legible in greyscale."""

import re
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
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from matplotlib.transforms import ScaledTranslation

from lungsound.storage.figures import DARK, LIGHT, new_figure

PAPER_LABEL, PAPER_COLOR = "Nguyen & Pernkopf (2020)", "0.6"
SPREAD_LABEL = "± standard deviation over splits"
COLORS, LINES, MARKERS = (
    (DARK, LIGHT, "#7b3f8c", "#7fb8d4", "black"),
    ("-", "--", "-.", ":"),
    "os^Dv*X",
)
MAX_LEGEND_ENTRIES = 12  # with more learning curves a colour bar numbers them instead
SEGMENT = re.compile(r"^(?:(\d+)x)?(\d+(?:\.\d+)?)s$")


class Style(NamedTuple):
    """How a series is drawn."""

    color: str
    line: str
    marker: str
    shift: float = 0.0  # points to the right, so that error bars at one place stay apart


def score_against_members(
    table: pd.DataFrame, lines: Sequence[str], title: str, paper: pd.DataFrame | None = None
) -> Figure:
    """Plot score against number of members M: a panel per task, a line per combination of `lines`.

    `table` has one row per point: annealing.cycles, the columns named in `lines`, score_2, score_4
    unless all runs are two-class, and their deviations score_2_std, score_4_std, which are drawn if
    they are present and not NaN. `paper` has the columns cycles, score_2 and score_4.
    """
    groups = list(table.groupby(list(lines), sort=False, dropna=False)) if lines else [((), table)]
    figure, panels = _score_panels(table, title, "M: number of members")
    for score, panel in panels.items():
        for number, (values, rows) in enumerate(groups):
            name = ", ".join(f"{key}={value}" for key, value in zip(lines, values, strict=True))
            _draw_series(
                panel, rows, "annealing.cycles", score, _style(number), name or "this study"
            )
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
    (sample or zero) unless all runs share it, and the scores as in `score_against_members`. `paper`
    has the columns arrangement (zero, sample or sample_split),
    segment, score_2 and score_4.
    """
    figure, panels = _score_panels(table, title, "length of a whole segment (s)")
    for score, panel in panels.items():
        for padding, chunks, rows in _arrangements(table):
            _draw_series(panel, rows, "seconds", score, *_arrangement_style(padding, chunks))
        if paper is not None:
            padded = paper.assign(padding=paper["arrangement"].str.removesuffix("_split"))
            for padding, chunks, rows in _arrangements(padded):
                style, name = _arrangement_style(padding, chunks)
                _draw_series(
                    panel,
                    rows,
                    "seconds",
                    score,
                    style._replace(color=PAPER_COLOR),
                    f"{PAPER_LABEL}: {name}",
                )
    _add_legend(figure, list(panels.values()))
    return figure


def learning_curves(histories: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Plot validation score and loss over epochs for all runs of a study; a marker ends each run.

    `histories`: a run's name -> its history (columns epoch, val/loss, val/score_2 and, for four
    classes, val/score_4). The score is the 4-class one if every run has it. Shorter runs are drawn
    on top, because runs of one trajectory coincide.
    """
    tables = [
        (name, history.sort_values("epoch")) for name, history in histories.items() if len(history)
    ]
    score = "score_4" if all("val/score_4" in rows for _, rows in tables) else "score_2"
    longest = max((int(rows["epoch"].max()) for _, rows in tables), default=1)
    named = len(tables) <= MAX_LEGEND_ENTRIES
    # If some runs have the same length, a second marker tells them apart.
    ends_coincide = len({len(rows) for _, rows in tables}) < len(tables)
    shades = [to_hex(shade) for shade in colormaps["viridis"](np.linspace(0, 0.9, len(tables)))]
    figure, panels = _curve_panels(title, score, longest)
    for number, (name, rows) in enumerate(tables):
        style = _style(number) if named else Style(shades[number], "-", "o")
        midpoint_markers = (
            [int((number + 0.5) / len(tables) * len(rows))] if named and ends_coincide else []
        )
        for column, panel in panels.items():
            # Nothing is drawn for a run without this score.
            values = rows.reindex(columns=[column])[column].astype(float)
            panel.plot(
                rows["epoch"],
                values,
                style.line,
                color=style.color,
                marker=style.marker,
                label=name,
                linewidth=1.3 if named else 0.8,
                markersize=6 if named else 3,
                clip_on=False,
                markevery=[*midpoint_markers, len(rows) - 1],
                zorder=3 - len(rows) / longest,
            )
    _use_log_scale(panels["val/loss"])
    if named:
        _add_legend(figure, [panels["val/loss"]])
    else:
        _add_run_colorbar(figure, list(panels.values()), shades)
    return figure


def _curve_panels(title: str, score: str, last_epoch: int) -> tuple[Figure, dict[str, Axes]]:
    figure = new_figure(8.0, 6.0, title)
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.set_ylabel(f"validation: {score[-1]}-class ICBHI score")
    lower.set_ylabel("validation loss (log scale)")
    lower.set_xlabel("epoch")
    lower.set_xlim(0.5, last_epoch + 0.5)
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    return figure, {f"val/{score}": upper, "val/loss": lower}


def _score_panels(table: pd.DataFrame, title: str, x_label: str) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure, and a panel per score of the table: 4-class and 2-class, or only 2-class."""
    scores = (
        ["score_2"]
        if "score_4" not in table or table["score_4"].isna().all()
        else ["score_4", "score_2"]
    )
    figure = new_figure(5.0 * len(scores) + 0.4, 4.4, title)
    panels = dict(zip(scores, figure.subplots(1, len(scores), squeeze=False)[0], strict=True))
    for score, panel in panels.items():
        panel.set_xlabel(x_label)
        panel.set_ylabel(f"{score[-1]}-class ICBHI score")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.grid(axis="y", color="0.9")
    return figure, panels


def _style(number: int) -> Style:
    return Style(
        COLORS[number % len(COLORS)], LINES[number % len(LINES)], MARKERS[number % len(MARKERS)]
    )


def _draw_series(
    panel: Axes, rows: pd.DataFrame, place: str, score: str, style: Style, label: str
) -> None:
    """Draw a series, its standard deviation as a band, or as a bar at an isolated point."""
    rows = rows.sort_values(place)
    x, mean, std = rows.reindex(columns=[place, score, f"{score}_std"]).to_numpy(float).T
    if len(np.unique(x)) < len(x):
        raise ValueError(
            f"{label}: several rows at one {place}; their other keys need a line or a figure each"
        )
    where = panel.transData + ScaledTranslation(style.shift / 72, 0, panel.figure.dpi_scale_trans)
    from_paper = style.color == PAPER_COLOR
    panel.plot(
        x,
        mean,
        color=style.color,
        linestyle=style.line,
        marker=style.marker,
        markersize=5,
        markerfacecolor="white" if from_paper else style.color,
        linewidth=1.0 if from_paper else 1.5,
        transform=where,
        label=label,
        zorder=3,
    )
    known = np.isfinite(mean + std)
    spread = np.where(known, std, 0)
    panel.update_datalim(np.column_stack([np.tile(x, 2), np.append(mean - spread, mean + spread)]))
    neighbours = np.pad(known, 1)
    isolated = known & ((style.line == "none") | ~(neighbours[:-2] | neighbours[2:]))
    if (known & ~isolated).any():
        band: dict[str, Any] = {"alpha": 0.15, "linewidth": 0, "label": SPREAD_LABEL, "zorder": 1}
        panel.fill_between(
            x, mean - std, mean + std, where=known.tolist(), color=style.color, **band
        )
    if isolated.any():
        bars: dict[str, Any] = {
            "elinewidth": 0.8,
            "capsize": 2.5,
            "label": SPREAD_LABEL,
            "zorder": 2,
        }
        points = (x[isolated], mean[isolated], std[isolated])
        panel.errorbar(*points, fmt="none", ecolor=style.color, transform=where, **bars)


def _arrangements(table: pd.DataFrame) -> list[tuple[str, int, pd.DataFrame]]:
    """Return (padding, chunks, rows), unsplit first; padding is "" if the table has none."""
    parts = table["segment"].astype(str).str.extract(SEGMENT)
    parts, table = parts[parts[1].notna()], table[parts[1].notna()]
    chunks = parts[0].fillna("1").astype(int)
    padding = table["padding"] if "padding" in table else pd.Series("", index=table.index)
    groups = table.assign(seconds=chunks * parts[1].astype(float)).groupby([chunks, padding])
    return [(str(name), int(str(count)), rows) for (count, name), rows in groups]


def _arrangement_style(padding: str, chunks: int) -> tuple[Style, str]:
    if chunks == 1:
        style = Style(LIGHT, "--", "s") if padding == "zero" else Style(DARK, "-", "o")
        return style, f"{padding} padding" if padding else "not split"
    place = min(chunks, 5) - 2
    color, marker = (*COLORS[2:5], "0.4")[place], ("<p>X" if padding == "zero" else "^vDP")[place]
    shift = 5.0 * min(chunks - 1, 3) * (-1 if padding == "zero" else 1)
    return Style(color, "none", marker, shift), f"{padding}, {chunks} chunks".removeprefix(", ")


def _use_log_scale(panel: Axes) -> None:
    """Use a log scale: an early epoch's loss may be a hundred times the last one's."""
    panel.set_yscale("log")
    low, high = panel.get_ylim()
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 10 * low else MaxNLocator(6))
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.yaxis.set_minor_locator(NullLocator())


def _add_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """Add a legend below the panels, the paper's entries last; make the figure higher for it."""
    found = [
        pair for panel in panels for pair in zip(*panel.get_legend_handles_labels(), strict=True)
    ]
    handles = {label: handle for handle, label in reversed(found)}
    labels = sorted(
        reversed(handles), key=lambda label: (label.startswith(PAPER_LABEL), label == SPREAD_LABEL)
    )
    texts = [textwrap.fill(label, 80) for label in labels]
    # Find the fewest rows that fit; matplotlib fills columns as array_split does.
    for rows in range(1, len(texts) + 1):
        columns = -(-len(texts) // rows)
        parts = np.array_split(texts, columns)
        inches = sum(
            0.65 + 0.075 * max(len(line) for text in part for line in text.split("\n"))
            for part in parts
        )
        if inches <= figure.get_figwidth() or columns == 1:
            legend_lines = rows * max(text.count("\n") + 1 for text in texts)
            figure.set_figheight(figure.get_figheight() + 0.19 * legend_lines)
            shown = [handles[label] for label in labels]
            figure.legend(
                shown, texts, loc="outside lower center", ncols=columns, frameon=False, fontsize=9
            )
            return


def _add_run_colorbar(figure: Figure, panels: Sequence[Axes], shades: Sequence[str]) -> None:
    """Add a colour bar with the runs' numbers, for too many runs to name."""
    count = len(shades)
    colors = ScalarMappable(BoundaryNorm(np.arange(count + 1) + 0.5, count), ListedColormap(shades))
    bar = figure.colorbar(colors, ax=panels, label=f"{count} runs, in the study's order")
    bar.set_ticks(list(range(1, count + 1, 1 + count // 10)))
    bar.minorticks_off()
    bar.ax.invert_yaxis()
