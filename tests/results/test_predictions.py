"""predictions.parquet: one row per cycle and member, from which every score is recomputed."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.results import reference_scores

LABELS = ["normal", "crackle", "wheeze", "both"]


@pytest.fixture(scope="module")
def table(finished_run: Path) -> pd.DataFrame:
    return pd.read_parquet(finished_run / "predictions.parquet")


def test_columns_and_label_order(table: pd.DataFrame) -> None:
    cycle = ["recording", "patient", "cycle", "start_seconds", "end_seconds", "label", "set"]
    probabilities = [f"p_{label}" for label in LABELS]
    recording = ["location", "mode", "device"]  # nothing else is known of the demo's
    assert list(table.columns) == [*cycle, *recording, "member", *probabilities]
    assert table.attrs["label_order"] == LABELS
    np.testing.assert_allclose(table[probabilities].sum(axis=1), 1, atol=1e-6)


def test_every_evaluated_cycle_once_per_member(table: pd.DataFrame, finished_run: Path) -> None:
    split = pd.read_csv(finished_run / "split.csv", dtype={"patient": str}).query("set != 'train'")
    columns = ["recording", "cycle", "patient", "label", "set"]
    expected = split[columns].sort_values(columns, ignore_index=True)
    for _, rows in table.astype({"patient": str}).groupby("member"):
        found = rows[columns].sort_values(columns, ignore_index=True)
        pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert len(table) == 2 * len(split)


def test_labels_and_times_are_the_annotation_files(table: pd.DataFrame, finished_run: Path) -> None:
    (root,) = finished_run.parents[1].glob("store/demo/*/audio_and_txt_files")
    names = ["start", "end", "crackle", "wheeze"]
    for recording, rows in table.groupby("recording"):
        lines = pd.read_csv(root / f"{recording}.txt", sep="\t", names=names).loc[rows["cycle"]]
        np.testing.assert_array_equal(rows["start_seconds"], lines["start"])
        np.testing.assert_array_equal(rows["end_seconds"], lines["end"])
        classes = lines["crackle"] + 2 * lines["wheeze"]
        assert rows["label"].tolist() == [LABELS[number] for number in classes]
        assert (rows["patient"].astype(str) == str(recording).split("_")[0]).all()


def test_every_score_follows_from_the_predictions(table: pd.DataFrame, finished_run: Path) -> None:
    scores = json.loads((finished_run / "scores.json").read_text())["scores"]
    for name, rows in table.groupby("set"):
        for member in scores["members"]:
            alone = rows[rows["member"] == member["member"]]
            assert member[name] == pytest.approx(reference_scores(alone))
        for ensemble in scores["ensemble"]:
            first = rows[rows["member"] <= ensemble["members"]]
            assert ensemble[name] == pytest.approx(reference_scores(first))
    members = table[table["set"] == "val"].groupby("member")
    best = max((1, 2), key=lambda member: reference_scores(members.get_group(member))["score_4"])
    assert scores["single"]["member"] == best


def test_members_are_the_best_epochs_of_their_periods(
    table: pd.DataFrame, finished_run: Path
) -> None:
    history = pd.read_json(finished_run / "history.jsonl", lines=True)
    best = history.groupby("period")["val/score_4"].max()
    for member, rows in table[table["set"] == "val"].groupby("member"):
        assert reference_scores(rows)["score_4"] == pytest.approx(best[member])
