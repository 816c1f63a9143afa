"""Compare the ensembles of finished runs on the same test cycles, from their predictions alone."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lungsound.data.labels import LabelSet
from lungsound.data.splits.patient import has_unknown_patients
from lungsound.errors import DataError
from lungsound.results.summary import member_numbers, member_probabilities, predicted_labels
from lungsound.scoring.bootstrap import (
    bootstrap_scores,
    interval_problem,
    patient_confusions,
    quantile_interval,
    scores_of_counts,
)
from lungsound.scoring.comparison import holm, mcnemar_p_value, permutation_p_value
from lungsound.scoring.probabilities import ensemble_probabilities


class Answers(NamedTuple):
    """What a run's ensemble answers for cycles [n], sorted by recording and cycle."""

    cycles: pd.DataFrame  # recording, cycle, patient, label
    probabilities: NDArray[np.float64]  # [n, K]
    labels: LabelSet

    def select(self, places: NDArray[np.int64]) -> "Answers":
        """Return the answers for some of the cycles."""
        return Answers(self.cycles.iloc[places], self.probabilities[places], self.labels)

    @property
    def predicted(self) -> NDArray[np.int64]:
        predicted: NDArray[np.int64] = self.probabilities.argmax(1)
        return predicted

    @property
    def truth(self) -> NDArray[np.int64]:
        number = {label: place for place, label in enumerate(self.labels.labels)}
        return np.array([number[label] for label in self.cycles["label"]], dtype=np.int64)

    @property
    def counts(self) -> NDArray[np.int64]:
        """The confusion matrix of each patient [G, K, K]."""
        patients = self.cycles["patient"].to_numpy(dtype=object)
        return patient_confusions(self.truth, self.predicted, patients, len(self.labels))

    def fold(self, score: str) -> "Answers":
        """Return the answers in the N classes of a `..._N` score, their own if it has none."""
        for coarser in self.labels.chain:
            if score.endswith(f"_{len(coarser)}"):
                fold = np.array(self.labels.fold_to(coarser))
                label = np.array(coarser.labels)[fold[self.truth]]
                answer = np.eye(len(coarser))[fold[self.predicted]]
                return Answers(self.cycles.assign(label=label), answer, coarser)
        return self

    def is_right(self, score: str) -> NDArray[np.bool_]:
        """Whether each cycle [n] is answered correctly, in the N classes of a `..._N` score."""
        folded = self.fold(score)
        right: NDArray[np.bool_] = folded.predicted == folded.truth
        return right

    def is_counted(self, score: str) -> NDArray[np.bool_]:
        """Whether the score counts each cycle [n]: specificity the normal ones, and so on."""
        is_normal: NDArray[np.bool_] = self.truth == self.labels.normal_index
        if score == "specificity":
            return is_normal
        return ~is_normal if score.startswith("sensitivity") else np.ones_like(is_normal)

    @property
    def interval_problem(self) -> str:
        """Why intervals by patient would mislead, or ""."""
        if has_unknown_patients(self.cycles):
            return "the patients are unknown"
        return interval_problem(self.counts, self.labels)


def ensemble_answers(predictions: pd.DataFrame, set_name: str = "test") -> Answers:
    """Return the ensemble's answers on a set. Raises DataError as `summarize`."""
    labels, numbers = predicted_labels(predictions), member_numbers(predictions)
    rows = predictions[predictions["set"] == set_name]
    members = member_probabilities(rows, labels, numbers).probabilities
    columns = ["recording", "cycle", "patient", "label"]
    cycles = rows.loc[rows["member"] == numbers[0], columns]
    cycles = cycles.sort_values(["recording", "cycle"], ignore_index=True)
    return Answers(cycles, ensemble_probabilities(members).numpy(), labels)


def join_answers(parts: Sequence[Answers]) -> Answers:
    """Join the answers of runs that test different cycles: the folds of a cross-validation.

    Raises DataError if two of them test the same cycle, or have other classes.
    """
    cycles = pd.concat([part.cycles for part in parts], ignore_index=True)
    if twice := int(cycles.duplicated(["recording", "cycle"]).sum()):
        raise DataError(
            f"expected runs that test different cycles, as of a sweep over split.fold alone, but "
            f"{twice} come twice"
        )
    if len({part.labels.labels for part in parts}) > 1:
        raise DataError("expected runs of one task, but their classes differ")
    cycles = cycles.sort_values(["recording", "cycle"])
    probabilities = np.concatenate([part.probabilities for part in parts])[cycles.index]
    return Answers(cycles.reset_index(drop=True), probabilities, parts[0].labels)


def compare_answers(runs: Mapping[str, Answers], score: str) -> tuple[pd.DataFrame, str]:
    """Compare each run but the first with the first one; return a table, and a note or "".

    Runs with different classes are compared in those of a score that all have, such as score_2;
    specificity is the same in all that a run's classes fold to.
    Columns: `run`, `score`, `low`, `high` (95 % interval by patient), and for all but the first
    `difference` to it, with `difference_low`, `difference_high`, the p values `permutation` (by
    patient), `holm` (adjusted for the number of comparisons) and `mcnemar` (by cycle, in the
    score's own classes). The note says why intervals would mislead; they are then NaN, and so are p
    values by patient if the patients are unknown, or one alone. Raises DataError if the runs do not
    test the same cycles with the same labels, or do not have the score.
    """
    if len({answers.labels.labels for answers in runs.values()}) > 1:
        coarsest = next(iter(runs.values())).labels.chain[-1]
        classes = f"score_{len(coarsest)}" if score == "specificity" else score
        runs = {name: answers.fold(classes) for name, answers in runs.items()}
    (first_name, first), *others = runs.items()
    for name, answers in others:
        _check_same_cycles(first_name, first, name, answers)
    problem = first.interval_problem
    base = bootstrap_scores(first.counts, first.labels)
    rows: list[dict[str, Any]] = []
    for name, answers in runs.items():
        scores = scores_of_counts(answers.counts.sum(0), answers.labels)
        if score not in scores:
            raise DataError(f"expected one of the scores {', '.join(scores)}, but got {score!r}")
        drawn = bootstrap_scores(answers.counts, answers.labels)[score]
        row: dict[str, Any] = {"run": name, "score": float(scores[score])}
        row |= _interval(drawn, "", problem)
        if rows:
            row["difference"] = row["score"] - rows[0]["score"]
            row |= _interval(drawn - base[score], "difference_", problem)
            counts = answers.counts, first.counts
            row["permutation"] = np.nan
            if not has_unknown_patients(first.cycles) and len(first.counts) > 1:
                row["permutation"] = permutation_p_value(*counts, first.labels, score)
            counted = first.is_counted(score)
            right = answers.is_right(score)[counted], first.is_right(score)[counted]
            row["mcnemar"] = mcnemar_p_value(*right)
        rows.append(row)
    table = pd.DataFrame(rows)
    if others:
        p_values = table["permutation"].iloc[1:]
        table["holm"] = np.nan if p_values.isna().any() else [np.nan, *holm(p_values.tolist())]
    return table, problem and f"no intervals: {problem}"


def _interval(drawn: NDArray[np.float64], prefix: str, problem: str) -> dict[str, float]:
    low, high = (np.nan, np.nan) if problem else quantile_interval(drawn)
    return {f"{prefix}low": low, f"{prefix}high": high}


def _check_same_cycles(first_name: str, first: Answers, name: str, other: Answers) -> None:
    if first.labels != other.labels:
        ours, theirs = (" ".join(one.labels.labels) for one in (first, other))
        raise DataError(f"{name}: expected the labels {ours}, as of {first_name}, but got {theirs}")
    if first.cycles.equals(other.cycles):
        return
    keys = ["recording", "cycle"]
    shared = len(first.cycles.merge(other.cycles, on=keys))
    raise DataError(
        f"{name}: expected the {len(first.cycles)} test cycles of {first_name}, but it has "
        f"{len(other.cycles)}, {shared} of them the same, or with other labels. Compare runs of "
        "one split"
    )
