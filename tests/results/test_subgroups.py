"""Test scores of parts of the cycles, and of whole recordings and patients, counted by pandas."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from lungsound.results.predictions import encode_predictions, parse_predictions
from lungsound.results.subgroups import subgroup_rows, subgroup_section, unit_rows

LABELS = np.array(["normal", "crackle", "wheeze", "both"])
NO_LEAKS = {"recordings": 0, "patients": 0}
AGES = [0.5, 5.9, 6.0, 17.0, 64.9, 65.0, np.nan]


def predictions(cycles: int = 800) -> pd.DataFrame:
    """One member; 20 patients in each set with two recordings each, on two devices."""
    rng = np.random.default_rng(4)
    truth, number = rng.choice(4, cycles, p=[0.7, 0.1, 0.1, 0.1]), np.arange(cycles)
    patient, in_val = number // 2 % 20, number % 2 == 0
    sick = np.isin(patient, [0, 3, 4, 8, 15])
    truth = np.where(sick, truth, 0)
    values = softmax(rng.normal(size=(cycles, 4)) + 1.2 * np.eye(4)[truth], axis=1)
    columns = {f"p_{label}": values[:, place] for place, label in enumerate(LABELS)}
    names = [f"{'vt'[not val]}{n}" for val, n in zip(in_val, patient, strict=True)]
    recording = [f"{name}_{n // 40 % 2}" for name, n in zip(names, number, strict=True)]
    return pd.DataFrame(
        {
            "recording": recording, "patient": names, "cycle": number, "member": 1,
            "start_seconds": 0.0, "end_seconds": 1.0, "label": LABELS[truth],
            "set": np.where(in_val, "val", "test"),
            "device": np.where(patient < 14, "A", "B"),
            "sex": np.where(patient % 2 == 0, "F", ""),
            "age": np.array(AGES)[patient % 7],
            **columns,
        }
    )  # fmt: skip


def test_each_group_is_counted_by_pandas() -> None:
    table = predictions()
    rows = pd.DataFrame(subgroup_rows(table))
    by = ["device", "age_group", "sex", "patient", "recording"]
    assert rows["by"].unique().tolist() == by
    test = table[table["set"] == "test"]
    predicted = LABELS[test.filter(like="p_").to_numpy().argmax(1)]
    right, normal = predicted == test["label"], test["label"] == "normal"
    for name, key in (("device", test["device"]), ("patient", test["patient"]),
                      ("sex", test["sex"].replace("", "unknown"))):  # fmt: skip
        found = rows[rows["by"] == name].set_index("group")
        for group in key.unique():
            part = key == group
            specificity = right[part & normal].mean()
            sensitivity = right[part & ~normal].mean()
            expected = (specificity + sensitivity) / 2
            if np.isnan(expected):
                assert found.loc[group, "problem"] != ""
            assert found.loc[group, "cycles"] == part.sum()
            assert found.loc[group, "patients"] == test.loc[part, "patient"].nunique()
            assert found.loc[group, "specificity"] == pytest.approx(specificity)
            assert found.loc[group, "score"] == pytest.approx(expected, nan_ok=True)
    groups = rows.loc[rows["by"] == "age_group", "group"].tolist()
    assert groups == ["0-5", "6-11", "12-17", "18-64", "65+", "unknown"]
    counts = rows.groupby("by")["cycles"].sum()
    assert set(counts) == {len(test)}


def test_an_interval_or_the_reason_why_there_is_none() -> None:
    rows = subgroup_rows(predictions())
    large, small = (row for row in rows if row["by"] == "device")
    assert large["low"] < large["score"] < large["high"]
    assert large["problem"] == ""
    assert (small["low"], small["problem"]) == (None, "6 patients, fewer than 10")
    one = next(row for row in rows if row["by"] == "patient")
    assert one["problem"] == "1 patient, fewer than 10"


def test_units_have_the_mean_of_their_cycles() -> None:
    table = predictions()
    table["p_abnormal"] = 1 - table["p_normal"]
    test = table[table["set"] == "test"].groupby("recording")
    abnormal = test["label"].agg(lambda labels: (labels != "normal").any())
    means = test["p_abnormal"].mean()
    rows = unit_rows(table.drop(columns="p_abnormal"), NO_LEAKS)
    assert [(row["unit"], row["units"]) for row in rows] == [("recording", 40), ("patient", 20)]
    assert rows[0]["auc"] == pytest.approx(roc_auc_score(abnormal, means))
    called = means >= rows[0]["threshold"]
    assert rows[0]["sensitivity"] == pytest.approx(called[abnormal].mean())
    assert rows[0]["specificity"] == pytest.approx((~called[~abnormal]).mean())
    other = table.drop(columns="p_abnormal")
    turned = other["label"].where(other["set"] == "val", other["label"].shift(1, fill_value="both"))
    thresholds = [row["threshold"] for row in unit_rows(other.assign(label=turned), NO_LEAKS)]
    assert thresholds == [row["threshold"] for row in rows]
    assert unit_rows(other.assign(label="normal"), NO_LEAKS) == []
    assert [row["unit"] for row in unit_rows(other, {"recordings": 0, "patients": 3})] == [
        "recording"
    ]
    unknown = other.assign(patient=other["patient"].where(other["cycle"] > 20, ""))
    assert [row["unit"] for row in unit_rows(unknown, NO_LEAKS)] == ["recording"]
    by_device = [row for row in subgroup_rows(unknown) if row["by"] == "device"]
    assert by_device[0]["patients"] is None


def test_section_lists_groups_but_not_every_patient() -> None:
    table = predictions()
    text = "\n".join(subgroup_section(subgroup_rows(table), unit_rows(table, NO_LEAKS)))
    assert "| device | B | 120 | 6 |" in text
    assert "| patient | 20 |" in text
    assert "| patient | t1" not in text
    assert subgroup_section([], []) == []


def test_what_is_known_of_a_recording_is_stored() -> None:
    table = predictions(80)
    stored = parse_predictions(encode_predictions(table))
    assert stored["age"].isna().sum() == table["age"].isna().sum() > 0
    pd.testing.assert_series_equal(stored["age"], table["age"])
    assert subgroup_rows(stored) == subgroup_rows(table)
