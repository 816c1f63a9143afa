"""A run's test scores for parts of its cycles, and for whole recordings and patients."""

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lungsound.data.splits.patient import has_unknown_patients
from lungsound.results.comparison import Answers, ensemble_answers
from lungsound.results.report import format_score, markdown_table
from lungsound.scoring.bootstrap import (
    MIN_PATIENTS,
    bootstrap_scores,
    quantile_interval,
    scores_of_counts,
)
from lungsound.scoring.operating import choose_thresholds, point_at
from lungsound.scoring.scores import score_names

COLUMNS = ("device", "location", "mode", "age_group", "sex", "diagnosis", "patient", "recording")
LISTED = COLUMNS[:-2]  # in the report; patients and recordings are too many
UNKNOWN = "unknown"
AGE_LIMITS, AGE_GROUPS = (0, 6, 12, 18, 65, np.inf), ("0-5", "6-11", "12-17", "18-64", "65+")
UNITS = ("recording", "patient")


def subgroup_rows(predictions: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the ensemble's test scores by each of COLUMNS that the predictions have.

    A row has `by` (the column), `group`, `cycles`, `patients` (None: unknown), `specificity`, the
    own `sensitivity` and `score` (None if undefined; the score needs both), the score's interval by
    patient `low`, `high`, or the reason why there is none in `problem`. Raises DataError as
    `summarize`.
    """
    answers = ensemble_answers(predictions)
    facts = _cycle_facts(predictions, answers)
    return [row for name in COLUMNS if name in facts for row in _rows_by(name, facts, answers)]


def _cycle_facts(predictions: pd.DataFrame, answers: Answers) -> pd.DataFrame:
    """Return the columns of the test cycles [n] that are in COLUMNS, in the order of `answers`."""
    tested = predictions[predictions["set"] == "test"]  # `lungsound score` may have them twice
    first = tested[tested["member"] == tested["member"].min()]
    facts = answers.cycles[["recording", "cycle"]].merge(first, how="left")
    if "age" in facts:
        facts["age_group"] = pd.cut(facts["age"], AGE_LIMITS, right=False, labels=AGE_GROUPS)
    columns = [name for name in COLUMNS if name in facts]
    return facts[columns].astype("str").fillna(UNKNOWN).replace("", UNKNOWN)


def _rows_by(name: str, facts: pd.DataFrame, answers: Answers) -> Iterator[dict[str, Any]]:
    groups = {str(group): places for group, places in facts.groupby(name).indices.items()}
    order = [one for one in (*AGE_GROUPS, UNKNOWN) if one in groups]
    for group in order if name == "age_group" else sorted(groups):
        places = groups[group]
        part = answers.select(np.asarray(places, dtype=np.int64))
        scores = scores_of_counts(part.counts.sum(0), part.labels)
        own = score_names(scores)[0]
        sensitivity = own.replace("score", "sensitivity")
        values = [float(scores[score]) for score in ("specificity", sensitivity, own)]
        problem = part.interval_problem
        if not np.isfinite(values[:2]).all():
            values[2], problem = np.nan, problem or "normal or abnormal cycles alone"
        interval: tuple[float, float] = (np.nan, np.nan)
        if not problem:
            interval = quantile_interval(bootstrap_scores(part.counts, part.labels)[own])
        numbers = [_defined(value) for value in [*values, *interval]]
        row = {"by": name, "group": group, "cycles": len(places)}
        patients = part.cycles["patient"]
        row["patients"] = None if has_unknown_patients(part.cycles) else patients.nunique()
        names = ("specificity", "sensitivity", "score", "low", "high")
        yield row | dict(zip(names, numbers, strict=True)) | {"problem": problem}


def unit_rows(predictions: pd.DataFrame, leaks: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return how well whole recordings and patients are told apart, normal or abnormal.

    `leaks` is of `count_leakage`: if a unit of test is also in another set, test has a fragment of
    it, and that kind of unit has no row; nor have patients who are unknown.

    A unit is abnormal if one of its cycles is; its score is the mean of 1 − p_normal over its
    cycles. A row has `unit`, `units` (in test), `auc`, and `threshold` (of the best score on
    validation) with `specificity`, `sensitivity` and `score` on test. A unit for which one of the
    sets has only one kind has no row. Raises DataError as `summarize`.
    """
    from sklearn.metrics import roc_auc_score  # slow to import

    sets = [ensemble_answers(predictions, name) for name in ("val", "test")]
    rows = []
    for unit in UNITS:
        if leaks[f"{unit}s"] or (unit == "patient" and has_unknown_patients(sets[1].cycles)):
            continue
        (scores, abnormal), (test_scores, test_abnormal) = (_units(one, unit) for one in sets)
        if len(set(abnormal.tolist())) < 2 or len(set(test_abnormal.tolist())) < 2:
            continue
        threshold = choose_thresholds(scores, abnormal)["best_score"]
        point = point_at(test_scores, test_abnormal, threshold)
        auc = float(roc_auc_score(test_abnormal, test_scores))
        row = {"unit": unit, "units": len(test_scores), "auc": auc}
        rows.append(row | point._asdict() | {"score": point.score})
    return rows


def _units(answers: Answers, unit: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the score of each unit, and whether it is abnormal."""
    normal = answers.labels.normal_index
    cycles = pd.DataFrame(
        {
            "unit": answers.cycles[unit].to_numpy(),
            "score": 1 - answers.probabilities[:, normal],
            "abnormal": answers.truth != normal,
        }
    )
    units = cycles.groupby("unit").agg({"score": "mean", "abnormal": "any"})
    return units["score"].to_numpy(), units["abnormal"].to_numpy()


def subgroup_section(rows: list[dict[str, Any]], units: list[dict[str, Any]]) -> list[str]:
    """Return the parts of the report's section; patients and recordings only as units."""
    parts = []
    cells = []
    for row in rows:
        if row["by"] in LISTED:
            scores = [format_score(row[name]) for name in ("specificity", "sensitivity", "score")]
            interval = row["problem"] or f"{row['low']:.3f} to {row['high']:.3f}"
            patients = "-" if row["patients"] is None else str(row["patients"])
            numbers = [str(row["cycles"]), patients]
            cells.append([row["by"], row["group"], *numbers, *scores, interval])
    if cells:
        head = ["by", "group", "cycles", "patients", "Sp", "Se", "score", "95 % by patient"]
        few = f"A group of fewer than {MIN_PATIENTS} patients says little about others."
        parts += ["## Subgroups (test, ensemble, own classes)", markdown_table(head, cells), few]
    if units:
        names = ("auc", "threshold", "specificity", "sensitivity", "score")
        rows_of_units = [
            [row["unit"], str(row["units"]), *(format_score(row[name]) for name in names)]
            for row in units
        ]
        head = ["unit", "units", "AUC", "threshold", "Sp", "Se", "score"]
        parts += [
            "## Whole recordings and patients (test, ensemble, abnormal if a cycle is)",
            markdown_table(head, rows_of_units),
            f"Fewer than {MIN_PATIENTS} units say little about others.",
        ]
    return parts


def _defined(value: float) -> float | None:
    return value if isfinite(value) else None
