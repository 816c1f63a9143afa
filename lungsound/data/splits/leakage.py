"""Leakage: patients, recordings and sounds that occur in more than one set of a split."""

from itertools import combinations
from typing import Any

import pandas as pd

from lungsound.data.splits.checks import SET_NAMES

SET_PAIR_NAMES = {
    "train+val": "training and validation",
    "train+test": "training and test",
    "val+test": "validation and test",
}


def count_leakage(cycles: pd.DataFrame) -> dict[str, Any]:
    """Count what the sets share, from the columns set, patient, recording and content.

    `patients` and `recordings`: how many of the `test_patients` and `test_recordings` are also in
    training or validation. `duplicates`: sounds of test that are in training or validation under
    another recording's name. `pairs`: these three counts for each two sets, such as `train+val`.
    """
    parts = {name: cycles[cycles["set"] == name] for name in SET_NAMES}
    train_and_val = cycles[cycles["set"].isin(["train", "val"])]
    report: dict[str, Any] = _count_shared(parts["test"], train_and_val)
    report |= {f"test_{kind}s": parts["test"][kind].nunique() for kind in ("patient", "recording")}
    pairs = {
        f"{one}+{other}": _count_shared(parts[one], parts[other])
        for one, other in combinations(SET_NAMES, 2)
    }
    return {**report, "pairs": pairs}


def leakage_sentence(report: dict[str, Any]) -> str:
    """Return the sentence that is printed with every score of a split."""
    shared, patients, duplicates = report["patients"], report["test_patients"], report["duplicates"]
    if shared:
        line = (
            f"{shared} OF {patients} TEST PATIENTS ARE ALSO IN TRAINING OR VALIDATION: "
            "these scores say nothing about new patients."
        )
    else:
        line = f"No patient of the {patients} in test is also in training or validation."
    if duplicates:
        sounds = "1 SOUND OF TEST IS" if duplicates == 1 else f"{duplicates} SOUNDS OF TEST ARE"
        line += f" {sounds} ALSO IN TRAINING OR VALIDATION under another name."
    return line


def leakage_rows(report: dict[str, Any]) -> list[list[str]]:
    """Return the counts as rows of a table: sets, patients, recordings, duplicates."""
    rows = [
        [
            f"in {SET_PAIR_NAMES[pair]}",
            *(str(counts[kind]) for kind in ("patients", "recordings", "duplicates")),
        ]
        for pair, counts in report["pairs"].items()
    ]
    test_counts = [
        f"{report[kind]} of {report[f'test_{kind}']}" for kind in ("patients", "recordings")
    ]
    return [*rows, ["of test, in training or validation", *test_counts, str(report["duplicates"])]]


def _count_shared(one: pd.DataFrame, other: pd.DataFrame) -> dict[str, int]:
    sounds = one[["content", "recording"]].drop_duplicates().merge(
        other[["content", "recording"]].drop_duplicates(), on="content", suffixes=("", "_other")
    )  # fmt: skip
    duplicates = sounds["content"][sounds["recording"] != sounds["recording_other"]]
    return {
        "patients": len(set(one["patient"]) & set(other["patient"])),
        "recordings": len(set(one["recording"]) & set(other["recording"])),
        "duplicates": duplicates.nunique(),
    }
