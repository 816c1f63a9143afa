"""predictions.parquet: one row per cycle and member, from which pandas and scikit-learn recompute
every score.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

LABELS = ["normal", "crackle", "wheeze", "both"]
COLUMNS = [
    *("recording", "patient", "cycle", "start_seconds", "end_seconds", "label", "set", "member"),
    *("p_normal", "p_crackle", "p_wheeze", "p_both"),
]  # fmt: skip


@pytest.fixture(scope="module")
def table(finished_run: Path) -> pd.DataFrame:
    return pd.read_parquet(finished_run / "predictions.parquet")


def scores_of(rows: pd.DataFrame) -> dict[str, float]:
    """The scores of the mean over members, by the definitions and scikit-learn's counts."""
    columns = [f"p_{label}" for label in LABELS]
    cycles = rows.groupby(["recording", "cycle"]).agg(
        {"label": "first", **dict.fromkeys(columns, "mean")}
    )
    answers = np.array(LABELS)[cycles[columns].to_numpy().argmax(axis=1)]
    counts = confusion_matrix(cycles["label"], answers, labels=LABELS)
    own, abnormal = counts.diagonal(), counts[1:]
    specificity = own[0] / counts[0].sum()
    sensitivity_4 = own[1:].sum() / abnormal.sum()
    sensitivity_2 = abnormal[:, 1:].sum() / abnormal.sum()
    return {
        "specificity": specificity,
        "sensitivity_4": sensitivity_4,
        "sensitivity_2": sensitivity_2,
        "score_4": (specificity + sensitivity_4) / 2,
        "score_2": (specificity + sensitivity_2) / 2,
        "accuracy": own.sum() / counts.sum(),
    }


def test_columns_and_label_order(table: pd.DataFrame) -> None:
    assert list(table.columns) == COLUMNS
    assert table.attrs["label_order"] == LABELS
    np.testing.assert_allclose(table[[f"p_{label}" for label in LABELS]].sum(axis=1), 1, atol=1e-6)


def test_every_evaluated_cycle_once_a_member(table: pd.DataFrame, finished_run: Path) -> None:
    split = pd.read_csv(finished_run / "split.csv", dtype={"patient": str})
    expected = split[split["set"] != "train"]
    assert set(table["set"]) == {"val", "test"}
    for member in (1, 2):
        rows = table[table["member"] == member]
        columns = ["recording", "cycle", "patient", "label", "set"]
        pd.testing.assert_frame_equal(
            rows[columns].astype({"patient": str}).sort_values(columns[:2]).reset_index(drop=True),
            expected[columns].sort_values(columns[:2]).reset_index(drop=True),
            check_dtype=False,
        )
    assert len(table) == 2 * len(expected)


def test_labels_and_times_are_the_annotation_files(table: pd.DataFrame, finished_run: Path) -> None:
    (root,) = finished_run.parents[1].glob("store/demo/*/audio_and_txt_files")
    for recording, rows in table.groupby("recording"):
        lines = pd.read_csv(
            root / f"{recording}.txt", sep="\t", names=["start", "end", "crackle", "wheeze"]
        )
        wanted = lines.loc[rows["cycle"]]
        np.testing.assert_array_equal(rows["start_seconds"], wanted["start"])
        np.testing.assert_array_equal(rows["end_seconds"], wanted["end"])
        names = [
            LABELS[crackle + 2 * wheeze]
            for crackle, wheeze in zip(wanted["crackle"], wanted["wheeze"], strict=True)
        ]
        assert rows["label"].tolist() == names
        assert (rows["patient"].astype(str) == str(recording).split("_")[0]).all()


def test_every_score_follows_from_the_predictions(table: pd.DataFrame, finished_run: Path) -> None:
    scores = json.loads((finished_run / "scores.json").read_text())["scores"]
    for name in ("val", "test"):
        rows = table[table["set"] == name]
        for member in scores["members"]:
            assert member[name] == pytest.approx(
                scores_of(rows[rows["member"] == member["member"]])
            )
        for ensemble in scores["ensemble"]:
            assert ensemble[name] == pytest.approx(
                scores_of(rows[rows["member"] <= ensemble["members"]])
            )
    val = table[table["set"] == "val"]
    best = max((1, 2), key=lambda member: scores_of(val[val["member"] == member])["score_4"])
    assert scores["single"]["member"] == best


def test_validation_scores_of_the_kept_epochs_are_the_loggeds(
    table: pd.DataFrame, finished_run: Path
) -> None:
    """The weights behind a member's predictions are those of its period's best epoch."""
    history = pd.read_json(finished_run / "history.jsonl", lines=True)
    val = table[table["set"] == "val"]
    for period, logged in history.groupby("period")["val/score_4"].max().items():
        assert scores_of(val[val["member"] == period])["score_4"] == pytest.approx(logged)
