"""Abnormal against normal cycles: curves, the area under them, and thresholds.

The score of a cycle is the probability that it is not normal.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lungsound.data.labels import TWO_CLASS
from lungsound.scoring.bootstrap import (
    DRAWS,
    SEED,
    bootstrap_scores,
    patient_confusions,
    quantile_interval,
    quantile_intervals,
)

Floats = NDArray[np.float64]
MIN_SPECIFICITY = 0.9
BLOCK_DRAWS = 50


class OperatingPoint(NamedTuple):
    """A threshold, and what it gives: cycles with at least this probability are called abnormal."""

    threshold: float
    specificity: float
    sensitivity: float

    @property
    def score(self) -> float:
        return (self.specificity + self.sensitivity) / 2


def point_at(scores: Floats, is_abnormal: NDArray[np.bool_], threshold: float) -> OperatingPoint:
    """Return what a threshold gives on these cycles [n]; NaN for a share of no cycles.

    >>> point_at(np.array([0.1, 0.6, 0.9]), np.array([False, False, True]), threshold=0.5)
    OperatingPoint(threshold=0.5, specificity=0.5, sensitivity=1.0)
    """
    called = scores >= threshold
    with np.errstate(invalid="ignore"):
        specificity = np.float64((~called[~is_abnormal]).sum()) / (~is_abnormal).sum()
        sensitivity = np.float64(called[is_abnormal].sum()) / is_abnormal.sum()
    return OperatingPoint(threshold, float(specificity), float(sensitivity))


def choose_thresholds(scores: Floats, is_abnormal: NDArray[np.bool_]) -> dict[str, float]:
    """Return the thresholds for the `best_score`, and for a `specificity_90`, on these cycles.

    The first has the largest mean of specificity and sensitivity, the second the largest
    sensitivity with a specificity of at least 0.9, of several the most specific one. A threshold
    lies between two cycles' scores. Raises ValueError without cycles of both kinds.
    """
    if is_abnormal.all() or not is_abnormal.any():
        raise ValueError("Expected normal and abnormal cycles")
    values = np.unique(scores)
    thresholds = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2, [1.0 + 1e-9]])
    normal, abnormal = np.sort(scores[~is_abnormal]), np.sort(scores[is_abnormal])
    specificity = np.searchsorted(normal, thresholds, "left") / len(normal)
    sensitivity = 1 - np.searchsorted(abnormal, thresholds, "left") / len(abnormal)
    enough = np.where(specificity >= MIN_SPECIFICITY, sensitivity, -1.0)
    return {
        "best_score": float(thresholds[np.argmax(specificity + sensitivity)]),
        "specificity_90": float(thresholds[np.flatnonzero(enough == enough.max())[-1]]),
    }


def auc_interval(
    scores: Floats, is_abnormal: NDArray[np.bool_], patients: NDArray[np.object_]
) -> tuple[float, float]:
    """Return the 95 % interval of the area under the ROC by bootstrap over patients.

    The area is the share of pairs (abnormal, normal) in order, ties by half. Counted once for each
    pair of patients, it is a quadratic form in how often each patient is drawn.
    """
    names, group = np.unique(patients.astype(str), return_inverse=True)
    wins = np.zeros((len(names), len(names)))
    totals = np.zeros((2, len(names)))
    for place in range(len(names)):
        normal = np.sort(scores[(group == place) & ~is_abnormal])
        below = np.searchsorted(normal, scores[is_abnormal], "left")
        not_above = np.searchsorted(normal, scores[is_abnormal], "right")
        np.add.at(wins[:, place], group[is_abnormal], (below + not_above) / 2)
        totals[:, place] = len(normal), (group[is_abnormal] == place).sum()
    times = _draws(len(names))
    with np.errstate(invalid="ignore"):
        pairs = (times @ totals[0]) * (times @ totals[1])
        areas = ((times @ wins) * times).sum(1) / pairs
    return quantile_interval(areas)


def average_precision_interval(
    scores: Floats, is_abnormal: NDArray[np.bool_], patients: NDArray[np.object_]
) -> tuple[float, float]:
    """Return the 95 % interval of the average precision by bootstrap over patients.

    The average precision is Σ (R_k - R_{k-1}) · P_k over the thresholds, from the highest down;
    a cycle counts as often as its patient is drawn.
    """
    names, group = np.unique(patients.astype(str), return_inverse=True)
    order = np.argsort(-scores, kind="stable")
    is_last = np.append(np.diff(scores[order]) != 0, True)  # of cycles with one score
    areas = []
    for some in np.array_split(
        _draws(len(names)), DRAWS // BLOCK_DRAWS
    ):  # all need too much memory
        times = some[:, group[order]]
        called = times.cumsum(1)[:, is_last]
        found = (times * is_abnormal[order]).cumsum(1)[:, is_last]
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = np.diff(found / found[:, -1:], axis=1, prepend=0)
            areas.append((recall * np.where(called > 0, found / called, 0)).sum(1))
    return quantile_interval(np.concatenate(areas))


def point_intervals(
    scores: Floats, is_abnormal: NDArray[np.bool_], patients: NDArray[np.object_], threshold: float
) -> dict[str, tuple[float, float]]:
    """Return the 95 % intervals by patient of what a threshold gives: see `OperatingPoint`."""
    called = (scores >= threshold).astype(np.int64)
    counts = patient_confusions(is_abnormal.astype(np.int64), called, patients, len(TWO_CLASS))
    intervals = quantile_intervals(bootstrap_scores(counts, TWO_CLASS))
    names = {"specificity": "specificity", "sensitivity": "sensitivity_2", "score": "score_2"}
    return {name: intervals[column] for name, column in names.items()}


def _draws(patients: int) -> NDArray[np.int64]:
    """Return how often each patient is drawn [draws, patients]: as `draw_patients` has it."""
    rng = np.random.default_rng(SEED)
    return rng.multinomial(patients, np.full(patients, 1 / patients), DRAWS)
