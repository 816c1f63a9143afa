"""Calibration and operating points of a run: fitted on validation, measured on test."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from lungsound.results.calibration import (
    calibration_section,
    calibration_summary,
    operating_summary,
)
from lungsound.results.comparison import ensemble_answers
from lungsound.results.figures import plot_calibration
from lungsound.scoring.calibration import calibration_errors, scale_temperature

LABELS = ("normal", "crackle", "wheeze", "both")


def predictions(seed: int = 0, cycles: int = 400) -> pd.DataFrame:
    """One member that is too sure, on validation and test, with 20 patients in each."""
    rng = np.random.default_rng(seed)
    true = rng.dirichlet(np.ones(4), cycles)
    truth = np.array([rng.choice(4, p=row) for row in true])
    values = scale_temperature(true, 0.5)
    columns = {f"p_{label}": values[:, place] for place, label in enumerate(LABELS)}
    number = np.arange(cycles)
    patient = [f"{set_}{n % 20}" for set_, n in zip("vt" * (cycles // 2), number // 2, strict=True)]
    keys = {"patient": patient, "recording": patient, "cycle": number, "member": 1}
    sets = np.where(number % 2 == 0, "val", "test")
    return pd.DataFrame({**keys, "label": np.array(LABELS)[truth], "set": sets, **columns})


def test_the_temperature_is_validations_and_the_errors_are_tests() -> None:
    table = predictions()
    found, test = calibration_summary(table), ensemble_answers(table)
    assert found["temperature"] == pytest.approx(2, rel=0.25)
    assert found["before"] == calibration_errors(test.probabilities, test.truth)
    assert found["after"]["nll"] < found["before"]["nll"]
    other = table.assign(label=table["label"].where(table["set"] == "val", "normal"))
    assert calibration_summary(other)["temperature"] == found["temperature"]
    assert calibration_summary(table[table["set"] == "test"]) == {}
    (member,) = found.pop("members")
    assert member == found  # the only one is the ensemble


def test_thresholds_are_validations_and_the_rest_is_tests() -> None:
    table = predictions()
    found = operating_summary(table)
    test = table[table["set"] == "test"]
    abnormal, scores = test["label"] != "normal", 1 - test["p_normal"]
    assert found["auc"] == pytest.approx(roc_auc_score(abnormal, scores))
    assert found["average_precision"] == pytest.approx(average_precision_score(abnormal, scores))
    assert found["auc_interval"][0] < found["auc"] < found["auc_interval"][1]
    for point in found["points"].values():
        called = scores >= point["threshold"]
        assert point["score"] == pytest.approx(balanced_accuracy_score(abnormal, called))
        assert point["sensitivity"] == pytest.approx(called[abnormal].mean())
    flipped = table.assign(label=table["label"].where(table["set"] == "val", "both"))
    flipped.loc[flipped.index[1], "label"] = "normal"  # one of test
    again = operating_summary(flipped)
    assert [point["threshold"] for point in again["points"].values()] == [
        point["threshold"] for point in found["points"].values()
    ]
    assert operating_summary(table[table["label"] != "normal"]) == {}


def test_the_section_and_the_figure_have_all_of_it() -> None:
    table = predictions()
    calibration, operating = calibration_summary(table), operating_summary(table)
    text = "\n".join(calibration_section(calibration, operating))
    assert f"area under the ROC {operating['auc']:.3f} (" in text
    errors = f"{calibration['before']['ece']:.3f} | {calibration['after']['ece']:.3f} |"
    assert errors in next(line for line in text.splitlines() if line.startswith("| ensemble"))
    assert calibration_section({}, {}) == []
    assert json.dumps([calibration, operating], allow_nan=False)
    answers, points = ensemble_answers(table), operating["points"]
    figure = plot_calibration(answers, calibration["temperature"], points, "demo")
    reliability, roc, recall = figure.axes
    assert [len(line.get_xdata()) for line in reliability.lines[1:]] == [10, 10]
    marks = [line.get_xydata()[0].tolist() for line in roc.lines[2:]]
    assert marks == [[1 - one["specificity"], one["sensitivity"]] for one in points.values()]
    assert len(recall.lines) == 3
