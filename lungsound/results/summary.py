"""Compute every score of a run from its predictions table (`predictions.parquet`) alone."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from lungsound.data.labels import LABEL_SETS, LabelSet
from lungsound.errors import DataError
from lungsound.results.predictions import predicted_label_set, probability_columns
from lungsound.scoring.probabilities import ensemble_probabilities
from lungsound.scoring.scores import (
    confusion_matrix,
    exact_score,
    fold_confusion,
    icbhi_scores,
    missing_classes,
    score_names,
)

SETS = ("val", "test")


@dataclass(frozen=True)
class MemberProbabilities:
    """True classes `truth` [n], and `probabilities` [M, n, K] of the members in their order."""

    truth: torch.Tensor
    probabilities: torch.Tensor

    def confusion(self, members: slice) -> torch.Tensor:
        """Return the confusion matrix of the ensemble of `members`; rows are true classes."""
        predicted = ensemble_probabilities(self.probabilities[members]).argmax(dim=1)
        return confusion_matrix(self.truth, predicted, self.probabilities.shape[2])


def summarize(predictions: pd.DataFrame) -> dict[str, Any]:
    """Score every member, the ensembles of the first m members, and the best single member.

    `predictions` has one row per cycle and member, in any order. The result has plain numbers,
    lists and strings; a score that is undefined (no cycle to count) is None:

    - `task`: sprsound_seven, four_class or two_class; `labels`: the classes in the order of rows
      and columns.
    - `members`: [{member, val, test}], `ensemble`: [{members, val, test}] for m = 1 ... M; `val`
      and `test` are the scores of `icbhi_scores`.
    - `single`: {member, val, test} of the member with the best score on validation, the earliest on
      a tie. The score is the task's own: score_7, score_4 or score_2. Test does not influence it.
    - `confusion`: of all members on test: ensemble_7, ensemble_4, ensemble_2, as far as the task
      has them; rows are true classes.
    - `missing`: {val, test}: the classes without a cycle in that set.

    Raises DataError if a cycle lacks a member or has one twice, or members differ in its label.
    """
    labels = predicted_labels(predictions)
    votes = {
        name: member_probabilities(
            predictions[predictions["set"] == name], labels, member_numbers(predictions)
        )
        for name in SETS
    }
    members = [
        {
            "member": member,
            **{
                name: _json_scores(votes[name].confusion(slice(place, place + 1)), labels)
                for name in SETS
            },
        }
        for place, member in enumerate(member_numbers(predictions))
    ]
    ensemble = [
        {
            "members": m,
            **{name: _json_scores(votes[name].confusion(slice(0, m)), labels) for name in SETS},
        }
        for m in range(1, len(members) + 1)
    ]
    all_members = slice(None)
    return {
        "task": labels.name,
        "labels": list(labels.labels),
        "members": members,
        "ensemble": ensemble,
        "single": _best_single_member(members),
        "confusion": _confusions(votes["test"].confusion(all_members), labels),
        "missing": {
            name: list(missing_classes(votes[name].confusion(all_members), labels)) for name in SETS
        },
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
    """Return the numbers of the members. Raises DataError if there is none."""
    members = sorted({int(member) for member in predictions["member"]})
    if not members:
        raise DataError("Expected at least one row of predictions, but got none.")
    return members


def member_probabilities(
    rows: pd.DataFrame, labels: LabelSet, members: list[int]
) -> MemberProbabilities:
    """Return the rows as tensors, sorted by cycle. Raises DataError as `summarize` does."""
    rows = rows.sort_values(["recording", "cycle", "member"], kind="stable")
    if len(rows) % len(members):
        raise DataError(
            f"Expected every cycle to have the members {members}, "
            "but some lack one or have one twice."
        )
    shape = (-1, len(members))
    for column in ("recording", "cycle", "label"):
        values = rows[column].to_numpy(dtype=object).reshape(shape)
        if (values != values[:, :1]).any():
            raise DataError(
                f"Expected every cycle to have one {column} for the members {members}, "
                "but some have more."
            )
    if (rows["member"].to_numpy().reshape(shape) != np.array(members)).any():
        raise DataError(
            f"Expected every cycle to have the members {members}, "
            "but some lack one or have one twice."
        )
    unknown = sorted(set(rows["label"]) - set(labels.labels))
    if unknown:
        raise DataError(
            f"Expected every label to be one of {', '.join(labels.labels)}, "
            f"but got {', '.join(map(str, unknown))}."
        )
    number = {label: place for place, label in enumerate(labels.labels)}
    truth = rows["label"].map(number).to_numpy(dtype=np.int64).reshape(shape)[:, 0]
    probabilities = rows[probability_columns(labels)].to_numpy(dtype=np.float64)
    if not np.isfinite(probabilities).all():
        raise DataError(
            "Expected every probability to be a number, but got some that are not: "
            "the network diverged."
        )
    stacked = probabilities.reshape(-1, len(members), len(labels)).transpose(1, 0, 2)
    return MemberProbabilities(torch.from_numpy(truth.copy()), torch.from_numpy(stacked.copy()))


def _json_scores(confusion: torch.Tensor, labels: LabelSet) -> dict[str, float | None]:
    scores = icbhi_scores(confusion, labels)
    return {name: None if math.isnan(value) else value for name, value in scores.items()}


def _best_single_member(members: list[dict[str, Any]]) -> dict[str, Any]:
    name = score_names(members[0]["val"])[0]
    # An undefined score, None, is below all others. max() keeps the first of equals.
    exact = [
        -1 if entry["val"][name] is None else exact_score(entry["val"][name]) for entry in members
    ]
    return dict(members[exact.index(max(exact))])


def _confusions(confusion: torch.Tensor, labels: LabelSet) -> dict[str, list[list[int]]]:
    return {
        f"ensemble_{len(coarser)}": fold_confusion(confusion, labels, coarser).tolist()
        for coarser in labels.chain
    }
