"""Confusion matrix and ICBHI scores."""

from math import isnan, nan

import torch
from torch import Tensor

from lungsound.data.labels import LABELS, labels_of


def confusion_matrix(truth: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Counts [classes, classes], int64, of true class (row) and answer (column), both [n] int64 from 0.

    Raises ValueError for a class out of range.
    """
    for name, values in (("truth", truth), ("predicted", predicted)):
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < classes:
            raise ValueError(f"Expected `{name}` from 0 to {classes - 1}, but got {values.min()} to {values.max()}")
    return torch.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def icbhi_scores(confusion: Tensor) -> dict[str, float]:
    """The ICBHI scores of a confusion matrix [4, 4] (normal, crackle, wheeze, both) or [2, 2] (normal, abnormal).

    `specificity`: the share of normal cycles answered normal. `sensitivity_4`: of the abnormal cycles answered with
    their own class. `sensitivity_2`: of the abnormal cycles answered with any abnormal class. `score_4`, `score_2`:
    the mean of specificity and that sensitivity. `accuracy`: of all cycles answered rightly. Two classes have no
    `_4` scores. (Nguyen & Pernkopf 2020, section IV.A.)

    A missing class is left out: what it alone decides is nan, and a score is the defined one of its two halves.
    Raises ValueError for any other number of classes.
    """
    if confusion.shape not in ((4, 4), (2, 2)):
        raise ValueError(f"Expected a confusion matrix of 4 or 2 classes, but got the shape {tuple(confusion.shape)}")
    counts: list[list[int]] = confusion.tolist()
    normal, abnormal = counts[0], counts[1:]
    cycles = sum(map(sum, abnormal))
    own = sum(row[label] for label, row in enumerate(abnormal, start=1))
    specificity = _share(normal[0], sum(normal))
    sensitivity_4 = _share(own, cycles)
    sensitivity_2 = _share(cycles - sum(row[0] for row in abnormal), cycles)
    scores = {
        "specificity": specificity,
        "sensitivity_4": sensitivity_4,
        "sensitivity_2": sensitivity_2,
        "score_4": _score(specificity, sensitivity_4),
        "score_2": _score(specificity, sensitivity_2),
        "accuracy": _share(normal[0] + own, sum(normal) + cycles),
    }
    return {name: value for name, value in scores.items() if len(counts) == len(LABELS) or not name.endswith("_4")}


def missing_classes(confusion: Tensor) -> tuple[str, ...]:
    """The labels that no cycle of the confusion matrix [4, 4] or [2, 2] has."""
    labels = labels_of(len(confusion))
    return tuple(label for label, row in zip(labels, confusion.tolist(), strict=True) if not sum(row))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else nan


def _score(specificity: float, sensitivity: float) -> float:
    defined = [share for share in (specificity, sensitivity) if not isnan(share)]
    return sum(defined) / len(defined) if defined else nan
