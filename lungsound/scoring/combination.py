"""Other ways to combine an ensemble's members, and how different the members are.

`members` are their probabilities [M, n, K] of n cycles, `truth` [n] the cycles' classes. What is
chosen is to be chosen on validation.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Classes = NDArray[np.integer]
Score = Callable[[Floats], float]  # of probabilities [n, K]
MIN_PROBABILITY = 1e-12
MAX_STEPS, TOLERANCE = 1000, 1e-9  # of `fit_weights`


def disagreement(members: Floats) -> Floats:
    """Return the share of cycles that each two members put into different classes: [M, M].

    >>> one, other = [[0.9, 0.1], [0.8, 0.2]], [[0.6, 0.4], [0.3, 0.7]]
    >>> disagreement(np.array([one, other])).tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """
    predicted = members.argmax(2)
    shares: Floats = (predicted[:, None] != predicted[None]).mean(2)
    return shares


def error_correlation(members: Floats, truth: Classes) -> Floats:
    """Return Pearson's correlation of each two members' errors, 1 for an error and else 0: [M, M].

    NaN for a member that always errs, or never.
    """
    errors = (members.argmax(2) != truth).astype(np.float64)
    centred = errors - errors.mean(1, keepdims=True)
    deviation = np.sqrt((centred**2).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation: Floats = centred @ centred.T / np.outer(deviation, deviation)
    return correlation


def weighted_mean(members: Floats, weights: Floats) -> Floats:
    """Return the probabilities [n, K] of members with `weights` [M], which need not add up to 1."""
    mean: Floats = np.tensordot(weights / weights.sum(), members, 1)
    return mean


def geometric_mean(members: Floats) -> Floats:
    """Return the probabilities [n, K] that are proportional to the members' geometric mean."""
    logarithms = np.log(np.clip(members, MIN_PROBABILITY, 1)).mean(0)
    powers = np.exp(logarithms - logarithms.max(1, keepdims=True))
    normalized: Floats = powers / powers.sum(1, keepdims=True)
    return normalized


def greedy_selection(members: Floats, score: Score, rounds: int) -> list[int]:
    """Select members, from 0, one after the other and with replacement.

    Each round adds the one with which the mean of those selected scores best, the earliest of
    equals. The result is the shortest start of this sequence with the best score (Caruana et al.,
    ICML 2004).
    """
    total, selected, scores = np.zeros(members.shape[1:]), list[int](), list[float]()
    for size in range(1, rounds + 1):
        candidates = [score((total + member) / size) for member in members]
        best = int(np.argmax(candidates))
        total = total + members[best]
        selected.append(best)
        scores.append(candidates[best])
    return selected[: 1 + int(np.argmax(scores))]


def fit_weights(members: Floats, truth: Classes) -> Floats:
    """Return the weights [M], adding up to 1, whose mean has the least NLL for the classes `truth`.

    By expectation maximization for the shares of a mixture: each step is a member's mean share of
    the true class's probability. The problem is convex (Smyth and Wolpert 1999: stacking).
    """
    of_truth = np.clip(members[:, np.arange(len(truth)), truth], MIN_PROBABILITY, 1)  # [M, n]
    weights = np.full(len(members), 1 / len(members))
    for _ in range(MAX_STEPS):
        shares = weights[:, None] * of_truth
        updated: Floats = (shares / shares.sum(0)).mean(1)
        if np.abs(updated - weights).max() < TOLERANCE:
            return updated
        weights = updated
    return weights
