"""SpecAugment's masks of log-mels, one along each axis (Park et al. 2019)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lungsound.signal.rng import make_rng


def draw_masks(
    seed: int, purpose: str, epoch: int, batch: int, items: int, widest: int, size: int
) -> NDArray[np.int64]:
    """Draw the first place and the one after the last, [items, 2], that a mask of an axis covers.

    A width from 0 to `widest`, then a start from 0 to `size` - width, both uniform. Raises
    ValueError if `widest` is above `size`.
    """
    draws = make_rng(seed, purpose, epoch, batch)
    width = draws.integers(0, widest, items, endpoint=True)
    start = draws.integers(0, size - width, endpoint=True)
    return np.stack([start, start + width], axis=1)


def mask_bands(log_mels: Tensor, bounds: Tensor) -> Tensor:
    """Set the bands from bounds[:, 0] to before bounds[:, 1] of each log-mel [B, F, N] to 0.

    0 is the mean of z-scored log-mels.

    Examples:
        >>> mask_bands(torch.ones(1, 4, 1), torch.tensor([[1, 3]])).flatten().tolist()
        [1.0, 0.0, 0.0, 1.0]
    """
    place = torch.arange(log_mels.shape[1], device=log_mels.device)
    masked = (place >= bounds[:, :1]) & (place < bounds[:, 1:])
    return log_mels.masked_fill(masked[:, :, None], 0.0)


def mask_frames(log_mels: Tensor, bounds: Tensor) -> Tensor:
    """Set frames to 0, as `mask_bands` does bands."""
    return mask_bands(log_mels.transpose(1, 2), bounds).transpose(1, 2)
