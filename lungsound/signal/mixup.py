"""Mixup: items of a batch, mixed in pairs (Zhang et al. 2018)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lungsound.signal.rng import make_rng


def draw_mixup(
    seed: int, epoch: int, batch: int, items: int, alpha: float
) -> tuple[NDArray[np.int64], float]:
    """Draw each item's partner [items] in the batch, and the items' own share, of Beta(α, α)."""
    draws = make_rng(seed, "mixup", epoch, batch)
    return draws.permutation(items), float(draws.beta(alpha, alpha))


def mix(values: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """Mix the items of [B, ...]: `share` of each, the rest of its partner [B].

    Examples:
        >>> mix(torch.tensor([1.0, 5.0]), torch.tensor([1, 0]), torch.tensor(0.75))
        tensor([2., 4.])
    """
    return torch.lerp(values[partner], values, share)
