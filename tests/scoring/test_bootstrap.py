"""Intervals by patient, against scipy and known variances."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import f1_score

from lungsound.data.labels import FOUR_CLASS, TWO_CLASS
from lungsound.scoring.bootstrap import (
    bootstrap_scores,
    draw_patients,
    interval_problem,
    patient_confusions,
    quantile_intervals,
    scores_of_counts,
)
from lungsound.scoring.scores import icbhi_scores

Cycles = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def answers(classes: int, patients: int, cycles: int, seed: int) -> Cycles:
    """Truth, answers and patients; how often a patient's cycles are answered correctly differs."""
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, patients, cycles)
    truth = rng.integers(0, classes, cycles)
    skill = rng.uniform(0.3, 0.95, patients)[patient]
    wrong = (truth + rng.integers(1, classes, cycles)) % classes
    return truth, np.where(rng.uniform(size=cycles) < skill, truth, wrong), patient


def test_counts_are_scored_as_each_matrix_alone() -> None:
    truth, predicted, patients = answers(4, 12, 90, 0)
    counts = patient_confusions(truth, predicted, patients, 4)
    scores = scores_of_counts(counts, FOUR_CLASS)
    for number, patient in enumerate(sorted(set(map(str, patients)))):
        expected = icbhi_scores(torch.from_numpy(counts[number]), FOUR_CLASS)
        del expected["accuracy"]
        found = {name: values[number] for name, values in scores.items() if name != "macro_f1"}
        assert found == pytest.approx(expected, nan_ok=True)
        own = patients.astype(str) == patient
        f1 = f1_score(truth[own], predicted[own], average="macro", labels=np.unique(truth[own]))
        assert scores["macro_f1"][number] == pytest.approx(f1)
    assert np.isnan(scores_of_counts(np.zeros((2, 2)), TWO_CLASS)["score_2"])


def test_intervals_are_scipys() -> None:
    truth, predicted, patients = answers(2, 25, 400, 1)
    counts = patient_confusions(truth, predicted, patients, 2)
    drawn = scores_of_counts(draw_patients(counts, 20_000), TWO_CLASS)
    found = quantile_intervals(drawn)
    # Counts of each patient; scipy draws patients.
    normal, right = counts[:, 0].sum(1), counts[:, 0, 0]
    for name, parts in (
        ("specificity", (right, normal)),
        ("sensitivity_2", (counts[:, 1, 1], counts[:, 1].sum(1))),
    ):
        expected = stats.bootstrap(
            parts,
            lambda part, whole, axis: part.sum(axis) / whole.sum(axis),
            paired=True, vectorized=True, n_resamples=20_000, method="percentile",
            random_state=np.random.default_rng(5),
        ).confidence_interval  # fmt: skip
        assert found[name] == pytest.approx(tuple(expected), abs=0.004)
        assert expected.high - expected.low > 0.1


def test_the_spread_is_binomial_if_every_patient_has_one_cycle() -> None:
    truth = np.zeros(400, dtype=np.int64)
    predicted = (np.arange(400) < 80).astype(np.int64)  # a fifth is wrong
    counts = patient_confusions(truth, predicted, np.arange(400), 2)
    drawn = scores_of_counts(draw_patients(counts, 20_000), TWO_CLASS)["specificity"]
    assert drawn.std() == pytest.approx(np.sqrt(0.8 * 0.2 / 400), rel=0.03)
    assert drawn.mean() == pytest.approx(0.8, abs=0.001)


def test_cycles_of_one_patient_are_drawn_together() -> None:
    """Ten patients of a hundred equal cycles are as uncertain as ten cycles."""
    right = np.repeat(np.arange(10) < 7, 100)
    counts = patient_confusions(
        np.zeros(1000, dtype=np.int64), (~right).astype(np.int64), np.arange(10).repeat(100), 2
    )
    drawn = scores_of_counts(draw_patients(counts, 20_000), TWO_CLASS)["specificity"]
    assert drawn.std() == pytest.approx(np.sqrt(0.7 * 0.3 / 10), rel=0.03)


def test_a_draw_without_normal_cycles_has_no_score() -> None:
    """Two of twelve patients have them: every tenth draw lacks both, and Se alone is far higher."""
    counts = np.zeros((12, 2, 2))
    counts[:, 1] = [1, 19]
    counts[:2, 0] = [1, 9]
    scores = bootstrap_scores(counts, TWO_CLASS)
    lacks = np.isnan(scores["specificity"])
    assert 0.05 < lacks.mean() < 0.2
    assert (np.isnan(scores["score_2"]) == lacks).all()
    low, high = quantile_intervals(scores)["score_2"]
    assert (low, high) == pytest.approx((0.525, 0.525))
    without = bootstrap_scores(counts[2:], TWO_CLASS)  # a set that has none: Se is its score
    assert (without["score_2"] == without["sensitivity_2"]).all()


def test_systems_share_the_draws() -> None:
    truth, predicted, patients = answers(2, 15, 200, 2)
    counts = patient_confusions(truth, predicted, patients, 2)
    both = draw_patients(np.stack([counts, counts]))
    assert (both[:, 0] == both[:, 1]).all()
    assert (both[:, 0] == draw_patients(counts)).all()
    assert (draw_patients(counts, seed=1) != draw_patients(counts)).any()


def test_intervals_of_too_few_are_named() -> None:
    truth, predicted, patients = answers(4, 12, 300, 3)
    counts = patient_confusions(truth, predicted, patients, 4)
    assert interval_problem(counts, FOUR_CLASS) == ""
    assert interval_problem(counts[:9], FOUR_CLASS) == "9 patients, fewer than 10"
    counts[1:, 2] = 0
    assert interval_problem(counts, FOUR_CLASS) == "one patient alone has the class wheeze"
