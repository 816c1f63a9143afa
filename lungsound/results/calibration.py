"""What a run's probabilities are worth: calibration and operating points, decided on validation."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lungsound.results.comparison import Answers, ensemble_answers
from lungsound.results.report import format_score, markdown_table
from lungsound.scoring.calibration import calibration_errors, fit_temperature, scale_temperature
from lungsound.scoring.operating import (
    auc_interval,
    average_precision_interval,
    choose_thresholds,
    point_at,
    point_intervals,
)

PARTS = ("before", "after")
POINTS = {"best_score": "best score on validation", "specificity_90": "Sp ≥ 0.9 on validation"}


def calibration_summary(predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the ensemble's calibration on test, before and after one temperature.

    {temperature, before, after}: the temperature has the least NLL on validation, after averaging
    the members; the others are `calibration_errors`. `members` has the same of each member alone.
    Empty without validation or test cycles.
    """
    whole = _calibration(predictions)
    if whole:
        by_member = [rows for _, rows in predictions.groupby("member")]
        whole["members"] = [_calibration(rows) for rows in by_member]
    return whole


def _calibration(predictions: pd.DataFrame) -> dict[str, Any]:
    validation, test = (ensemble_answers(predictions, name) for name in ("val", "test"))
    if not len(validation.cycles) or not len(test.cycles):
        return {}
    temperature = fit_temperature(validation.probabilities, validation.truth)
    scaled = scale_temperature(test.probabilities, temperature)
    return {
        "temperature": temperature,
        "before": calibration_errors(test.probabilities, test.truth),
        "after": calibration_errors(scaled, test.truth),
    }


def operating_summary(predictions: pd.DataFrame) -> dict[str, Any]:
    """Return how well the ensemble tells abnormal from normal cycles by p = 1 − p_normal.

    {auc, average_precision} on test with their `_interval` ([low, high] by patient, or None), and
    `points`: for each of POINTS its threshold, chosen on validation, specificity, sensitivity and
    score on test, and their `intervals` ({} or by name). Empty unless both sets have normal and
    abnormal cycles.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score  # slow to import

    thresholds, test = validation_thresholds(predictions), ensemble_answers(predictions)
    if not thresholds or not has_both_kinds(test):
        return {}
    scores, abnormal = abnormal_scores(test), is_abnormal(test)
    patients = test.cycles["patient"].to_numpy(dtype=object)
    has_intervals = not test.interval_problem
    intervals: list[list[float] | None] = [None, None]
    if has_intervals:
        both = (auc_interval, average_precision_interval)
        intervals = [list(interval(scores, abnormal, patients)) for interval in both]
    points = {}
    for name, threshold in thresholds.items():
        point = point_at(scores, abnormal, threshold)
        points[name] = {**point._asdict(), "score": point.score, "intervals": {}}
        if has_intervals:
            points[name]["intervals"] = point_intervals(scores, abnormal, patients, threshold)
    return {
        "auc": float(roc_auc_score(abnormal, scores)),
        "auc_interval": intervals[0],
        "average_precision": float(average_precision_score(abnormal, scores)),
        "average_precision_interval": intervals[1],
        "points": points,
    }


def validation_thresholds(predictions: pd.DataFrame) -> dict[str, float]:
    """Return the threshold of each of POINTS, chosen on validation; {} unless it has both kinds."""
    validation = ensemble_answers(predictions, "val")
    if not has_both_kinds(validation):
        return {}
    return choose_thresholds(abnormal_scores(validation), is_abnormal(validation))


def has_both_kinds(answers: Answers) -> bool:
    """Return whether there are normal and abnormal cycles."""
    return set(is_abnormal(answers).tolist()) == {True, False}


def abnormal_scores(answers: Answers) -> NDArray[np.float64]:
    """Return the probability [n] of each cycle that it is not normal."""
    return 1 - answers.probabilities[:, answers.labels.normal_index]


def is_abnormal(answers: Answers) -> NDArray[np.bool_]:
    """Return whether each cycle [n] is annotated as abnormal."""
    abnormal: NDArray[np.bool_] = answers.truth != answers.labels.normal_index
    return abnormal


def calibration_section(calibration: dict[str, Any], operating: dict[str, Any]) -> list[str]:
    """Return the parts of the report's section on probabilities and thresholds."""
    parts = []
    if calibration:
        systems = {"ensemble": calibration}
        systems |= {f"member {n}": one for n, one in enumerate(calibration["members"], start=1)}
        cells = []
        for name, errors in systems.items():
            values = [errors[part][one] for one in ("nll", "brier", "ece") for part in PARTS]
            cells.append([name, f"{errors['temperature']:.2f}", *map(format_score, values)])
        head = ["", "temperature", "NLL", "after", "Brier", "after", "ECE", "after"]
        parts += [
            "## Calibration (test; before and after a temperature fitted on validation)",
            markdown_table(head, cells),
        ]
    if operating:
        area = f"area under the ROC {operating['auc']:.3f}{_range(operating['auc_interval'])}"
        rows = []
        for name, point in operating["points"].items():
            shares = []
            for part in ("specificity", "sensitivity", "score"):
                interval = point["intervals"].get(part)
                shares.append(format_score(point[part]) + _range(interval))
            rows.append([POINTS[name], f"{point['threshold']:.3f}", *shares])
        head = ["threshold chosen for", "1 − p_normal", "Sp", "Se 2", "score 2"]
        precision = f"average precision {operating['average_precision']:.3f}"
        precision += _range(operating["average_precision_interval"])
        parts += [
            "## Abnormal against normal (test, ensemble)",
            f"By 1 − p_normal: {area}, {precision}. In brackets: 95 % by patient.",
            markdown_table(head, rows),
        ]
    return parts


def _range(interval: Sequence[float] | None) -> str:
    if not interval or not isfinite(interval[0]):
        return ""
    return f" ({interval[0]:.3f} to {interval[1]:.3f})"
