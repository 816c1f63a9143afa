"""Other ways to combine a run's members: chosen on validation, measured on test."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import recall_score

from lungsound.results.combination import (
    combination_rows,
    combination_section,
    member_orders,
)
from lungsound.results.combination import member_answers as answers
from lungsound.results.figures import plot_combinations
from lungsound.results.summary import summarize

LABELS = np.array(["normal", "crackle", "wheeze", "both"])


def predictions(members: int = 4, cycles: int = 300) -> pd.DataFrame:
    """Members of different skill, on validation and test, with 15 patients in each."""
    rng = np.random.default_rng(2)
    truth, number = rng.integers(0, 4, cycles), np.arange(cycles)
    sets = np.where(number % 2 == 0, "val", "test")
    patient = [f"{name}{n // 2 % 15}" for name, n in zip(sets, number, strict=True)]
    keys = {"recording": patient, "patient": patient, "cycle": number, "set": sets}
    tables = []
    for member, skill in enumerate(rng.permutation(np.linspace(0.5, 2, members)), start=1):
        values = softmax(rng.normal(size=(cycles, 4)) + skill * np.eye(4)[truth], axis=1)
        columns = {f"p_{label}": values[:, place] for place, label in enumerate(LABELS)}
        tables.append(pd.DataFrame({**keys, "label": LABELS[truth], "member": member, **columns}))
    return pd.concat(tables, ignore_index=True)


def score_by_sklearn(table: pd.DataFrame, members: list[int]) -> float:
    """The own score on test of the mean of `members`."""
    rows = table[(table["set"] == "test") & table["member"].isin(members)]
    means = rows.groupby("cycle")[[f"p_{label}" for label in LABELS]].mean()
    truth = rows.groupby("cycle")["label"].first()
    predicted = LABELS[means.to_numpy().argmax(1)]
    abnormal = truth != "normal"
    sensitivity = (predicted == truth)[abnormal].mean()
    return float(sensitivity + recall_score(truth == "normal", predicted == "normal")) / 2


def test_each_row_is_the_score_of_its_members() -> None:
    table = predictions()
    rows = {row["name"]: row for row in combination_rows(table)}
    assert next(iter(rows)) == "all"
    summary = summarize(table)
    assert rows["all"]["test"] == pytest.approx(summary["ensemble"][-1]["test"]["score_4"])
    assert rows["all"]["val"] == pytest.approx(summary["ensemble"][-1]["val"]["score_4"])
    best, last = summary["single"], summary["members"][-1]
    assert rows["best single member"]["members"] == str(best["member"])
    assert rows["best single member"]["test"] == pytest.approx(best["test"]["score_4"])
    assert rows["last member"]["test"] == pytest.approx(last["test"]["score_4"])
    by_val = sorted(range(4), key=lambda place: -summary["members"][place]["val"]["score_4"])
    assert member_orders(answers(table, "val"))["best m"].tolist() == by_val
    of_first = [entry["val"]["score_4"] for entry in summary["ensemble"]]
    size = 1 + int(np.argmax(of_first))
    assert rows["first m"]["test"] == pytest.approx(score_by_sklearn(table, [*range(1, size + 1)]))
    for row in rows.values():
        assert row["difference"] == pytest.approx(row["test"] - rows["all"]["test"])


def test_nothing_is_chosen_on_test() -> None:
    table = predictions()
    other = table.assign(label=table["label"].where(table["set"] == "val", "normal"))
    chosen = [[(row["name"], row["members"]) for row in combination_rows(one)]
              for one in (table, other)]  # fmt: skip
    assert chosen[0] == chosen[1]


def test_intervals_are_by_patient_and_hold_the_difference() -> None:
    table = predictions()
    rows = combination_rows(table)
    assert (rows[0]["low"], rows[0]["high"]) == (None, None)
    assert all(row["low"] <= row["difference"] <= row["high"] for row in rows[1:])
    few = table.assign(patient=table["patient"].str[:1])
    assert {row["low"] for row in combination_rows(few)} == {None}
    assert combination_rows(table[table["member"] == 1]) == []
    assert combination_rows(table[table["set"] == "test"]) == []


def test_section_and_figure_have_every_row_and_pair() -> None:
    table = predictions()
    rows = combination_rows(table)
    title, text = combination_section(rows)
    assert "chosen on validation" in title
    assert len(text.splitlines()) == 2 + len(rows) == 11
    left, middle, right = plot_combinations(table, "a title").axes[:3]
    predicted = [
        table.loc[(table["member"] == member) & (table["set"] == "test"), "p_normal":].to_numpy()
        for member in (1, 2)
    ]
    share = np.mean(predicted[0].argmax(1) != predicted[1].argmax(1))
    assert left.images[0].get_array()[0, 1] == pytest.approx(share)
    assert len(right.lines) == 3
    assert middle.get_title() == "correlation of the errors"
