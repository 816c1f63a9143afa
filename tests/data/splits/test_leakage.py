"""The leak report against a count that goes through the table by pandas alone."""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lungsound.data.splits.checks import SET_NAMES
from lungsound.data.splits.leakage import count_leakage, leakage_rows, leakage_sentence


def random_cycles(
    seed: int, recordings: int = 40, groups: int = 12, by: str = "cycle"
) -> pd.DataFrame:
    """Cycles of recordings of a few patients and fewer sounds, each cycle (or recording, or
    patient) in a set or none.

    A sound may be in several recordings, and of several patients: nothing in the report may take it
    to be otherwise.
    """
    draws = np.random.default_rng(seed)
    lengths = draws.integers(1, 5, recordings)
    table = pd.DataFrame(
        {
            "recording": np.repeat([f"r{number}" for number in range(recordings)], lengths),
            "patient": np.repeat(draws.integers(groups, size=recordings).astype(str), lengths),
            "content": np.repeat(
                draws.integers(recordings * 2 // 3, size=recordings).astype(str), lengths
            ),
        }
    )
    column = table.index.astype(str) if by == "cycle" else table[by]
    names = ["train", "train", "val", "test", ""]
    return table.assign(
        set=pd.Series(column).map({key: draws.choice(names) for key in sorted(set(column))})
    )


def reference_counts(table: pd.DataFrame, one: list[str], other: list[str]) -> dict[str, int]:
    """How much of `one` is in `other`, by flags on groups and a comparison of every pair of
    recordings.
    """
    here, there = table["set"].isin(one), table["set"].isin(other)
    flags = {
        column: (here.groupby(table[column]).any() & there.groupby(table[column]).any()).sum()
        for column in ("patient", "recording")
    }
    held = table.drop_duplicates("recording").set_index("recording")["content"]
    pairs = pd.merge(
        table[here][["recording"]].drop_duplicates(),
        table[there][["recording"]].drop_duplicates(),
        "cross",
    )
    pairs["one"], pairs["other"] = pairs["recording_x"].map(held), pairs["recording_y"].map(held)
    copies = pairs.query("recording_x != recording_y and one == other")["one"]
    return {
        "patients": flags["patient"],
        "recordings": flags["recording"],
        "duplicates": len(set(copies)),
    }


@pytest.mark.parametrize("by", ["cycle", "recording", "patient"])
@pytest.mark.parametrize("seed", range(8))
def test_the_report_is_what_pandas_counts(seed: int, by: str) -> None:
    table = random_cycles(seed, by=by)
    report = count_leakage(table)
    seen = ["train", "val"]
    assert {
        name: report[name] for name in ("patients", "recordings", "duplicates")
    } == reference_counts(table, ["test"], seen)
    tested = table[table["set"] == "test"]
    assert report["test_patients"] == len(tested.groupby("patient").size())
    assert report["test_recordings"] == len(tested.groupby("recording").size())
    assert set(report["pairs"]) == {"train+val", "train+test", "val+test"}
    for one, other in combinations(SET_NAMES, 2):
        assert report["pairs"][f"{one}+{other}"] == reference_counts(table, [one], [other])
    if by == "patient":
        assert all(pair["patients"] == pair["recordings"] == 0 for pair in report["pairs"].values())
    else:
        assert (
            report["patients"] > 0 and report["duplicates"] > 0
        )  # the tables are such that there is what to count


def test_the_rows_order_their_index_and_cycles_in_no_set_do_not_count() -> None:
    table = random_cycles(0)
    shuffled = table.sample(frac=1, random_state=1)
    assert (
        count_leakage(shuffled)
        == count_leakage(shuffled.reset_index(drop=True))
        == count_leakage(table)
    )
    assert count_leakage(table[table["set"] != ""]) == count_leakage(table)
    assert (table["set"] == "").any()


def rows(*cycles: tuple[str, str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(cycles, columns=["set", "patient", "recording", "content"])


def test_a_recording_that_is_split_is_no_duplicate_of_itself() -> None:
    report = count_leakage(
        rows(("train", "1", "a", "x"), ("val", "1", "a", "x"), ("test", "1", "a", "x"))
    )
    assert (report["patients"], report["recordings"], report["duplicates"]) == (1, 1, 0)
    assert all(
        pair == {"patients": 1, "recordings": 1, "duplicates": 0}
        for pair in report["pairs"].values()
    )


def test_one_sound_under_many_names_is_one() -> None:
    """And one that is both split and copied counts, too."""
    table = rows(
        ("train", "1", "a", "x"), ("train", "2", "b", "x"),
        ("test", "3", "c", "x"), ("test", "4", "d", "x"),
        ("val", "5", "e", "y"), ("test", "5", "e", "y"), ("test", "6", "f", "y"),
    )  # fmt: skip
    report = count_leakage(table)
    assert (report["duplicates"], report["recordings"], report["patients"]) == (2, 1, 1)
    assert {name: pair["duplicates"] for name, pair in report["pairs"].items()} == {
        "train+val": 0, "train+test": 1, "val+test": 1,
    }  # fmt: skip


def test_a_patient_in_training_and_in_validation_counts_once() -> None:
    table = rows(
        ("train", "1", "a", "x"),
        ("val", "1", "b", "y"),
        ("test", "1", "c", "z"),
        ("test", "2", "d", "w"),
    )
    report = count_leakage(table)
    assert (report["patients"], report["test_patients"]) == (1, 2)


def of(**counts: int) -> dict[str, Any]:
    return {"patients": 0, "test_patients": 9, "duplicates": 0, **counts}


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (of(), "No patient of the 9 in test is also in training or validation."),
        (
            of(patients=9),
            "9 OF 9 TEST PATIENTS ARE ALSO IN TRAINING OR VALIDATION: these scores say nothing "
            "about new patients.",
        ),
        (
            of(duplicates=1),
            "No patient of the 9 in test is also in training or validation. "
            "1 SOUND OF TEST IS ALSO IN TRAINING OR VALIDATION under another name.",
        ),
        (
            of(duplicates=2),
            "No patient of the 9 in test is also in training or validation. "
            "2 SOUNDS OF TEST ARE ALSO IN TRAINING OR VALIDATION under another name.",
        ),
    ],
)
def test_the_line_is_what_a_person_understands(report: dict[str, Any], line: str) -> None:
    assert leakage_sentence(report) == line


def test_the_rows_of_the_table() -> None:
    table = rows(
        ("train", "1", "a", "x"),
        ("val", "1", "b", "y"),
        ("test", "1", "b", "y"),
        ("test", "2", "d", "x"),
    )
    assert leakage_rows(count_leakage(table)) == [
        ["in training and validation", "1", "0", "0"],
        ["in training and test", "1", "0", "1"],
        ["in validation and test", "1", "1", "0"],
        ["of test, in training or validation", "1 of 2", "1 of 2", "1"],
    ]
