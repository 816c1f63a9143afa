"""Eq. 2 against its formula in float64, and its gradient against finite differences."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from lungsound.training.losses import focal_loss

GAMMAS = (0.0, 0.5, 1.0, 2.0)
Floats = NDArray[np.float64]


def formula(logits: Floats, target: NDArray[np.int64], gamma: float) -> float:
    """-(1 - p)^gamma log p, one item after the other, averaged."""
    losses = []
    for row, label in zip(logits.tolist(), target.tolist(), strict=True):
        others = sum(math.exp(logit - row[label]) for logit in row[:label] + row[label + 1 :])
        p = 1 / (1 + others)
        losses.append(-((others * p) ** gamma) * math.log(p))  # 1 - p is others · p
    return math.fsum(losses) / len(losses)


def items(classes: int, scale: float = 3.0) -> tuple[Floats, NDArray[np.int64]]:
    draws = np.random.default_rng(classes)
    return scale * draws.standard_normal((20, classes)), draws.integers(0, classes, 20)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("classes", [2, 4])
def test_the_value_is_the_formulas(classes: int, gamma: float) -> None:
    logits, target = items(classes)
    expected = formula(logits, target, gamma)
    exact = focal_loss(torch.tensor(logits), torch.tensor(target), gamma)
    assert exact.item() == pytest.approx(expected, rel=1e-12)
    single = focal_loss(torch.tensor(logits, dtype=torch.float32), torch.tensor(target), gamma)
    # float32 has 1.2e-7, and loses some to log softmax.
    assert single.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("classes", [2, 4])
def test_the_gradient_is_that_of_finite_differences(classes: int, gamma: float) -> None:
    logits, target = items(classes)
    variable = torch.tensor(logits, requires_grad=True)
    focal_loss(variable, torch.tensor(target), gamma).backward()
    step = 1e-5  # central differences: an error of step² beside rounding of 1e-16 / step
    expected = np.zeros_like(logits)
    for place in np.ndindex(*logits.shape):
        shift = np.zeros_like(logits)
        shift[place] = step
        above, below = (formula(moved, target, gamma) for moved in (logits + shift, logits - shift))
        expected[place] = (above - below) / (2 * step)
    np.testing.assert_allclose(variable.grad, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_gamma_0_is_the_cross_entropy_exactly(scale: float) -> None:
    logits, target = (torch.tensor(array) for array in items(4, scale))
    for logit, label in zip(logits.float().split(1), target.split(1), strict=True):
        ours, theirs = logit.clone().requires_grad_(), logit.clone().requires_grad_()
        loss, expected = focal_loss(ours, label, 0.0), cross_entropy(theirs, label)
        loss.backward()
        expected.backward()
        assert torch.equal(loss, expected)
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("size", [20.0, 200.0, 1e4, 1e30])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_value_and_gradient_at_the_ends_of_p(kind: torch.dtype, size: float, gamma: float) -> None:
    logits = torch.tensor([[size, -size, -size, -size]], dtype=kind)
    # p = 1; and p = 0, where (1 - p)^gamma is 1 and -log p the gap between the logits.
    for label, expected_loss, expected_gradient in (
        (0, 0.0, [0.0, 0.0, 0.0, 0.0]),
        (1, 2 * size, [1.0, -1.0, 0.0, 0.0]),
    ):
        variable = logits.clone().requires_grad_()
        loss = focal_loss(variable, torch.tensor([label]), gamma)
        loss.backward()
        assert loss.item() == pytest.approx(expected_loss, rel=1e-6, abs=1e-15)  # exp(-40) is 4e-18
        np.testing.assert_allclose(variable.grad[0], expected_gradient, rtol=0, atol=1e-6)
