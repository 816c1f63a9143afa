"""Vocal tract length perturbation (Jaitly & Hinton 2013), applied to the mel bank's corner
frequencies.
"""

import torch
from torch import Tensor

from lungsound.signal.mel import triangular_filters


def warp(frequencies: Tensor, alpha: Tensor, f_hi: Tensor, nyquist: float) -> Tensor:
    """The warped frequencies in Hz, for shapes that broadcast; `alpha` = 1 changes nothing, not
    even by rounding.

    f' = alpha f up to f = F_hi · min(alpha, 1) / alpha, and from there the straight line to
    (nyquist, nyquist): f' = S/2 - (S/2 - F_hi · min(alpha, 1)) / (S/2 - F_hi · min(alpha, 1) /
    alpha) · (S/2 - f), with S/2 = `nyquist` (Jaitly & Hinton 2013, section 3). Rises strictly while
    F_hi · min(alpha, 1) / alpha is below `nyquist`.
    """
    warped_boundary = f_hi * alpha.clamp(max=1)
    boundary = warped_boundary / alpha
    slope = (nyquist - warped_boundary) / (nyquist - boundary)
    # The line is written as slope · f + S/2 · (1 - slope): exactly f where the slope is 1.
    return torch.where(
        frequencies <= boundary, alpha * frequencies, slope * frequencies + nyquist * (1 - slope)
    )


def warped_mel_banks(
    corners: Tensor, alpha: Tensor, f_hi: Tensor, n_fft: int, sample_rate: int
) -> Tensor:
    """Mel banks [B, n_mels, n_fft // 2 + 1]: `corners` [n_mels + 2] in Hz warped by `alpha` [B],
    `f_hi` [B] in Hz.
    """
    return triangular_filters(
        warp(corners, alpha[:, None], f_hi[:, None], sample_rate / 2), n_fft, sample_rate
    )
