"""Scores from the predictions table: against pandas and scikit-learn, and by hand."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from lungsound.errors import DataError
from lungsound.results.report import report_markdown, scores_table
from lungsound.results.summary import summarize

LABELS = {4: ("normal", "crackle", "wheeze", "both"), 2: ("normal", "abnormal")}


def table(members: int = 3, classes: int = 4, cycles: int = 240, seed: int = 0) -> pd.DataFrame:
    """Made-up predictions of members that are right more often than not, in the columns of
    predictions.parquet.
    """
    draws = np.random.default_rng(seed)
    labels = LABELS[classes]
    truth = draws.integers(classes, size=cycles)
    rows = []
    for number, label in enumerate(truth):
        for member in range(1, members + 1):
            logits = draws.normal(size=classes) + 1.2 * (np.arange(classes) == label)
            shares = np.exp(logits) / np.exp(logits).sum()
            where = {
                "recording": f"{101 + number // 7}_1b1_Al_sc_Meditron",
                "patient": 101 + number // 7,
            }
            when = {
                "cycle": number % 7,
                "start_seconds": 2.5 * number,
                "end_seconds": 2.5 * number + 2.5,
            }
            part = {
                "label": labels[label],
                "set": "val" if number % 3 == 0 else "test",
                "member": member,
            }
            rows.append(
                {
                    **where,
                    **when,
                    **part,
                    **{f"p_{name}": p for name, p in zip(labels, shares, strict=True)},
                }
            )
    return pd.DataFrame(rows)


def one_hot_predictions(
    answers: dict[str, list[list[str]]], truth: dict[str, list[str]]
) -> pd.DataFrame:
    """Predictions of members that are certain: `answers[set][member][cycle]` are labels."""
    rows = [
        {
            "recording": part,
            "cycle": cycle,
            "label": truth[part][cycle],
            "set": part,
            "member": member,
        }
        | {f"p_{label}": float(label == answer) for label in LABELS[4]}
        for part, members in answers.items()
        for member, given in enumerate(members, start=1)
        for cycle, answer in enumerate(given)
    ]
    return pd.DataFrame(rows)


def reference(
    predictions: pd.DataFrame, part: str, members: list[int], classes: int
) -> dict[str, float]:
    """The scores by another route: pandas' mean over the members, scikit-learn's recalls."""
    labels = LABELS[classes]
    rows = predictions[(predictions["set"] == part) & predictions["member"].isin(members)]
    columns = [f"p_{label}" for label in labels]
    cycles = rows.groupby(["recording", "cycle"]).agg(
        {"label": "first", **dict.fromkeys(columns, "mean")}
    )
    answer = cycles[columns].idxmax(axis="columns").map(lambda column: column[2:])
    ill, said_ill = cycles["label"] != "normal", answer != "normal"
    scores = {
        "specificity": float(recall_score(~ill, ~said_ill)),
        "sensitivity_2": float(recall_score(ill, said_ill)),
        "accuracy": float(accuracy_score(cycles["label"], answer)),
    }
    scores["score_2"] = (scores["specificity"] + scores["sensitivity_2"]) / 2
    if classes == 4:
        scores["sensitivity_4"] = float(
            recall_score(cycles["label"], answer, labels=labels[1:], average="micro")
        )
        scores["score_4"] = (scores["specificity"] + scores["sensitivity_4"]) / 2
    return scores


@pytest.mark.parametrize("classes", [4, 2])
def test_every_score_equals_scikit_learns(classes: int) -> None:
    predictions = table(members=4, classes=classes)
    summary = summarize(predictions)
    assert summary["task"] == {4: "four_class", 2: "two_class"}[classes]
    assert [entry["member"] for entry in summary["members"]] == [1, 2, 3, 4]
    assert [entry["members"] for entry in summary["ensemble"]] == [1, 2, 3, 4]
    for part in ("val", "test"):
        for number in range(1, 5):
            alone = reference(predictions, part, [number], classes)
            first = reference(predictions, part, list(range(1, number + 1)), classes)
            assert summary["members"][number - 1][part] == pytest.approx(alone, abs=1e-12)
            assert summary["ensemble"][number - 1][part] == pytest.approx(first, abs=1e-12)


@pytest.mark.parametrize("classes", [4, 2])
def test_confusion_matrices_are_the_whole_ensembles_on_test(classes: int) -> None:
    predictions = table(classes=classes)
    columns = [f"p_{label}" for label in LABELS[classes]]
    test = predictions[predictions["set"] == "test"]
    cycles = test.groupby(["recording", "cycle"]).agg(
        {"label": "first", **dict.fromkeys(columns, "mean")}
    )
    answer = cycles[columns].idxmax(axis="columns").map(lambda column: column[2:])
    confusion = summarize(predictions)["confusion"]
    two = confusion_matrix(cycles["label"] != "normal", answer != "normal").tolist()
    assert confusion["ensemble_2"] == two
    if classes == 4:
        assert (
            confusion["ensemble_4"]
            == confusion_matrix(cycles["label"], answer, labels=LABELS[4]).tolist()
        )
    else:
        assert set(confusion) == {"ensemble_2"}


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
        summary, "heading", "leak"
    )


def _without_a_row(predictions: pd.DataFrame) -> pd.DataFrame:
    return predictions.drop(index=predictions.index[5])


def _with_a_row_twice(predictions: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([predictions, predictions.iloc[[5]]])


def _with_a_member_for_another(predictions: pd.DataFrame) -> pd.DataFrame:
    return predictions.assign(member=predictions["member"].where(predictions.index != 4, 1))


def _with_two_labels_for_a_cycle(predictions: pd.DataFrame) -> pd.DataFrame:
    label = np.where(predictions.index == 5, "both", predictions["label"])
    assert predictions["label"][5] != "both"
    return predictions.assign(label=label)


def _with_an_unknown_label(predictions: pd.DataFrame) -> pd.DataFrame:
    return predictions.replace({"label": {"both": "stridor"}})


def _without_a_class(predictions: pd.DataFrame) -> pd.DataFrame:
    return predictions.drop(columns="p_both")


def _empty(predictions: pd.DataFrame) -> pd.DataFrame:
    return predictions[:0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_a_row, "lack"),
        (_with_a_row_twice, "twice"),
        (_with_a_member_for_another, "twice"),
        (_with_two_labels_for_a_cycle, "one label"),
        (_with_an_unknown_label, "stridor"),
        (_without_a_class, "p_both"),
        (_empty, "none"),
    ],
)
def test_a_table_that_is_not_whole_is_refused(spoil: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        summarize(spoil(table(seed=1)))


@pytest.mark.parametrize("classes", [4, 2])
def test_console_table_shows_every_row_in_80_columns(classes: int) -> None:
    summary = summarize(table(members=10, classes=classes))
    lines = scores_table(summary, "SYNTHETIC demo", "1 OF 2 LEAKS").splitlines()
    assert lines[0] == "SYNTHETIC demo"
    assert max(map(len, lines)) <= 80
    names = ["specificity", "sensitivity_4", "sensitivity_2", "score_4", "score_2"]
    names = [name for name in names if classes == 4 or not name.endswith("4")]

    def row(name: str) -> list[str]:
        return (
            next(line for line in lines if line.startswith(name + " ")).removeprefix(name).split()
        )

    entries = {f"member {entry['member']}": entry for entry in summary["members"]}
    entries |= {f"ensemble of {entry['members']}": entry for entry in summary["ensemble"]}
    entries[f"single: member {summary['single']['member']}"] = summary["single"]
    for name, entry in entries.items():
        assert row(name) == [
            f"{entry[part][score]:.3f}" for part in ("val", "test") for score in names
        ]


def test_report_holds_facts_scores_and_figures() -> None:
    summary = summarize(table())
    report = report_markdown(
        summary,
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
    rows = [
        line
        for line in report.splitlines()
        if line.startswith(("| member", "| ensemble", "| single"))
    ]
    assert len(rows) == 3 + 3 + 1
    assert {row.count("|") for row in rows} == {12}
