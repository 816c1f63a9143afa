"""Confusion matrix and ICBHI scores."""

import re
from collections.abc import Iterable
from fractions import Fraction
from math import isnan, nan

import torch
from torch import Tensor

from lungsound.data.labels import LabelSet

SCORE_NAME = re.compile(r"(?:.*/)?score_(\d{1,9})", re.ASCII)


def confusion_matrix(truth: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Count true (rows) against predicted classes (columns): [n] and [n] -> [classes, classes].

    Classes are int64 from 0, and so are the counts. Raises ValueError for a class out of range.

    Examples:
        >>> confusion_matrix(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), classes=2)
        tensor([[1, 1],
                [0, 1]])
    """
    for name, values in (("truth", truth), ("predicted", predicted)):
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < classes:
            found = f"{values.min()} to {values.max()}"
            raise ValueError(f"Expected `{name}` from 0 to {classes - 1}, but got {found}")
    counts = torch.bincount(truth * classes + predicted, minlength=classes**2)
    return counts.reshape(classes, classes)


def fold_confusion(confusion: Tensor, labels: LabelSet, coarser: LabelSet) -> Tensor:
    """Merge the counts [K, K] of `labels` into the counts [C, C] of `coarser` classes.

    Examples:
        >>> from lungsound.data.labels import FOUR_CLASS, TWO_CLASS
        >>> fold_confusion(torch.ones(4, 4, dtype=torch.int64), FOUR_CLASS, TWO_CLASS)
        tensor([[1, 3],
                [3, 9]])
    """
    fold = torch.nn.functional.one_hot(torch.tensor(labels.fold_to(coarser)), len(coarser))
    fold = fold.to(confusion.dtype)
    return fold.T @ confusion @ fold


def icbhi_scores(confusion: Tensor, labels: LabelSet) -> dict[str, float]:
    """Compute the ICBHI scores of a confusion matrix [K, K] of the K classes `labels`.

    `specificity`: the share of normal cycles predicted as normal. `sensitivity_N`, for `labels` and
    for each set of N classes that they fold to: the share of abnormal cycles predicted as their own
    class of the N. `score_N`: the mean of specificity and that sensitivity. `accuracy`: the share
    of all cycles predicted correctly. (Nguyen & Pernkopf 2020, section IV.A: N = 4 and 2.)

    A share of no cycles is NaN; a score of which one half is NaN is the other half. Raises
    ValueError for a matrix of another size.

    Examples:
        >>> from lungsound.data.labels import TWO_CLASS
        >>> icbhi_scores(torch.tensor([[3, 1], [2, 2]]), TWO_CLASS)
        {'specificity': 0.75, 'sensitivity_2': 0.5, 'score_2': 0.625, 'accuracy': 0.625}
    """
    if tuple(confusion.shape) != (len(labels), len(labels)):
        classes, shape = f"{len(labels)} classes {', '.join(labels.labels)}", tuple(confusion.shape)
        raise ValueError(f"Expected a confusion matrix of the {classes}, but got {shape}")
    confusion = confusion.cpu()
    normal_row = confusion[labels.normal_index].tolist()
    normal, cycles = sum(normal_row), int(confusion.sum())
    specificity = _ratio(normal_row[labels.normal_index], normal)
    scores = {"specificity": specificity}
    for coarser in labels.chain:
        diagonal = fold_confusion(confusion, labels, coarser).diagonal()
        correct = int(diagonal.sum()) - int(diagonal[coarser.normal_index])
        sensitivity = _ratio(correct, cycles - normal)
        scores[f"sensitivity_{len(coarser)}"] = sensitivity
        scores[f"score_{len(coarser)}"] = _mean_defined(specificity, sensitivity)
    return {**scores, "accuracy": _ratio(int(confusion.diagonal().sum()), cycles)}


def class_recalls(confusion: Tensor, labels: LabelSet) -> dict[str, float]:
    """Return the share of each class's cycles, of [K, K], predicted as it; NaN without a cycle."""
    shares = confusion.diagonal().double() / confusion.sum(dim=1)
    return dict(zip(labels.labels, shares.tolist(), strict=True))


def macro_f1(confusion: Tensor) -> float:
    """Return the mean F1 over the classes of [K, K] that have a cycle; NaN if none has.

    >>> macro_f1(torch.tensor([[3, 1, 0], [1, 1, 0], [0, 0, 0]]))
    0.625
    """
    truth, predicted = confusion.sum(dim=1), confusion.sum(dim=0)
    f1 = 2 * confusion.diagonal().double() / (truth + predicted)
    return float(f1[truth > 0].mean())


def score_names(names: Iterable[object]) -> list[str]:
    """Select `score_N` and `val/score_N` from `names`, the largest N (the model's own) first."""
    matches = [match for name in names if (match := SCORE_NAME.fullmatch(str(name)))]
    matches.sort(key=lambda match: int(match[1]), reverse=True)
    return [match[0] for match in matches]


def exact_score(score: float) -> Fraction:
    """Return the ratio of counts that a score's float is rounded from: equal scores compare equal.

    Sp = 0.3 with Se = 0, and Sp = 0.1 with Se = 0.2, are one score; as floats they differ by 2e-17.
    Exact for the scores of up to 4,000 cycles. Raises ValueError for NaN.

    Examples:
        >>> (0.1 + 0.2) / 2 == (0.3 + 0) / 2
        False
        >>> exact_score((0.1 + 0.2) / 2) == exact_score((0.3 + 0) / 2)
        True
    """
    # With n normal and m abnormal cycles, scores are multiples of 1 / (2nm).
    return Fraction(score).limit_denominator(10**7)


def missing_classes(confusion: Tensor, labels: LabelSet) -> tuple[str, ...]:
    """Return the labels that no cycle of the confusion matrix [K, K] has."""
    counts = confusion.sum(dim=1).tolist()
    return tuple(label for label, count in zip(labels.labels, counts, strict=True) if not count)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else nan


def _mean_defined(specificity: float, sensitivity: float) -> float:
    defined = [share for share in (specificity, sensitivity) if not isnan(share)]
    return sum(defined) / len(defined) if defined else nan
