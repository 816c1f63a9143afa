"""The focal loss (Eq. 2)."""

import torch
from torch import Tensor


def focal_loss(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    """FL = −Σ (1 − p)^γ y log p over classes, averaged over items: Eq. 2 of Nguyen & Pernkopf
    (2020).

    Accepts logits of shape [B, K] and target classes [B]. With γ = 0 it is the cross entropy.
    Values and gradients are finite at p = 0 and at p = 1. First published by Lin et al. (2017).
    """
    log_p = torch.log_softmax(logits, dim=1).gather(1, target.unsqueeze(1)).squeeze(1)
    # 1 − p without cancellation; the clamp keeps the gradient of x^γ finite at x = 0, where γ < 1
    # has none.
    one_minus_p = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny ** 0.5)
    return -(one_minus_p**gamma * log_p).mean()
