"""Triangular mel filter banks."""

import math

import numpy as np
import torch
from torch import Tensor


def mel_bank(n_mels: int, f_min: float, f_max: float, n_fft: int, sample_rate: int) -> Tensor:
    """Return a mel bank [n_mels, n_fft // 2 + 1]: HTK scale, peaks of 1, `f_min` to `f_max` Hz."""
    low, high = (2595 * math.log10(1 + f / 700) for f in (f_min, f_max))
    # In float32, unlike `mel_corners`: the bits of torchaudio.functional.melscale_fbanks.
    corners = 700 * (10 ** (torch.linspace(low, high, n_mels + 2) / 2595) - 1)
    return triangular_filters(corners, n_fft, sample_rate)


def mel_corners(n_mels: int, f_min: float, f_max: float) -> Tensor:
    """Return corner frequencies [n_mels + 2] in Hz, evenly spaced in 2595 · log10(1 + f / 700).

    Band i rises from corner i to its peak at corner i + 1 and falls to corner i + 2.

    Examples:
        >>> mel_corners(n_mels=2, f_min=0, f_max=1000).round().tolist()
        [0.0, 241.0, 565.0, 1000.0]
    """
    low, high = 2595 * np.log10(1 + np.array([f_min, f_max]) / 700)
    corners = 700 * (10 ** (np.linspace(low, high, n_mels + 2) / 2595) - 1)
    return torch.from_numpy(corners).float()


def triangular_filters(corners: Tensor, n_fft: int, sample_rate: int) -> Tensor:
    """Mel banks [..., n_mels, n_fft // 2 + 1] with rising corners [..., n_mels + 2] in Hz.

    The peaks are 1.

    Examples:
        >>> triangular_filters(torch.tensor([0.0, 2.0, 4.0]), n_fft=8, sample_rate=8)
        tensor([[0.0000, 0.5000, 1.0000, 0.5000, 0.0000]])
    """
    bins = torch.arange(n_fft // 2 + 1, dtype=corners.dtype, device=corners.device)
    bins = bins * (sample_rate / n_fft)
    left, peak, right = corners.unfold(-1, 3, 1).unsqueeze(-2).unbind(-1)
    rise = (bins - left) / (peak - left)
    fall = (right - bins) / (right - peak)
    return torch.minimum(rise, fall).clamp_(min=0)
