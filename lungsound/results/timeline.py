"""Figures of one recording: its log-mel, and below it probabilities or annotated cycles."""

import itertools
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lungsound.data.sound import Sound
from lungsound.results.log_mels import COLORMAP, draw_log_mel, label_hertz
from lungsound.signal.features import Features
from lungsound.signal.spectrum import frame_count
from lungsound.signal.windows import cut_spans
from lungsound.storage.figures import new_figure

Floats = NDArray[np.floating]
MAX_COLUMNS = 2000  # of the log-mel: more than the figure has pixels
TITLE_WIDTH = 120  # characters
FAINT = 0.35  # of a cycle that is not chosen
PIECE_FRAMES = 1024  # or one column, if that has more
# In the labels' order; told apart by the color-blind (Okabe and Ito).
COLORS = ("#009e73", "#0072b2", "#d55e00", "#cc79a7", "#56b4e9", "#7f4f24", "#e69f00")
MEANING = "thick: the most probable class; band: ± the members' standard deviation"


class Cycle(NamedTuple):
    """An annotated cycle: its number in the annotation file, from 0, its times and class."""

    number: int
    start_seconds: float
    end_seconds: float
    label: str


def plot_timeline(
    log_mel: Floats,
    seconds: float,
    corner_hz: Floats,
    members: pd.DataFrame,
    table: pd.DataFrame,
    title: str,
) -> Figure:
    """Plot a recording's log-mel [n_mels, N], and below it the probabilities of its windows.

    `members` and `table` are of `Ensemble.predict_members` and `predict`, `corner_hz` are the
    corners of the bands. A class is a line of steps; of overlapping windows each ends in the middle
    of the overlap. A bar on top marks windows that the run's operating point calls abnormal.
    """
    lower = _log_mel_figure(log_mel, seconds, corner_hz, title, 1).axes[1]
    _draw_probabilities(lower, members)
    if "abnormal" in table and table["abnormal"].any():
        _mark_abnormal(lower, table)
    lower.set(ylabel="probability", ylim=(0, 1.06))
    lower.grid(axis="y", color="0.9")
    lower.set_axisbelow(True)
    return _add_legend(lower, MEANING)


def plot_attribution(
    log_mel: Floats,
    values: Floats,
    seconds: float,
    corner_hz: Floats,
    windows: pd.DataFrame,
    name: str,
) -> Figure:
    """Plot a recording's log-mel, and over it, in grey, what each of its values adds: [n_mels, N].

    `windows` is a table of `Ensemble.predict`, with the label that `values` speak of.
    """
    title = f"{name}: what speaks for the class of each window (red) and against it (blue)"
    upper, lower = _log_mel_figure(log_mel, seconds, corner_hz, title, 1).axes[:2]
    extent = (0.0, seconds, -0.5, len(values) - 0.5)
    drawing: dict[str, Any] = {"extent": extent, "origin": "lower", "aspect": "auto"}
    low, high = upper.images[0].get_clim()
    lower.imshow(log_mel, "Greys_r", vmin=low, vmax=high, alpha=0.6, **drawing)
    pooled = _pool_columns(values)
    limit = max(float(np.percentile(np.abs(pooled), 99.5)), 1e-12)
    opacity = np.clip(np.abs(pooled) / limit, 0, 1)
    scale = Normalize(-limit, limit)
    lower.imshow(pooled, "RdBu_r", scale, alpha=opacity, **drawing)
    label_hertz(lower, corner_hz)
    lower.set_ylabel("frequency (Hz)")
    figure = lower.figure.get_figure(root=True)
    assert figure is not None
    bar = figure.colorbar(ScalarMappable(scale, "RdBu_r"), ax=lower, pad=0.01)
    bar.set_label("added probability\n(per band and column)", fontsize=8)
    for _, window in windows.iterrows():
        lower.axvline(window["start_seconds"], color="black", linewidth=0.8, linestyle="--")
        middle = (window["start_seconds"] + window["end_seconds"]) / 2
        text = f"{window['label']} {window['p_' + window['label']]:.2f}"
        lower.text(
            middle, 1.01, text, ha="center", fontsize=8, transform=lower.get_xaxis_transform()
        )
    return figure


def _pool_columns(values: Floats) -> Floats:
    """Add up neighbouring columns until at most MAX_COLUMNS are left."""
    width = -(-values.shape[1] // MAX_COLUMNS)
    starts = np.arange(0, values.shape[1], width)
    return np.add.reduceat(values, starts, axis=1)


def plot_cycles(
    log_mel: Floats,
    seconds: float,
    corner_hz: Floats,
    cycles: Sequence[Cycle],
    labels: Sequence[str],
    chosen: int | None,
    title: str,
) -> Figure:
    """Plot a recording's log-mel [n_mels, N] with its annotated cycles below, and their numbers.

    `labels` are all classes, each with its color. The cycle numbered `chosen` is not faint.
    """
    upper, lower = _log_mel_figure(log_mel, seconds, corner_hz, title, 7).axes[:2]
    used = {cycle.label for cycle in cycles}
    for label, color in zip(labels, itertools.cycle(COLORS), strict=False):
        if label not in used:
            continue
        lower.fill_between([], [], color=color, alpha=FAINT, label=label)  # for the legend
        for cycle in cycles:
            if cycle.label == label:
                _draw_cycle(upper, lower, cycle, color, FAINT if cycle.number != chosen else 1)
    lower.set(yticks=[], ylabel="cycle", ylim=(0, 1))
    return _add_legend(lower, "as annotated" if used else "no cycle is annotated")


def _draw_cycle(upper: Axes, lower: Axes, cycle: Cycle, color: str, alpha: float) -> None:
    for edge in (cycle.start_seconds, cycle.end_seconds):
        upper.axvline(edge, color="white", linewidth=0.8, linestyle="--")
    lower.axvspan(
        cycle.start_seconds, cycle.end_seconds, facecolor=color, edgecolor="black", alpha=alpha
    )
    middle = (cycle.start_seconds + cycle.end_seconds) / 2
    lower.text(middle, 0.5, str(cycle.number), ha="center", va="center", fontsize=8)


def _log_mel_figure(
    log_mel: Floats, seconds: float, corner_hz: Floats, title: str, ratio: float
) -> Figure:
    """Return a figure with a log-mel, `ratio` times as high as the empty panel below it."""
    lines = "\n".join(textwrap.wrap(title, TITLE_WIDTH))
    figure = new_figure(11.0, 5.6, lines.replace("$", r"\$"))  # $ would begin a formula
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(ratio, 1))
    scale = Normalize(*np.percentile(log_mel, [1, 99.8]))
    draw_log_mel(upper, log_mel, seconds, scale)
    label_hertz(upper, corner_hz)
    upper.set_ylabel("frequency (Hz)")
    bar = figure.colorbar(ScalarMappable(scale, COLORMAP), ax=upper, pad=0.01)
    bar.set_label("log10 of the power density\n(full scale² / Hz)", fontsize=8)
    lower.set(xlabel="time (s)", xlim=(0, seconds))
    return figure


def _add_legend(panel: Axes, title: str) -> Figure:
    figure = panel.figure.get_figure(root=True)
    assert figure is not None
    legend: dict[str, Any] = {
        "ncols": len(COLORS),
        "frameon": False,
        "fontsize": 9,
        "title_fontsize": 9,
    }
    handles = panel.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", title=title, **legend)
    return figure


def _draw_probabilities(panel: Axes, members: pd.DataFrame) -> None:
    columns = [str(name) for name in members if str(name).startswith("p_")]
    values = members[columns].to_numpy().reshape(members["member"].max(), -1, len(columns))
    first = members[members["member"] == 1]
    order = np.argsort(first["start_seconds"].to_numpy(), kind="stable")
    spans = first[["start_seconds", "end_seconds"]].to_numpy()[order]
    edges, rows = step_edges(spans.tolist())
    # Between known cycles the row is -1: the NaN at the end.
    steps = np.append(values[:, order], np.full_like(values[:, :1], np.nan), axis=1)[:, rows]
    means, deviations = steps.mean(axis=0), steps.std(axis=0)
    winner = means.argmax(axis=1)
    for number, (column, color) in enumerate(zip(columns, itertools.cycle(COLORS), strict=False)):
        mean, deviation = means[:, number], deviations[:, number]
        low, high = mean - deviation, mean + deviation
        panel.stairs(high, edges, baseline=low, fill=True, color=color, alpha=0.25, linewidth=0)
        panel.stairs(mean, edges, baseline=None, color=color, label=column.removeprefix("p_"))
        best = np.where(winner == number, mean, np.nan)
        panel.stairs(best, edges, baseline=None, color=color, linewidth=3.5)


def _mark_abnormal(panel: Axes, table: pd.DataFrame) -> None:
    ordered = table.sort_values("start_seconds", kind="stable")
    times = zip(ordered["start_seconds"], ordered["end_seconds"], strict=True)
    edges, rows = step_edges(list(times))
    marked = np.append(ordered["abnormal"].to_numpy(), False)[rows]
    tops = np.where(marked, 1.05, np.nan)
    style: dict[str, Any] = {"color": "black", "linewidth": 0, "fill": True}
    panel.stairs(tops, edges, baseline=1.02, label="abnormal at the run's threshold", **style)


def step_edges(spans: Sequence[tuple[float, float]]) -> tuple[list[float], list[int]]:
    """Return the edges [m + 1] of steps, and each step's row in `spans` [m], -1 for a gap.

    `spans` are sorted by their start. A step ends in the middle of its overlap with the next one.

    >>> step_edges([(0, 3), (1, 4), (5, 6)])
    ([0, 2.0, 4, 5, 6], [0, 1, -1, 2])
    >>> step_edges([(0, 9), (2, 3), (9, 10)])
    ([0, 2.5, 3, 9, 10], [0, 1, -1, 2])
    """
    edges, rows = [spans[0][0]], list[int]()
    for row, (_, end) in enumerate(spans):
        following, following_end = spans[row + 1] if row + 1 < len(spans) else (end, end)
        edges.append((following + min(end, following_end)) / 2 if following < end else end)
        rows.append(row)
        if following > end:
            edges.append(following)
            rows.append(-1)
    return edges, rows


@torch.no_grad()
def recording_log_mel(sound: Sound, features: Features) -> Floats:
    """Return the log-mel [n_mels, N] of a whole recording, before the z-score.

    N is at most MAX_COLUMNS: frames of a long recording are averaged.
    """
    rate, hop, n_fft = features.sample_rate, features.hop, features.n_fft
    frames = frame_count(sound.samples_at(rate), n_fft, hop)
    if not frames:
        return np.full((len(features.mel_fbank), 1), np.log10(features.floor))
    pooled = -(-frames // MAX_COLUMNS)
    starts = range(0, frames, pooled * max(1, PIECE_FRAMES // pooled))
    ends = [*starts[1:], frames]
    spans = [(s * hop, (e - 1) * hop + n_fft) for s, e in zip(starts, ends, strict=True)]
    columns = []
    for piece in cut_spans(sound.blocks(rate), spans):
        waveform = torch.from_numpy(piece)[None].to(features.corner_hz.device)
        parts = torch.split(features.log_mel(waveform)[0], pooled, dim=1)
        columns += [part.mean(1) for part in parts]
    return torch.stack(columns, dim=1).cpu().numpy()
