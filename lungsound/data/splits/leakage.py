"""Leakage: patients, recordings and sounds that occur in more than one set of a split."""

from typing import Any

import pandas as pd

SET_PAIRS = {
    "train+val": "in training and validation",
    "train+test": "in training and test",
    "val+test": "in validation and test",
}
KINDS = ("patients", "recordings", "duplicates")


def count_leakage(cycles: pd.DataFrame) -> dict[str, Any]:
    """Count what the sets share, from the columns set, patient, recording and content.

    `patients` and `recordings`: how many of the `test_patients` and `test_recordings` are also in
    training or validation. `duplicates`: sounds of test that are in training or validation under
    another recording's name. `pairs`: these three counts for each two sets, such as `train+val`.
    """
    test = cycles[cycles["set"] == "test"]
    return {
        **_count_shared(test, cycles[cycles["set"].isin(["train", "val"])]),
        "test_patients": test["patient"].nunique(),
        "test_recordings": test["recording"].nunique(),
        "pairs": {
            pair: _count_shared(*(cycles[cycles["set"] == name] for name in pair.split("+")))
            for pair in SET_PAIRS
        },
    }


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
        [title, *(str(report["pairs"][pair][kind]) for kind in KINDS)]
        for pair, title in SET_PAIRS.items()
    ]
    shares = [f"{report[kind]} of {report[f'test_{kind}']}" for kind in ("patients", "recordings")]
    return [*rows, ["of test, in training or validation", *shares, str(report["duplicates"])]]


def _count_shared(one: pd.DataFrame, other: pd.DataFrame) -> dict[str, int]:
    sounds, others = (cycles[["content", "recording"]].drop_duplicates() for cycles in (one, other))
    pairs = sounds.merge(others, on="content", suffixes=("", "_other"))
    duplicates = pairs["content"][pairs["recording"] != pairs["recording_other"]]
    return {
        "patients": len(set(one["patient"]) & set(other["patient"])),
        "recordings": len(set(one["recording"]) & set(other["recording"])),
        "duplicates": duplicates.nunique(),
    }
