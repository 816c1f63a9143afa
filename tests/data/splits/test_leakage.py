"""The leakage report against counts that go through the table by pandas alone."""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lungsound.data.splits.checks import SET_NAMES
from lungsound.data.splits.leakage import count_leakage, leakage_rows, leakage_sentence

NOTHING = {"patients": 0, "recordings": 0, "duplicates": 0}


def random_cycles(seed: int, by: str = "cycle") -> pd.DataFrame:
    """Cycles of 40 recordings; each cycle (or recording, or patient) is in a set or none.

    A sound may be in several recordings, and of several patients.
    """
    rng = np.random.default_rng(seed)
    recordings = pd.DataFrame(
        {
            "recording": [f"r{number}" for number in range(40)],
            "patient": rng.integers(12, size=40).astype(str),
            "content": rng.integers(26, size=40).astype(str),
        }
    )
    cycles = rng.integers(1, 5, 40)
    table = recordings.loc[recordings.index.repeat(cycles)].reset_index(drop=True)
    units = table.index.astype(str) if by == "cycle" else table[by]
    names = ["train", "train", "val", "test", ""]
    sets = {unit: rng.choice(names) for unit in sorted(set(units))}
    return table.assign(set=pd.Series(units).map(sets))


def reference_counts(table: pd.DataFrame, one: list[str], other: list[str]) -> dict[str, int]:
    """How much of `one` is in `other`, by flags and by every pair of recordings."""
    here, there = table["set"].isin(one), table["set"].isin(other)
    flags = {
        column: (here.groupby(table[column]).any() & there.groupby(table[column]).any()).sum()
        for column in ("patient", "recording")
    }
    columns = ["recording", "content"]
    pairs = pd.merge(table[here][columns], table[there][columns], "cross")
    copies = pairs.query("recording_x != recording_y and content_x == content_y")
    return {
        "patients": flags["patient"],
        "recordings": flags["recording"],
        "duplicates": copies["content_x"].nunique(),
    }


@pytest.mark.parametrize("by", ["cycle", "recording", "patient"])
@pytest.mark.parametrize("seed", range(4))
def test_report_is_as_pandas_counts(seed: int, by: str) -> None:
    table = random_cycles(seed, by=by)
    report = count_leakage(table)
    test = table[table["set"] == "test"]
    expected = reference_counts(table, ["test"], ["train", "val"])
    assert {name: report[name] for name in expected} == expected
    assert report["test_patients"] == len(test.groupby("patient").size())
    assert report["test_recordings"] == len(test.groupby("recording").size())
    assert report["pairs"] == {
        f"{one}+{other}": reference_counts(table, [one], [other])
        for one, other in combinations(SET_NAMES, 2)
    }
    if by == "patient":
        assert all(pair["patients"] == pair["recordings"] == 0 for pair in report["pairs"].values())
    else:
        assert min(report["patients"], report["duplicates"]) > 0  # there is something to count


def test_order_index_and_cycles_in_no_set_do_not_count() -> None:
    table = random_cycles(0)
    expected = count_leakage(table)
    shuffled = table.sample(frac=1, random_state=1)
    used = table[table["set"] != ""]
    assert len(used) < len(table)
    for other in (shuffled, shuffled.reset_index(drop=True), used):
        assert count_leakage(other) == expected


def cycles_of(*rows: str) -> pd.DataFrame:
    """A row is a set, a patient, a recording and a sound."""
    return pd.DataFrame(
        [row.split() for row in rows], columns=["set", "patient", "recording", "content"]
    )


def test_recording_in_three_sets_is_no_duplicate_of_itself() -> None:
    report = count_leakage(cycles_of("train 1 a x", "val 1 a x", "test 1 a x"))
    shared = {"patients": 1, "recordings": 1, "duplicates": 0}
    assert report.items() >= shared.items()
    assert all(pair == shared for pair in report["pairs"].values())


def test_sound_under_many_names_counts_once() -> None:
    """So does one that is both in two sets and copied."""
    report = count_leakage(
        cycles_of("train 1 a x", "train 2 b x", "test 3 c x", "test 4 d x",
                  "val 5 e y", "test 5 e y", "test 6 f y")
    )  # fmt: skip
    assert (report["duplicates"], report["recordings"], report["patients"]) == (2, 1, 1)
    duplicates = {name: pair["duplicates"] for name, pair in report["pairs"].items()}
    assert duplicates == {"train+val": 0, "train+test": 1, "val+test": 1}


def test_patient_in_training_and_validation_counts_once() -> None:
    report = count_leakage(cycles_of("train 1 a x", "val 1 b y", "test 1 c z", "test 2 d w"))
    assert (report["patients"], report["test_patients"]) == (1, 2)


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ({}, "No patient of the 9 in test is also in training or validation."),
        (
            {"patients": 9},
            "9 OF 9 TEST PATIENTS ARE ALSO IN TRAINING OR VALIDATION: these scores say nothing "
            "about new patients.",
        ),
        (
            {"duplicates": 1},
            "No patient of the 9 in test is also in training or validation. "
            "1 SOUND OF TEST IS ALSO IN TRAINING OR VALIDATION under another name.",
        ),
        (
            {"duplicates": 2},
            "No patient of the 9 in test is also in training or validation. "
            "2 SOUNDS OF TEST ARE ALSO IN TRAINING OR VALIDATION under another name.",
        ),
    ],
)
def test_sentence(counts: dict[str, Any], sentence: str) -> None:
    assert leakage_sentence({**NOTHING, "test_patients": 9, **counts}) == sentence


def test_unknown_patients_are_neither_shared_nor_apart() -> None:
    cycles = cycles_of("train ? a x", "val 2 b y", "test ? b y", "test 3 c z")
    report = count_leakage(cycles.replace("?", ""))
    assert report["patients"] is None
    assert report["recordings"] == 1
    assert leakage_sentence(report).startswith("PATIENTS ARE UNKNOWN: ")
    assert [row[1] for row in leakage_rows(report)] == ["unknown"] * 4


def test_rows_of_the_table() -> None:
    report = count_leakage(cycles_of("train 1 a x", "val 1 b y", "test 1 b y", "test 2 d x"))
    assert leakage_rows(report) == [
        ["in training and validation", "1", "0", "0"],
        ["in training and test", "1", "0", "1"],
        ["in validation and test", "1", "1", "0"],
        ["of test, in training or validation", "1 of 2", "1 of 2", "1"],
    ]
