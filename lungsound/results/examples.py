"""A figure of log-mels: each preprocessing stage of an example cycle per class."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from lungsound.signal.chunks import split_into_chunks
from lungsound.signal.copies import draw_roll, draw_warp
from lungsound.signal.features import Features
from lungsound.signal.segments import cut_segment, segment_count
from lungsound.signal.spectrum import frame_count
from lungsound.storage.figures import new_figure

Limits = tuple[float, float]
COLORMAP = "magma"  # lightness rises with the value, also when printed in grey
TICKS_HZ = (100, 250, 500, 1000, 2000, 4000, 7000)


def plot_preprocessing_examples(
    cycles: Mapping[str, NDArray[np.float32]],
    features: Features,
    segment_samples: int,
    padding: str,
    chunks: int,
    warp_limits: tuple[Limits, Limits] | None,
    roll: bool,
    seed: int,
    title: str,
) -> Figure:
    """Plot a row of log-mels per class: segment, padded, VTLP copy, rolled, cut into chunks.

    `cycles` has a waveform [n] at `features.sample_rate` per label; its first segment is plotted,
    in log10 of the density before the z-score, over seconds and hertz (mel-spaced), with one colour
    scale. `warp_limits` are the limits of alpha and F_hi (Hz). Without them there is no VTLP copy,
    without `roll` no rolled log-mel. Warp and roll are drawn from `seed`.
    """
    rows = [
        preprocessing_stages(
            waveform, place, features, segment_samples, padding, chunks, warp_limits, roll, seed
        )
        for place, waveform in enumerate(cycles.values())
    ]
    highest = max(float(log_mel.max()) for row in rows for _, log_mel in row if log_mel is not None)
    scale = Normalize(float(np.log10(features.floor)), highest)
    width, height = 13.0, 1.3 + 1.9 * len(rows)
    figure = new_figure(width, height, title)
    # Constrained layout is slow for so many panels: set margins in inches.
    figure.set_layout_engine("none")
    sides = {
        "left": 0.85 / width,
        "right": 1 - 1.1 / width,
        "bottom": 0.55 / height,
        "top": 1 - 0.7 / height,
    }
    panels = figure.subplots(
        len(rows),
        len(rows[0]),
        squeeze=False,
        sharex=True,
        sharey=True,
        gridspec_kw={**sides, "wspace": 0.13, "hspace": 0.25},
    )
    for label, row, line in zip(cycles, rows, panels, strict=True):
        for panel, (note, log_mel) in zip(line, row, strict=True):
            panel.set_title(note, fontsize=8)
            _draw(panel, log_mel, features, scale)
        _mark_chunks(line[-1], row[-1][1], chunks, features)
        line[0].set_ylabel(f"{label}\nfrequency (Hz)")
    _label_axes(panels, segment_samples / features.sample_rate, features)
    colorbar_axes = figure.add_axes(
        (1 - 0.95 / width, sides["bottom"], 0.18 / width, sides["top"] - sides["bottom"])
    )
    bar = figure.colorbar(ScalarMappable(scale, COLORMAP), cax=colorbar_axes)
    bar.set_label("log10 of the power density (full scale² / Hz)")
    return figure


def preprocessing_stages(
    waveform: NDArray[np.float32],
    place: int,
    features: Features,
    length: int,
    padding: str,
    chunks: int,
    warp_limits: tuple[Limits, Limits] | None,
    roll: bool,
    seed: int,
) -> list[tuple[str, Tensor | None]]:
    """Return (description, log-mel [n_mels, N] after it) of each stage, for the first segment.

    The first log-mel is None if the segment is shorter than one frame before padding. `place`, the
    cycle's number, seeds its draws.
    """
    rate, own = features.sample_rate, waveform[:length]
    segments = segment_count(len(waveform), length)
    padded = cut_segment(waveform, 0, length, padding)
    has_full_frame = frame_count(len(own), features.n_fft, features.hop) > 0
    log_mel = _log_mel(features, padded)
    stages: list[tuple[str, Tensor | None]] = [
        (
            f"segment 1 of {segments}, {len(own) / rate:.2f} s",
            _log_mel(features, own) if has_full_frame else None,
        ),
        (f"{padding} padding, {length / rate:g} s", log_mel),
    ]
    if warp_limits:
        alpha, f_hi = draw_warp(seed, place, 1, 0, *warp_limits)
        log_mel = _log_mel(features, padded, (alpha, f_hi))
        stages.append((f"VTLP copy, $\\alpha$ = {alpha:.2f}, $F_{{hi}}$ = {f_hi:.0f} Hz", log_mel))
    if roll:
        frames = draw_roll(seed, place, 1, 0, 0, log_mel.shape[-1])
        log_mel = log_mel.roll(frames, dims=-1)
        stages.append((f"rolled by {frames * features.hop / rate:.2f} s", log_mel))
    parts = split_into_chunks(log_mel[None], chunks)[0]  # [chunks, n_mels, n]
    name = f"{chunks} chunk{'s' * (chunks > 1)} of {parts.shape[-1]} frames"
    return [*stages, (name, torch.cat(list(parts), dim=-1))]


def _log_mel(
    features: Features, waveform: NDArray[np.float32], warp: tuple[float, float] | None = None
) -> Tensor:
    """Compute a waveform's log-mel [n_mels, N], on the CPU; `warp`: (alpha, F_hi in Hz)."""
    device = features.corner_hz.device
    batch = torch.from_numpy(np.array(waveform, dtype=np.float32))[None].to(device)
    alpha, f_hi = torch.tensor([warp], device=device).T if warp else (None, None)
    with torch.no_grad():
        return features.log_mel(batch, alpha, f_hi)[0].cpu()


def _draw(panel: Axes, log_mel: Tensor | None, features: Features, scale: Normalize) -> None:
    panel.set_facecolor("0.85")  # the background, visible if the log-mel is shorter
    if log_mel is None:
        panel.text(
            0.5,
            0.5,
            "shorter than one frame",
            ha="center",
            va="center",
            fontsize=8,
            transform=panel.transAxes,
        )
        return
    bands, frames = log_mel.shape
    extent = (0.0, frames * features.hop / features.sample_rate, -0.5, bands - 0.5)
    panel.imshow(log_mel.numpy(), origin="lower", aspect="auto", extent=extent, cmap=COLORMAP,
                 norm=scale, interpolation="nearest")  # fmt: skip


def _mark_chunks(panel: Axes, log_mel: Tensor | None, chunks: int, features: Features) -> None:
    if log_mel is None:
        return
    size = log_mel.shape[-1] // chunks
    for chunk in range(1, chunks):
        panel.axvline(
            chunk * size * features.hop / features.sample_rate, color="white", linewidth=1.2
        )


def _label_axes(panels: NDArray[Any], seconds: float, features: Features) -> None:
    """Label the axes in seconds and round hertz; the vertical coordinate is the band's number."""
    corners = features.corner_hz.cpu().numpy()
    inside = [tick for tick in TICKS_HZ if corners[1] <= tick <= corners[-2]]
    # Band i peaks at corner i + 1; between two corners the mel scale is nearly linear.
    places = np.interp(inside, corners, np.arange(len(corners)) - 1.0)
    first = panels[0, 0]
    first.set_xlim(0, seconds)
    first.set_ylim(-0.5, len(corners) - 2.5)
    first.set_yticks(places, [str(tick) for tick in inside])
    first.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    for panel in panels.flat:
        panel.tick_params(labelsize=7)
    for panel in panels[-1]:
        panel.set_xlabel("time (s)")
