"""Compute every score of a run from its predictions table (`predictions.parquet`) alone."""

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from lungsound.data.labels import LABEL_SETS, LabelSet
from lungsound.errors import DataError
from lungsound.results.predictions import predicted_label_set, probability_columns
from lungsound.scoring.probabilities import ensemble_probabilities
from lungsound.scoring.scores import (
    class_recalls,
    confusion_matrix,
    exact_score,
    fold_confusion,
    icbhi_scores,
    macro_f1,
    missing_classes,
    score_names,
)

SETS = ("val", "test")


class MemberProbabilities(NamedTuple):
    """The classes `truth` [n] of cycles, and the members' `probabilities` [M, n, K]."""

    truth: torch.Tensor
    probabilities: torch.Tensor

    def confusion(self, members: slice) -> torch.Tensor:
        """Return the counts [K, K] of the ensemble of `members`, indices from 0; rows: truth."""
        predicted = ensemble_probabilities(self.probabilities[members]).argmax(dim=1)
        return confusion_matrix(self.truth, predicted, self.probabilities.shape[2])


def summarize(predictions: pd.DataFrame) -> dict[str, Any]:
    """Score every member, the ensembles of the first m members and the best single member.

    `predictions` has one row per cycle and member, in any order. The result holds plain numbers,
    lists and strings; an undefined score (no cycle to count) is None:

    - `task`: the name of the label set; `labels`: its classes, the order of rows and columns.
    - `members`: [{member, val, test}], `ensemble`: [{members, val, test}] for m = 1 ... M; `val`
      and `test` are the scores of `icbhi_scores`.
    - `single`: {member, val, test} of the member with the best score on validation, the earliest on
      a tie. The score is that of the task's own classes. The test set has no part in the choice.
    - `confusion`: test, all members: ensemble_N for the task's N classes and each coarser set.
    - `recall`, `macro_f1`: test, all members: of each class, and the mean F1 over the classes.
    - `missing`: {val, test}: the classes without a cycle in that set.

    Raises DataError if a cycle lacks a member or has one twice, or if members disagree about its
    label.
    """
    labels, numbers = predicted_labels(predictions), member_numbers(predictions)
    sets = {}
    for name in SETS:
        rows = predictions[predictions["set"] == name]
        sets[name] = member_probabilities(rows, labels, numbers)

    def scores(members: slice) -> dict[str, Any]:
        return {name: defined(icbhi_scores(sets[name].confusion(members), labels)) for name in SETS}

    members = [{"member": n, **scores(slice(i, i + 1))} for i, n in enumerate(numbers)]
    ensemble = [{"members": m, **scores(slice(m))} for m in range(1, len(numbers) + 1)]
    everything = {name: sets[name].confusion(slice(None)) for name in SETS}
    confusion = {
        f"ensemble_{len(coarser)}": fold_confusion(everything["test"], labels, coarser).tolist()
        for coarser in labels.chain
    }
    return {
        "task": labels.name,
        "labels": list(labels.labels),
        "members": members,
        "ensemble": ensemble,
        "single": _best_single_member(members),
        "confusion": confusion,
        "recall": defined(class_recalls(everything["test"], labels)),
        "macro_f1": defined({"test": macro_f1(everything["test"])})["test"],
        "missing": {name: list(missing_classes(everything[name], labels)) for name in SETS},
    }


def predicted_labels(predictions: pd.DataFrame) -> LabelSet:
    """Return the label set of the predictions. Raises DataError if it is not registered."""
    labels = predicted_label_set(predictions.columns)
    if labels is None:
        known = " or ".join(" ".join(probability_columns(labels)) for labels in LABEL_SETS)
        columns = " ".join(map(str, predictions.columns))
        raise DataError(f"Expected the predictions to have the columns {known}, but got {columns}.")
    return labels


def member_numbers(predictions: pd.DataFrame) -> list[int]:
    """Return the numbers of the members, in order. Raises DataError if there is none."""
    members = sorted({int(member) for member in predictions["member"]})
    if not members:
        raise DataError("Expected at least one row of predictions, but got none.")
    return members


def member_probabilities(
    rows: pd.DataFrame, labels: LabelSet, members: list[int]
) -> MemberProbabilities:
    """Return the rows as tensors, in an order of cycles that does not depend on the rows' order.

    Raises DataError as `summarize`.
    """
    rows = rows.sort_values(["recording", "cycle", "member"], kind="stable")
    _check_members(rows, members)
    unknown = sorted(set(rows["label"]) - set(labels.labels))
    if unknown:
        raise DataError(
            f"Expected every label to be one of {', '.join(labels.labels)}, "
            f"but got {', '.join(map(str, unknown))}."
        )
    probabilities = rows[probability_columns(labels)].to_numpy(dtype=np.float64)
    if not np.isfinite(probabilities).all():
        raise DataError(
            "Expected every probability to be a number, but got some that are not: the network "
            "diverged."
        )
    number = {label: place for place, label in enumerate(labels.labels)}
    truth = rows["label"].map(number).to_numpy(dtype=np.int64)[:: len(members)]
    stacked = probabilities.reshape(-1, len(members), len(labels)).transpose(1, 0, 2)
    return MemberProbabilities(torch.from_numpy(truth.copy()), torch.from_numpy(stacked.copy()))


def _check_members(rows: pd.DataFrame, members: list[int]) -> None:
    """Raise DataError unless every cycle has each of the members once, with one label."""
    cycles = rows.groupby(["recording", "cycle"])
    twice = rows.duplicated(["recording", "cycle", "member"]).any()
    if twice or (cycles.size() != len(members)).any():
        raise DataError(
            f"Expected every cycle to have the members {members}, "
            "but some lack one or have one twice."
        )
    if (cycles["label"].nunique() != 1).any():
        raise DataError(
            f"Expected every cycle to have one label for the members {members}, but some have more."
        )


def defined(scores: dict[str, float]) -> dict[str, float | None]:
    """Replace NaN by None, which JSON has."""
    return {name: None if math.isnan(value) else value for name, value in scores.items()}


def _best_single_member(members: list[dict[str, Any]]) -> dict[str, Any]:
    name = score_names(members[0]["val"])[0]

    def exact_val_score(entry: dict[str, Any]) -> Fraction:
        score = entry["val"][name]
        return Fraction(-1) if score is None else exact_score(score)

    best = max(members, key=exact_val_score)  # max() keeps the first of equals
    return dict(best)
