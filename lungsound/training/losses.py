"""The focal loss (Eq. 2), and the cross entropy to a teacher's probabilities."""

import torch
from torch import Tensor


def focal_loss(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    """Compute the mean over items of −(1 − p)^γ log p: Eq. 2 of Nguyen & Pernkopf (2020).

    p is the softmax probability of the target class, from logits [B, K] and target classes [B]
    int64. With γ = 0 it is the cross entropy. Values and gradients are finite at p = 0 and at
    p = 1. First published by Lin et al. (2017).

    Examples:
        >>> focal_loss(torch.zeros(1, 2), torch.tensor([0]), gamma=1)  # 0.5 · log 2
        tensor(0.3466)
    """
    log_p = torch.log_softmax(logits, dim=1).gather(1, target.unsqueeze(1)).squeeze(1)
    # 1 − p without cancellation; the clamp keeps the gradient of x^γ finite at x = 0 if γ < 1.
    one_minus_p = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny ** 0.5)
    return -(one_minus_p**gamma * log_p).mean()


def distillation_loss(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Compute the mean over items of −Σ q log p, from logits [B, K] and a teacher's q [B, K].

    Hinton, Vinyals and Dean (2015), at temperature 1.

    Examples:
        >>> distillation_loss(torch.zeros(1, 2), torch.tensor([[0.9, 0.1]]))  # log 2
        tensor(0.6931)
    """
    return -(probabilities * torch.log_softmax(logits, dim=1)).sum(1).mean()
