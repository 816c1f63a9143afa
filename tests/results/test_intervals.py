"""The intervals of a run: those of its ensemble, its single member, and their difference."""

import json
from math import sqrt

import numpy as np
import pandas as pd
import pytest

from lungsound.results.intervals import score_intervals
from lungsound.results.summary import summarize

LABELS = ("normal", "crackle", "wheeze", "both")


def predictions(patients: int = 40, cycles: int = 30) -> pd.DataFrame:
    """Two members: the first answers 6 of 10 cycles correctly, the second 8, of any patient."""
    rng = np.random.default_rng(0)
    total = patients * cycles
    truth = rng.integers(0, 4, total)
    rows = []
    for member, skill in ((1, 0.6), (2, 0.8)):
        right = rng.uniform(size=total) < skill
        answer = np.where(right, truth, (truth + 1) % 4)
        values = 0.1 + member * np.eye(4)[answer]  # the second one decides
        values /= values.sum(1, keepdims=True)
        columns = {f"p_{label}": values[:, place] for place, label in enumerate(LABELS)}
        patient = np.arange(total) // cycles
        keys = {"patient": patient.astype(str), "recording": patient.astype(str)}
        keys |= {"cycle": np.arange(total) % cycles, "label": np.array(LABELS)[truth]}
        rows.append(pd.DataFrame({**keys, "set": "test", "member": member, **columns}))
    table = pd.concat(rows)
    return pd.concat([table, table.assign(set="val")])


def test_intervals_are_around_the_scores_and_as_wide_as_they_must_be() -> None:
    """The answers do not depend on the patient: each cycle counts for itself."""
    table = predictions()
    summary, found = summarize(table), score_intervals(table, 1)
    assert (found["patients"], found["problem"]) == (40, "")
    for name, scores in (("ensemble", summary["ensemble"][-1]), ("single", summary["members"][0])):
        for score in ("specificity", "sensitivity_4", "score_4"):
            low, high = found[name][score]
            assert low < scores["test"][score] < high
        share = scores["test"]["specificity"]
        normal = (table["label"] == "normal").sum() / 4  # of two sets and two members
        low, high = found[name]["specificity"]
        assert high - low == pytest.approx(2 * 1.96 * sqrt(share * (1 - share) / normal), rel=0.25)
    row = found["difference"]["score_4"]
    scores = [summary["ensemble"][-1]["test"]["score_4"], summary["members"][0]["test"]["score_4"]]
    assert row["value"] == pytest.approx(scores[0] - scores[1])
    assert 0 < row["low"] < row["value"] < row["high"]
    assert row["permutation"] < 0.001 > row["mcnemar"]
    assert json.dumps(found, allow_nan=False)


def test_a_score_of_no_cycle_has_no_interval() -> None:
    table = predictions()
    found = score_intervals(table[table["label"] != "normal"], 1)
    assert "specificity" not in found["ensemble"]
    assert found["ensemble"]["score_4"] == found["ensemble"]["sensitivity_4"]
    assert json.dumps(found, allow_nan=False)


def test_few_patients_are_named() -> None:
    found = score_intervals(predictions(patients=9), 1)
    assert found["problem"] == "9 patients, fewer than 10"
    assert not found["ensemble"]
    unknown = predictions().assign(patient="")
    assert score_intervals(unknown, 1)["problem"] == "the patients are unknown"
