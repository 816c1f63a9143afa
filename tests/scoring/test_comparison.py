"""Paired tests by patient, against scipy and simulated tables."""

import itertools

import numpy as np
import pytest
from scipy import stats

from lungsound.data.labels import TWO_CLASS
from lungsound.scoring import comparison
from lungsound.scoring.bootstrap import patient_confusions, scores_of_counts
from lungsound.scoring.comparison import holm, mcnemar_p_value, permutation_p_value


def test_p_is_the_share_of_all_exchanges() -> None:
    """Seven patients have 128 exchanges: all are counted here."""
    rng = np.random.default_rng(0)
    truth, patients = rng.integers(0, 2, 70), np.arange(70) % 7
    systems = [np.where(rng.uniform(size=70) < skill, truth, 1 - truth) for skill in (0.9, 0.7)]
    first, second = (patient_confusions(truth, one, patients, 2) for one in systems)
    differences = []
    for exchanged in itertools.product([False, True], repeat=7):
        swap = np.array(exchanged)[:, None, None]
        one, other = np.where(swap, second, first), np.where(swap, first, second)
        scores = [scores_of_counts(each.sum(0), TWO_CLASS)["score_2"] for each in (one, other)]
        differences.append(abs(scores[0] - scores[1]))
    expected = np.mean(np.array(differences) >= differences[0] - 1e-12)
    assert 0.01 < expected < 0.5
    found = permutation_p_value(first, second, TWO_CLASS, "score_2")
    assert found == pytest.approx(expected, abs=0.01)


def test_equal_systems_differ_as_often_as_the_level_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 simulated tables; a patient's cycles depend on each other."""
    monkeypatch.setattr(comparison, "PERMUTATIONS", 500)
    rng = np.random.default_rng(1)
    p_values = []
    for _ in range(200):
        patients = np.repeat(np.arange(20), 12)
        truth = rng.integers(0, 2, 240)
        skill = rng.uniform(0.4, 1, (2, 20))[:, patients]
        systems = np.where(rng.uniform(size=(2, 240)) < skill, truth, 1 - truth)
        counts = [patient_confusions(truth, one, patients, 2) for one in systems]
        p_values.append(permutation_p_value(*counts, TWO_CLASS, "score_2"))
    found = int(np.sum(np.array(p_values) <= 0.05))
    low, high = stats.binom.interval(0.999, 200, 0.05)
    assert low <= found <= high
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


def test_mcnemar_is_the_binomial_of_the_cycles_that_one_answers() -> None:
    first = np.array([True] * 12 + [False] * 3 + [True] * 5 + [False] * 2)
    second = np.array([False] * 12 + [True] * 3 + [True] * 5 + [False] * 2)
    expected = 2 * sum(stats.binom.pmf(k, 15, 0.5) for k in range(4))
    assert mcnemar_p_value(first, second) == pytest.approx(expected)
    assert mcnemar_p_value(first, first) == 1


def test_holm_by_hand() -> None:
    """0.005 · 4, 0.01 · 3, 0.03 · 2, and 0.04 · 1, which the one before it raises."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
