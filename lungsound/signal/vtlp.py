"""Vocal tract length perturbation (VTLP) of mel banks' corners (Jaitly & Hinton 2013)."""

import torch
from torch import Tensor

from lungsound.signal.mel import triangular_filters


def warp(frequencies: Tensor, alpha: Tensor, f_hi: Tensor, nyquist: float) -> Tensor:
    """Warp frequencies in Hz (Jaitly & Hinton 2013, section 3); the shapes broadcast.

    f' = alpha · f up to the boundary F_hi · min(alpha, 1) / alpha; from there a straight line to
    (nyquist, nyquist): f' = S/2 - (S/2 - F_hi · min(alpha, 1)) / (S/2 - F_hi · min(alpha, 1) /
    alpha) · (S/2 - f), with S/2 = `nyquist`. Rises strictly if the boundary is below `nyquist`.
    `alpha` = 1 returns the same bits.

    Examples:
        >>> hz = torch.tensor([1000.0, 3000.0, 11000.0])
        >>> warp(hz, torch.tensor(1.1), torch.tensor(3300.0), nyquist=11000)
        tensor([ 1100.,  3300., 11000.])
    """
    warped_boundary = f_hi * alpha.clamp(max=1)
    boundary = warped_boundary / alpha
    slope = (nyquist - warped_boundary) / (nyquist - boundary)
    # The line as slope · f + S/2 · (1 - slope): exactly f if the slope is 1.
    line = slope * frequencies + nyquist * (1 - slope)
    return torch.where(frequencies <= boundary, alpha * frequencies, line)


def warped_mel_banks(
    corners: Tensor, alpha: Tensor, f_hi: Tensor, n_fft: int, sample_rate: int
) -> Tensor:
    """Return mel banks [B, n_mels, n_fft // 2 + 1] of corners [n_mels + 2] in Hz, warped per item.

    `alpha` [B] is the warp factor, `f_hi` [B] the boundary frequency in Hz.
    """
    warped = warp(corners, alpha[:, None], f_hi[:, None], sample_rate / 2)
    return triangular_filters(warped, n_fft, sample_rate)
