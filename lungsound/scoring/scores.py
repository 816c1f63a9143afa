"""Confusion matrix and ICBHI scores."""

from math import isnan, nan

import torch
from torch import Tensor

from lungsound.data.labels import LABELS, SPRSOUND_TO_LABEL, class_labels

SCORE_NAMES = ("score_7", "score_4", "score_2")  # a model's own first
SPRSOUND_TO_ICBHI_CLASS = [LABELS.index(label) for label in SPRSOUND_TO_LABEL.values()]


def confusion_matrix(truth: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Counts [classes, classes], int64, of true class (row) and answer (column), both [n] int64
    from 0.

    Raises ValueError for a class out of range.
    """
    for name, values in (("truth", truth), ("predicted", predicted)):
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < classes:
            raise ValueError(
                f"Expected `{name}` from 0 to {classes - 1}, but got {values.min()} to {values.max()}"
            )
    return torch.bincount(truth * classes + predicted, minlength=classes**2).reshape(
        classes, classes
    )


def merge_to_four_classes(confusion: Tensor) -> Tensor:
    """The counts [4, 4] of a confusion matrix [7, 7] of SPRSound's event types, each taken as its
    label.
    """
    rows = torch.zeros(len(LABELS), len(SPRSOUND_TO_ICBHI_CLASS), dtype=confusion.dtype)
    fold = torch.tensor(SPRSOUND_TO_ICBHI_CLASS)
    return torch.zeros(len(LABELS), len(LABELS), dtype=confusion.dtype).index_add(
        1, fold, rows.index_add(0, fold, confusion.cpu())
    )


def merge_to_two_classes(confusion: Tensor) -> Tensor:
    """The counts [2, 2] of normal and abnormal of a confusion matrix [K, K] whose first class is
    normal.
    """
    columns = torch.stack([confusion[:, 0], confusion[:, 1:].sum(dim=1)], dim=1)
    return torch.stack([columns[0], columns[1:].sum(dim=0)])


def icbhi_scores(confusion: Tensor) -> dict[str, float]:
    """The ICBHI scores of a confusion matrix [4, 4] (normal, crackle, wheeze, both) or [2, 2]
    (normal, abnormal).

    `specificity`: the share of normal cycles answered normal. `sensitivity_4`: of the abnormal
    cycles answered with their own class. `sensitivity_2`: of the abnormal cycles answered with any
    abnormal class. `score_4`, `score_2`: the mean of specificity and that sensitivity. `accuracy`:
    of all cycles answered rightly. Two classes have no `_4` scores. (Nguyen & Pernkopf 2020,
    section IV.A.) A matrix [7, 7] of SPRSound's event types has `sensitivity_7` and `score_7`, too;
    its `_4` scores are those of the types' labels.

    A missing class is left out: what it alone decides is nan, and a score is the defined one of its
    two halves. Raises ValueError for any other number of classes.
    """
    sizes = [(n, n) for n in (7, 4, 2)]
    if tuple(confusion.shape) not in sizes:
        raise ValueError(
            f"Expected a confusion matrix of 7, 4 or 2 classes, but got {tuple(confusion.shape)}"
        )
    counts: list[list[int]] = confusion.tolist()
    normal, cycles = sum(counts[0]), sum(map(sum, counts[1:]))
    specificity = _ratio(counts[0][0], normal)
    sensitivities = {2: _ratio(cycles - sum(row[0] for row in counts[1:]), cycles)}
    for matrix in (
        (confusion, merge_to_four_classes(confusion)) if len(counts) == 7 else (confusion,)
    ):
        sensitivities[len(matrix)] = _ratio(int(matrix.diagonal()[1:].sum()), cycles)
    scores = {"specificity": specificity}
    for classes, sensitivity in sorted(sensitivities.items(), reverse=True):
        scores[f"sensitivity_{classes}"] = sensitivity
        scores[f"score_{classes}"] = _mean_defined(specificity, sensitivity)
    return {**scores, "accuracy": _ratio(int(confusion.diagonal().sum()), normal + cycles)}


def missing_classes(confusion: Tensor) -> tuple[str, ...]:
    """The labels that no cycle of the confusion matrix [4, 4] or [2, 2] has."""
    labels = class_labels(len(confusion))
    return tuple(
        label for label, row in zip(labels, confusion.tolist(), strict=True) if not sum(row)
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else nan


def _mean_defined(specificity: float, sensitivity: float) -> float:
    defined = [share for share in (specificity, sensitivity) if not isnan(share)]
    return sum(defined) / len(defined) if defined else nan
