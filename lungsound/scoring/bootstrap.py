"""Uncertainty of scores by patients, whose cycles depend on each other.

Counts are confusion matrices per patient [G, K, K]: all that scores, and whole patients drawn again
with replacement (cluster bootstrap: Davison and Hinkley 1997, section 3.8), need.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lungsound.data.labels import LabelSet

Counts = NDArray[np.floating] | NDArray[np.integer]
Scores = dict[str, NDArray[np.float64]]
DRAWS, LEVEL, SEED = 2000, 0.95, 0
MIN_PATIENTS = 10


def patient_confusions(
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    patients: Sequence[object] | NDArray[np.object_],
    classes: int,
) -> NDArray[np.int64]:
    """Count true (rows) against predicted classes for each patient: [n], [n], [n] -> [G, K, K].

    >>> patient_confusions(np.array([0, 1, 1]), np.array([0, 1, 0]), ["a", "a", "b"], 2).tolist()
    [[[1, 0], [0, 1]], [[0, 0], [1, 0]]]
    """
    names, group = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    counts = np.zeros((len(names), classes, classes), dtype=np.int64)
    np.add.at(counts, (group, truth, predicted), 1)
    return counts


def scores_of_counts(counts: Counts, labels: LabelSet) -> Scores:
    """Compute the scores of confusion matrices [..., K, K]: as `icbhi_scores`, and `macro_f1`.

    The shares are NaN without a cycle. `macro_f1` is the mean over the classes that have a cycle.
    """
    counts = np.asarray(counts, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        normal_row = counts[..., labels.normal_index, :]
        normal, cycles = normal_row.sum(-1), counts.sum((-2, -1))
        scores = {"specificity": normal_row[..., labels.normal_index] / normal}
        for coarser in labels.chain:
            fold = np.eye(len(coarser))[list(labels.fold_to(coarser))]  # [K, C]
            diagonal = np.einsum("kc,...kl,lc->...c", fold, counts, fold)
            correct = diagonal.sum(-1) - diagonal[..., coarser.normal_index]
            sensitivity = correct / (cycles - normal)
            scores[f"sensitivity_{len(coarser)}"] = sensitivity
            both = np.stack([scores["specificity"], sensitivity])
            defined = np.isfinite(both)
            scores[f"score_{len(coarser)}"] = np.where(defined, both, 0).sum(0) / defined.sum(0)
        diagonal = np.diagonal(counts, axis1=-2, axis2=-1)
        truth = counts.sum(-1)
        f1 = 2 * diagonal / (truth + counts.sum(-2))
        scores["macro_f1"] = np.where(truth > 0, f1, 0).sum(-1) / (truth > 0).sum(-1)
    return scores


def draw_patients(counts: Counts, draws: int = DRAWS, seed: int = SEED) -> NDArray[np.float64]:
    """Sum the counts [..., G, K, K] over G patients drawn with replacement: [draws, ..., K, K].

    Equal seeds draw the same patients: differences between systems are paired.
    """
    patients, *shape = counts.shape[-3:]
    rng = np.random.default_rng(seed)
    times = rng.multinomial(patients, np.full(patients, 1 / patients), draws).astype(np.float64)
    flat = counts.reshape(*counts.shape[:-3], patients, -1)
    drawn = np.moveaxis(times @ flat, -2, 0)
    return drawn.reshape(draws, *counts.shape[:-3], *shape)


def bootstrap_scores(
    counts: Counts, labels: LabelSet, draws: int = DRAWS, seed: int = SEED
) -> Scores:
    """Return the scores [draws, ...] of counts [..., G, K, K] with patients drawn again.

    A score of which the draw lacks one half, although the counts have both, is NaN: the other half
    alone is another quantity.
    """
    scores = scores_of_counts(draw_patients(counts, draws, seed), labels)
    whole = scores_of_counts(counts.sum(-3), labels)
    for coarser in labels.chain:
        halves = ("specificity", f"sensitivity_{len(coarser)}")
        has_both = np.all([np.isfinite(whole[name]) for name in halves], axis=0)
        lacks_one = np.any([np.isnan(scores[name]) for name in halves], axis=0)
        scores[f"score_{len(coarser)}"][lacks_one & has_both] = np.nan
    return scores


def quantile_interval(draws: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of a score's draws [draws]: their 2.5 and 97.5 percentiles.

    Draws in which the score is undefined are left out; NaN if it is in all.
    """
    defined = draws[np.isfinite(draws)]
    if not len(defined):
        return np.nan, np.nan
    low, high = np.quantile(defined, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def quantile_intervals(values: Mapping[str, NDArray[np.float64]]) -> dict[str, tuple[float, float]]:
    """Return the `quantile_interval` of each score's draws [draws]."""
    return {name: quantile_interval(draws) for name, draws in values.items()}


def interval_problem(counts: Counts, labels: LabelSet) -> str:
    """Return why intervals by patient would mislead, "" if they are sound.

    `counts` [G, K, K]. Fewer than ten patients say little about others, and so does one patient
    about a class that no other has.
    """
    if len(counts) < MIN_PATIENTS:
        plural = "s" * (len(counts) != 1)
        return f"{len(counts)} patient{plural}, fewer than {MIN_PATIENTS}"
    having = (counts.sum(-1) > 0).sum(0)  # patients with a cycle of each class
    rare = [label for label, count in zip(labels.labels, having, strict=True) if count == 1]
    return f"one patient alone has the class {', '.join(rare)}" if rare else ""
