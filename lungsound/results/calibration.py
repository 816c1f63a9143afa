"""What a run's probabilities are worth: calibration and operating points, decided on validation."""

from math import isfinite
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lungsound.results.comparison import Answers, ensemble_answers
from lungsound.results.report import format_score, markdown_table
from lungsound.scoring.calibration import calibration_errors, fit_temperature, scale_temperature
from lungsound.scoring.operating import auc_interval, choose_thresholds, point_at

POINTS = {"best_score": "best score on validation", "specificity_90": "Sp ≥ 0.9 on validation"}


def calibration_summary(predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the ensemble's calibration on test, before and after one temperature.

    {temperature, before, after}: the temperature has the least NLL on validation, after averaging
    the members; the others are `calibration_errors`. Empty without validation or test cycles.
    """
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

    {auc, auc_interval ([low, high] by patient, or None), average_precision} on test, and `points`:
    for each of POINTS its threshold, chosen on validation, and specificity, sensitivity and score
    on test. Empty unless both sets have normal and abnormal cycles.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score  # slow to import

    validation, test = (ensemble_answers(predictions, name) for name in ("val", "test"))
    for answers in (validation, test):
        kinds = set(is_abnormal(answers).tolist())
        if kinds != {True, False}:
            return {}
    scores, abnormal = abnormal_scores(test), is_abnormal(test)
    interval = None
    if not test.interval_problem:
        interval = list(auc_interval(scores, abnormal, test.cycles["patient"].to_numpy()))
    points = {}
    thresholds = choose_thresholds(abnormal_scores(validation), is_abnormal(validation))
    for name, threshold in thresholds.items():
        point = point_at(scores, abnormal, threshold)
        points[name] = {**point._asdict(), "score": point.score}
    return {
        "auc": float(roc_auc_score(abnormal, scores)),
        "auc_interval": interval,
        "average_precision": float(average_precision_score(abnormal, scores)),
        "points": points,
    }


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
        rows = []
        for name in ("nll", "brier", "ece"):
            values = [format_score(calibration[part][name]) for part in ("before", "after")]
            rows.append([name.upper() if name != "brier" else "Brier", *values])
        after = f"after a temperature of {calibration['temperature']:.2f}, fitted on validation"
        parts += ["## Calibration (test, ensemble)", markdown_table(["", "as it is", after], rows)]
    if operating:
        interval, area = operating["auc_interval"], f"area under the ROC {operating['auc']:.3f}"
        if interval and isfinite(interval[0]):
            area += f" (95 % by patient: {interval[0]:.3f} to {interval[1]:.3f})"
        rows = []
        for name, point in operating["points"].items():
            shares = [point[part] for part in ("specificity", "sensitivity", "score")]
            cells = [f"{point['threshold']:.3f}", *map(format_score, shares)]
            rows.append([POINTS[name], *cells])
        head = ["threshold chosen for", "1 − p_normal", "Sp", "Se 2", "score 2"]
        precision = f"average precision {operating['average_precision']:.3f}"
        parts += [
            "## Abnormal against normal (test, ensemble)",
            f"By 1 − p_normal: {area}, {precision}.",
            markdown_table(head, rows),
        ]
    return parts
