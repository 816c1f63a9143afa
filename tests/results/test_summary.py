"""Scores from the predictions table: against pandas and scikit-learn, and by hand."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix
from support.results import reference_scores

from lungsound.errors import DataError
from lungsound.results.intervals import score_intervals
from lungsound.results.report import report_markdown, scores_table
from lungsound.results.summary import summarize

LABELS = {4: ["normal", "crackle", "wheeze", "both"], 2: ["normal", "abnormal"]}


def table(members: int = 3, classes: int = 4, cycles: int = 240, seed: int = 0) -> pd.DataFrame:
    """Made-up predictions of members that are right more often than not."""
    draws, labels = np.random.default_rng(seed), LABELS[classes]
    number = np.repeat(np.arange(cycles), members)
    truth = np.repeat(draws.integers(classes, size=cycles), members)
    logits = draws.normal(size=(len(number), classes)) + 1.2 * np.eye(classes)[truth]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = {
        "recording": [f"{101 + n // 7}_1b1_Al_sc_Meditron" for n in number],
        "patient": [str(101 + n // 7) for n in number],
        "cycle": number % 7,
        "label": np.array(labels)[truth],
        "set": np.where(number % 3 == 0, "val", "test"),
        "member": np.tile(np.arange(1, members + 1), cycles),
    }
    probabilities = pd.DataFrame(shares, columns=[f"p_{label}" for label in labels])
    return pd.DataFrame(rows).join(probabilities)


def one_hot_predictions(
    answers: dict[str, list[list[str]]], truth: dict[str, list[str]]
) -> pd.DataFrame:
    """Predictions of members that are certain: `answers[set][member][cycle]` are labels."""
    rows = []
    for name, members in answers.items():
        for member, given in enumerate(members, start=1):
            for cycle, answer in enumerate(given):
                row = {"recording": name, "cycle": cycle, "label": truth[name][cycle]}
                probabilities = {f"p_{label}": float(label == answer) for label in LABELS[4]}
                rows.append({**row, "set": name, "member": member, **probabilities})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("classes", [4, 2])
def test_every_score_equals_scikit_learns(classes: int) -> None:
    predictions = table(members=4, classes=classes)
    summary = summarize(predictions)
    assert summary["task"] == {4: "four_class", 2: "two_class"}[classes]
    assert [entry["member"] for entry in summary["members"]] == [1, 2, 3, 4]
    assert [entry["members"] for entry in summary["ensemble"]] == [1, 2, 3, 4]
    for name, rows in predictions.groupby("set"):
        for m in range(1, 5):
            alone = reference_scores(rows[rows["member"] == m])
            first = reference_scores(rows[rows["member"] <= m])
            assert summary["members"][m - 1][name] == pytest.approx(alone, abs=1e-12)
            assert summary["ensemble"][m - 1][name] == pytest.approx(first, abs=1e-12)


@pytest.mark.parametrize("classes", [4, 2])
def test_confusion_matrices_are_the_whole_ensembles_on_test(classes: int) -> None:
    predictions = table(classes=classes)
    columns = [f"p_{label}" for label in LABELS[classes]]
    cycles = predictions.query("set == 'test'").groupby(["recording", "cycle"])
    truth = cycles["label"].first()
    answer = cycles[columns].mean().idxmax(axis="columns").str.removeprefix("p_")
    expected = {"ensemble_2": confusion_matrix(truth != "normal", answer != "normal").tolist()}
    if classes == 4:
        expected["ensemble_4"] = confusion_matrix(truth, answer, labels=LABELS[4]).tolist()
    assert summarize(predictions)["confusion"] == expected


def test_row_order_does_not_matter() -> None:
    predictions = table()
    expected = summarize(predictions)
    for seed in range(3):
        assert summarize(predictions.sample(frac=1, random_state=seed)) == expected


def test_summary_is_plain_json() -> None:
    predictions = table()
    predictions = predictions[(predictions["set"] == "val") | (predictions["label"] != "normal")]
    summary = summarize(predictions)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_by_hand() -> None:
    # 3 of 4 normal; of 4 abnormal one with its own class, two more as another abnormal class.
    truth = ["normal"] * 4 + ["crackle", "crackle", "wheeze", "both"]
    answers = ["normal", "normal", "normal", "wheeze", "crackle", "both", "normal", "crackle"]
    scores = summarize(
        one_hot_predictions({"val": [answers], "test": [answers]}, {"val": truth, "test": truth})
    )["members"][0]["test"]
    assert scores == {
        "specificity": 0.75,
        "sensitivity_4": 0.25,
        "sensitivity_2": 0.75,
        "score_4": 0.5,
        "score_2": 0.75,
        "accuracy": 0.5,
    }


def test_single_member_is_chosen_on_validation_whatever_the_test_set_says() -> None:
    truth = {"val": ["normal", "crackle"], "test": ["normal", "crackle"]}
    right, wrong = ["normal", "crackle"], ["crackle", "normal"]
    # Member 2 is the best on validation and the worst on test.
    answers = {"val": [["normal", "normal"], right, wrong], "test": [right, wrong, right]}
    single = summarize(one_hot_predictions(answers, truth))["single"]
    assert (single["member"], single["val"]["score_4"], single["test"]["score_4"]) == (2, 1.0, 0.0)


def test_single_member_is_the_earliest_on_a_tie() -> None:
    truth = {"val": ["normal", "crackle"], "test": ["normal", "crackle"]}
    right, half = ["normal", "crackle"], ["normal", "normal"]
    answers = {"val": [half, right, right], "test": [half, half, right]}
    assert summarize(one_hot_predictions(answers, truth))["single"]["member"] == 2


def test_rounding_does_not_break_a_tie() -> None:
    """Sp 0.3 with Se 0 and Sp 0.1 with Se 0.2 are one score, whose second float is larger."""
    truth = {name: ["normal"] * 10 + ["crackle"] * 10 for name in ("val", "test")}
    first = ["normal"] * 3 + ["wheeze"] * 17
    second = ["normal"] + ["wheeze"] * 9 + ["crackle"] * 2 + ["wheeze"] * 8
    answers = {name: [first, second] for name in ("val", "test")}
    summary = summarize(one_hot_predictions(answers, truth))
    scores = [member["val"]["score_4"] for member in summary["members"]]
    assert scores == [(0.3 + 0) / 2, (0.1 + 0.2) / 2]
    assert scores[0] < scores[1]
    assert summary["single"]["member"] == 1


def test_without_validation_cycles_the_first_member_is_taken() -> None:
    answers = {"test": [["crackle"], ["normal"]]}
    summary = summarize(one_hot_predictions(answers, {"test": ["normal"]}))
    assert summary["single"]["member"] == 1
    assert summary["members"][0]["val"]["score_4"] is None


def test_missing_classes_are_named_and_left_out() -> None:
    predictions = table()
    predictions = predictions[
        (predictions["set"] == "val") | ~predictions["label"].isin(["normal", "both"])
    ]
    summary = summarize(predictions)
    assert summary["missing"] == {"val": [], "test": ["normal", "both"]}
    for entry in summary["members"]:
        assert entry["test"]["specificity"] is None
        assert entry["test"]["score_4"] == entry["test"]["sensitivity_4"]
    assert "No cycle of the class normal, both in the test set" in scores_table(
        summary, score_intervals(predictions, 1), "heading", "leak"
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda table: table.drop(index=5), "lack"),
        (lambda table: pd.concat([table, table.iloc[[5]]]), "twice"),
        (lambda table: table.assign(member=table["member"].where(table.index != 4, 1)), "twice"),
        (
            lambda table: table.assign(label=table["label"].where(table.index != 5, "both")),
            "one label",
        ),
        (lambda table: table.replace({"label": {"both": "stridor"}}), "stridor"),
        (lambda table: table.assign(p_both=np.nan), "the network diverged"),
        (lambda table: table.drop(columns="p_both"), "got both"),
        (lambda table: table[:0], "none"),
    ],
)
def test_incomplete_table_is_refused(spoil: Any, message: str) -> None:
    predictions = table(seed=1)
    assert predictions["label"][5] != "both"
    with pytest.raises(DataError, match=message):
        summarize(spoil(predictions))


@pytest.mark.parametrize("classes", [4, 2])
def test_console_table_shows_every_row_in_80_columns(classes: int) -> None:
    summary = summarize(table(members=10, classes=classes))
    intervals = score_intervals(table(members=10, classes=classes), 1)
    lines = scores_table(summary, intervals, "SYNTHETIC demo", "1 OF 2 LEAKS").splitlines()
    assert lines[0] == "SYNTHETIC demo"
    assert max(map(len, lines)) <= 80
    names = ["specificity", "sensitivity_4", "sensitivity_2", "score_4", "score_2"]
    names = [name for name in names if classes == 4 or not name.endswith("4")]
    sizes = "4, 2" if classes == 4 else "2"
    assert f"{sizes}: the number of classes." in lines
    entries = {f"member {entry['member']}": entry for entry in summary["members"]}
    entries |= {f"ensemble of {entry['members']}": entry for entry in summary["ensemble"]}
    entries[f"single: member {summary['single']['member']}"] = summary["single"]
    for name, entry in entries.items():
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        expected = [f"{entry[key][score]:.3f}" for key in ("val", "test") for score in names]
        assert line.removeprefix(name).split() == expected
    for place, title in enumerate(("95 % from", "     to")):
        (line,) = [line for line in lines if line.startswith(f"{title} ")]
        expected = [f"{intervals['ensemble'][score][place]:.3f}" for score in names]
        assert line.removeprefix(title).split() == expected
    assert "95 %: of the ensemble's test scores, by bootstrap over 35 patients." in lines
    few = score_intervals(table(cycles=63), 1)
    assert "No intervals by patient: 9 patients, fewer than 10." in scores_table(
        summary, few, "heading", "leak"
    )
    assert "95 %" not in scores_table(summary, None, "of release 0.1", "leak")


def test_report_holds_facts_scores_and_figures() -> None:
    summary = summarize(table())
    report = report_markdown(
        summary,
        score_intervals(table(), 2),
        {"padding": "sample", "note": "a|b"},
        "SYNTHETIC run",
        "1 OF 2 LEAKS",
        [["in training and test", "1", "2", "0"]],
        ["## More"],
        ["figures/members.png"],
    )
    assert report.startswith("# SYNTHETIC run\n")
    assert (
        f"ensemble of 3: 4-class score {summary['ensemble'][-1]['test']['score_4']:.3f}" in report
    )
    assert "| padding | sample |" in report
    assert "| note | a\\|b |" in report
    assert "![figures/members.png](figures/members.png)" in report
    assert "Ensemble minus single member, 4-class score: +" in report
    starts = ("| member", "| ensemble", "| single", "| 95 %")
    rows = [line for line in report.splitlines() if line.startswith(starts)]
    assert len(rows) == 3 + 3 + 1 + 1
    assert {row.count("|") for row in rows} == {12}
