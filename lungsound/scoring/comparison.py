"""Whether one system is better than another on the same cycles, by patient."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from lungsound.data.labels import LabelSet
from lungsound.scoring.bootstrap import SEED, Counts, scores_of_counts

PERMUTATIONS = 10_000


def permutation_p_value(
    first: Counts, second: Counts, labels: LabelSet, score: str, seed: int = SEED
) -> float:
    """Return the two-sided p value of a score's difference between two systems.

    `first` and `second` are their counts per patient [G, K, K] on the same cycles. If neither is
    better, the two answers for a patient can be exchanged; p is the share of random exchanges,
    each patient with probability 1/2, whose difference is at least as large as the observed one,
    which counts as one of them (Phipson and Smyth 2010).
    """
    rng = np.random.default_rng(seed)
    exchanged = rng.integers(0, 2, (PERMUTATIONS, len(first))).astype(np.float64)
    flat_first, flat_second = (one.reshape(len(one), -1) for one in (first, second))
    change = exchanged @ (flat_second - flat_first)
    shape = (PERMUTATIONS, *first.shape[1:])
    ones = scores_of_counts((flat_first.sum(0) + change).reshape(shape), labels)[score]
    others = scores_of_counts((flat_second.sum(0) - change).reshape(shape), labels)[score]
    observed = _difference(first, second, labels, score)
    as_large = np.abs(ones - others) >= abs(observed) - 1e-12
    return float((1 + as_large.sum()) / (1 + PERMUTATIONS))


def mcnemar_p_value(first_correct: NDArray[np.bool_], second_correct: NDArray[np.bool_]) -> float:
    """Return the exact two-sided p value of McNemar's test (1947); 1 if both err on the same.

    Arguments [n]: whether each system answers a cycle correctly. It takes cycles as independent.
    """
    only_first = int((first_correct & ~second_correct).sum())
    only_second = int((second_correct & ~first_correct).sum())
    if only_first == only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values of several comparisons (Holm 1979).

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    lowest = 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        lowest = max(lowest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = lowest
    return adjusted


def _difference(first: Counts, second: Counts, labels: LabelSet, score: str) -> float:
    one, other = (scores_of_counts(counts.sum(0), labels)[score] for counts in (first, second))
    return float(one - other)
