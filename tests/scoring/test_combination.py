"""Ways to combine members, against numpy, scipy and choices that are known."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import gmean

from lungsound.scoring.combination import (
    disagreement,
    error_correlation,
    fit_weights,
    geometric_mean,
    greedy_selection,
    weighted_mean,
)

Floats = NDArray[np.float64]


def draw(seed: int = 0, members: int = 4, cycles: int = 300) -> tuple[Floats, NDArray[np.int64]]:
    """Members of different skill, of 3 classes."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, cycles)
    skill = np.linspace(0.3, 1.5, members)[:, None, None]
    logits = rng.normal(size=(members, cycles, 3)) + skill * np.eye(3)[truth]
    return softmax(logits, axis=2), truth


def accuracy(truth: NDArray[np.int64]) -> Callable[[Floats], float]:
    return lambda probabilities: float((probabilities.argmax(1) == truth).mean())


def test_diversity_pair_by_pair() -> None:
    members, truth = draw()
    predicted = members.argmax(2)
    for one, other in itertools.product(range(4), repeat=2):
        share = np.mean([a != b for a, b in zip(predicted[one], predicted[other], strict=True)])
        assert disagreement(members)[one, other] == pytest.approx(share)
        errors = [predicted[one] != truth, predicted[other] != truth]
        expected = np.corrcoef(errors)[0, 1]
        assert error_correlation(members, truth)[one, other] == pytest.approx(expected)
    perfect = np.stack([np.eye(3)[truth], members[0]])
    assert np.isnan(error_correlation(perfect, truth)[0]).all()


def test_geometric_mean_is_scipys_and_bears_a_zero() -> None:
    members, truth = draw()
    expected = gmean(members, axis=0)
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(geometric_mean(members), expected)
    members[0] = np.eye(3)[truth]
    assert np.isfinite(geometric_mean(members)).all()


def test_greedy_selection_finds_what_is_known() -> None:
    """Members 1 and 2 err on different halves and are sure where they are right; 0 always errs."""
    truth = np.array([0, 0, 1, 1])
    sure, unsure = [0.9, 0.1], [0.45, 0.55]
    first = np.array([sure, sure, [0.55, 0.45], [0.55, 0.45]])
    second = np.array([unsure, unsure, [0.1, 0.9], [0.1, 0.9]])
    members = np.stack([1 - np.eye(2)[truth], first, second])
    assert greedy_selection(members, accuracy(truth), rounds=6) == [1, 2]
    assert greedy_selection(members[:2], accuracy(truth), rounds=6) == [1]


def test_greedy_selection_takes_a_member_again_if_that_helps() -> None:
    """Each round is tried by hand; with this seed the best of three takes one member twice."""
    members, truth = draw(13)
    score = accuracy(truth)
    selected: list[int] = []
    for _ in range(3):
        options = [score(members[[*selected, one]].mean(0)) for one in range(4)]
        selected.append(int(np.argmax(options)))
    starts = [score(members[selected[:size]].mean(0)) for size in (1, 2, 3)]
    best = selected[: 1 + int(np.argmax(starts))]
    assert len(set(best)) < len(best)
    assert greedy_selection(members, score, rounds=3) == best


def test_weights_have_the_least_loss() -> None:
    members, truth = draw()
    of_truth = members[:, np.arange(300), truth]

    def loss(logits: Floats) -> float:
        return float(-np.log(softmax(logits) @ of_truth).mean())

    expected = softmax(minimize(loss, np.zeros(4), tol=1e-10).x)
    found = fit_weights(members, truth)
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert loss(np.log(found)) <= loss(np.log(expected)) + 1e-7


def test_weighted_mean_by_hand() -> None:
    members, _ = draw(members=2)
    expected = 0.25 * members[0] + 0.75 * members[1]
    np.testing.assert_allclose(weighted_mean(members, np.array([1.0, 3.0])), expected)
