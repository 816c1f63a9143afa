"""One page of log-mels: a cycle of each class after each stage of preprocessing."""

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

from lungsound.results.log_mels import COLORMAP, draw_log_mel, label_hertz
from lungsound.signal.chunks import split_into_chunks
from lungsound.signal.copies import draw_roll, draw_warp
from lungsound.signal.features import Features
from lungsound.signal.segments import SegmentSpec, cut_segment, segment_count
from lungsound.signal.spectrum import frame_count
from lungsound.storage.figures import new_figure
from lungsound.training.batches import Augmentation

SEAMS = (
    "Where a short cycle's padding begins, or the cycle starts again, an upright line is a seam of "
    "the padding, not a crackle."
)
Stage = tuple[str, Tensor]  # what was done, and the log-mel [n_mels, N] after it


def plot_preprocessing_examples(
    cycles: Mapping[str, NDArray[np.float32]],
    features: Features,
    segments: SegmentSpec,
    augmentation: Augmentation,
    seed: int,
    title: str,
) -> Figure:
    """Plot a row of log-mels per class: segment, padding, VTLP copy, roll and chunks.

    `cycles` has a waveform [n] at `features.sample_rate` for each label, of which the first segment
    is taken. Log-mels are in log10 density before the z-score, over seconds and hertz (mel-spaced),
    with one color scale for all. Warp and roll are drawn from `seed`, if they are in use.
    """
    rows = [
        preprocessing_stages(waveform, number, features, segments, augmentation, seed)
        for number, waveform in enumerate(cycles.values())
    ]
    highest = max(float(log_mel.max()) for row in rows for _, log_mel in row if log_mel.numel())
    scale = Normalize(float(np.log10(features.floor)), highest)
    # Margins in inches: a layout engine takes as long as the drawing for this many panels.
    width, height = 13.0, 1.6 + 1.9 * len(rows)
    left, right, bottom, top = 0.85 / width, 1 - 1.1 / width, 0.85 / height, 1 - 0.7 / height
    figure = new_figure(width, height, title)
    figure.set_layout_engine("none")
    grid = {"left": left, "right": right, "bottom": bottom, "top": top}
    grid |= {"wspace": 0.13, "hspace": 0.25}
    panels = figure.subplots(
        len(rows), len(rows[0]), squeeze=False, sharex=True, sharey=True, gridspec_kw=grid
    )
    for label, row, line in zip(cycles, rows, panels, strict=True):
        for panel, (note, log_mel) in zip(line, row, strict=True):
            panel.set_title(note, fontsize=8)
            _draw(panel, log_mel, features, scale)
        frames = row[-1][1].shape[-1] // segments.chunks
        for chunk in range(1, segments.chunks):
            seconds = chunk * frames * features.hop / features.sample_rate
            line[-1].axvline(seconds, color="white", linewidth=1.2)
        line[0].set_ylabel(f"{label}\nfrequency (Hz)")
    _label_axes(panels, segments.length / features.sample_rate, features)
    colorbar_axes = figure.add_axes((1 - 0.95 / width, bottom, 0.18 / width, top - bottom))
    figure.text(left, 0.15 / height, SEAMS, fontsize=9)
    bar = figure.colorbar(ScalarMappable(scale, COLORMAP), cax=colorbar_axes)
    bar.set_label("log10 of the power density (full scale² / Hz)")
    return figure


def preprocessing_stages(
    waveform: NDArray[np.float32],
    number: int,
    features: Features,
    segments: SegmentSpec,
    augmentation: Augmentation,
    seed: int,
) -> list[Stage]:
    """Return the stages of a cycle's first segment in the order of training.

    `number` separates the draws. The first log-mel is empty if the segment has not one whole frame
    before padding.
    """
    rate, length = features.sample_rate, segments.length
    own, padded = waveform[:length], cut_segment(waveform, 0, length, segments.padding)
    log_mel, first = _log_mel(features, padded), torch.empty(0, 0)
    if frame_count(len(own), features.n_fft, features.hop):
        first = _log_mel(features, own)
    count = segment_count(len(waveform), length)
    stages: list[Stage] = [
        (f"segment 1 of {count}, {len(own) / rate:.2f} s", first),
        (f"{segments.padding} padding, {length / rate:g} s", log_mel),
    ]
    if any(augmentation.vtlp_copies.values()):
        limits = augmentation.vtlp_alpha, augmentation.vtlp_f_hi
        alpha, f_hi = draw_warp(seed, number, 1, 0, *limits)
        log_mel = _log_mel(features, padded, (alpha, f_hi))
        stages.append((f"VTLP copy, $\\alpha$ = {alpha:.2f}, $F_{{hi}}$ = {f_hi:.0f} Hz", log_mel))
    if augmentation.roll:
        frames = draw_roll(seed, number, 1, 0, 0, log_mel.shape[-1])
        log_mel = log_mel.roll(frames, dims=-1)
        stages.append((f"rolled by {frames * features.hop / rate:.2f} s", log_mel))
    parts = split_into_chunks(log_mel[None], segments.chunks)[0]  # [chunks, n_mels, n]
    plural = "s" * (segments.chunks > 1)
    name = f"{segments.chunks} chunk{plural} of {parts.shape[-1]} frames"
    return [*stages, (name, torch.cat(list(parts), dim=-1))]


def _log_mel(
    features: Features, waveform: NDArray[np.float32], warp: tuple[float, float] | None = None
) -> Tensor:
    """Return the log-mel [n_mels, N] of a waveform [n]; `warp` is (alpha, F_hi in Hz)."""
    device = features.corner_hz.device
    batch = torch.from_numpy(np.array(waveform, dtype=np.float32))[None].to(device)
    alpha, f_hi = torch.tensor([warp], device=device).T if warp else (None, None)
    with torch.no_grad():
        return features.log_mel(batch, alpha, f_hi)[0].cpu()


def _draw(panel: Axes, log_mel: Tensor, features: Features, scale: Normalize) -> None:
    panel.set_facecolor("0.85")  # the background, visible if the log-mel is shorter
    if not log_mel.numel():
        text, center = "shorter than one frame", (0.5, 0.5)
        panel.annotate(text, center, xycoords="axes fraction", ha="center", va="center", fontsize=8)
        return
    seconds = log_mel.shape[1] * features.hop / features.sample_rate
    draw_log_mel(panel, log_mel.numpy(), seconds, scale)


def _label_axes(panels: NDArray[Any], seconds: float, features: Features) -> None:
    """Label seconds below and round hertz on the left."""
    first = panels[0, 0]
    first.set_xlim(0, seconds)
    label_hertz(first, features.corner_hz.cpu().numpy())
    first.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    for panel in panels.flat:
        panel.tick_params(labelsize=7)
    for panel in panels[-1]:
        panel.set_xlabel("time (s)")
