"""Thresholds and areas, against scikit-learn and every threshold tried."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from lungsound.scoring.bootstrap import draw_patients
from lungsound.scoring.operating import (
    auc_interval,
    average_precision_interval,
    choose_thresholds,
    point_at,
    point_intervals,
)

RNG = np.random.default_rng(0)


def cycles(count: int = 300, patients: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties, kinds and patients, whose scores differ."""
    patient = RNG.integers(0, patients, count)
    is_abnormal = RNG.uniform(size=count) < 0.4
    skill = RNG.normal(1.0, 0.8, patients)[patient]
    scores = 1 / (1 + np.exp(-(skill * (2 * is_abnormal - 1) + RNG.normal(0, 1.5, count))))
    return scores.round(2), is_abnormal, patient.astype(str).astype(object)


def test_thresholds_are_the_best_of_all() -> None:
    scores, is_abnormal, _ = cycles()
    chosen = choose_thresholds(scores, is_abnormal)
    points = [point_at(scores, is_abnormal, value) for value in np.linspace(0, 1.01, 10_001)]
    best = point_at(scores, is_abnormal, chosen["best_score"])
    assert best.score == max(point.score for point in points)
    sure = point_at(scores, is_abnormal, chosen["specificity_90"])
    assert sure.specificity >= 0.9
    allowed = [point.sensitivity for point in points if point.specificity >= 0.9]
    assert sure.sensitivity == max(allowed) > 0.2


def test_of_equal_sensitivities_the_most_specific_is_taken() -> None:
    scores = np.concatenate([np.linspace(0, 0.5, 20), [0.9] * 5])
    is_abnormal = np.arange(25) >= 20
    chosen = choose_thresholds(scores, is_abnormal)["specificity_90"]
    assert point_at(scores, is_abnormal, chosen)[1:] == (1.0, 1.0)


def test_a_point_by_hand() -> None:
    scores, is_abnormal = np.array([0.1, 0.5, 0.5, 0.9]), np.array([False, False, True, True])
    point = point_at(scores, is_abnormal, 0.5)
    assert (point.specificity, point.sensitivity, point.score) == (0.5, 1.0, 0.75)
    assert np.isnan(point_at(scores[2:], is_abnormal[2:], 0.5).specificity)
    with pytest.raises(ValueError, match="normal and abnormal"):
        choose_thresholds(scores[2:], is_abnormal[2:])


def test_the_areas_interval_is_that_of_drawn_patients() -> None:
    scores, is_abnormal, patients = cycles()
    found = auc_interval(scores, is_abnormal, patients)
    rows = [np.flatnonzero(patients == name) for name in np.unique(patients)]
    rng, areas = np.random.default_rng(3), []
    for _ in range(1500):
        chosen = np.concatenate([rows[one] for one in rng.integers(0, len(rows), len(rows))])
        areas.append(roc_auc_score(is_abnormal[chosen], scores[chosen]))
    assert found == pytest.approx(np.quantile(areas, [0.025, 0.975]), abs=0.01)
    assert found[0] < roc_auc_score(is_abnormal, scores) < found[1]
    # The same draws as for other scores.
    ones = np.ones((len(rows), 1, 1))
    assert (draw_patients(ones) == len(rows)).all()


def test_average_precision_and_points_have_the_intervals_of_drawn_patients() -> None:
    scores, is_abnormal, patients = cycles()
    precision = average_precision_interval(scores, is_abnormal, patients)
    points = point_intervals(scores, is_abnormal, patients, 0.5)
    rows = [np.flatnonzero(patients == name) for name in np.unique(patients)]
    rng, drawn = np.random.default_rng(4), []
    for _ in range(1500):
        chosen = np.concatenate([rows[one] for one in rng.integers(0, len(rows), len(rows))])
        truth, values = is_abnormal[chosen], scores[chosen]
        called = values >= 0.5
        area = average_precision_score(truth, values)
        drawn.append([area, (~called[~truth]).mean(), called[truth].mean()])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    assert precision == pytest.approx((low[0], high[0]), abs=0.012)
    assert points["specificity"] == pytest.approx((low[1], high[1]), abs=0.012)
    assert points["sensitivity"] == pytest.approx((low[2], high[2]), abs=0.012)
    assert precision[0] < average_precision_score(is_abnormal, scores) < precision[1]
