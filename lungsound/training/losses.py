"""The focal loss (Eq. 2)."""

import torch
from torch import Tensor


def focal_loss(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    """Mean over items of −Σ (1 − p)^γ y log p over classes: Eq. 2 of Nguyen & Pernkopf (2020).

    Takes logits [B, K] and target classes [B] int64, returns a scalar. With γ = 0 it is the cross
    entropy. Values and gradients are finite at p = 0 and at p = 1. First published by Lin et al.
    (2017).

    >>> focal_loss(torch.zeros(1, 2), torch.tensor([0]), gamma=1)  # 0.5 · log 2
    tensor(0.3466)
    """
    log_p = torch.log_softmax(logits, dim=1).gather(1, target.unsqueeze(1)).squeeze(1)
    # 1 − p without cancellation; the clamp keeps the gradient of x^γ finite at x = 0 if γ < 1.
    one_minus_p = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny ** 0.5)
    return -(one_minus_p**gamma * log_p).mean()
