"""Leakage: patients, recordings and sounds that occur in more than one set of a split."""

from collections import defaultdict
from collections.abc import Collection
from typing import Any

import pandas as pd

from lungsound.data.overlaps import overlapping_pairs
from lungsound.data.splits.patient import has_unknown_patients

SET_PAIRS = {
    "train+val": "in training and validation",
    "train+test": "in training and test",
    "val+test": "in validation and test",
}
KINDS = ("patients", "recordings", "duplicates")
INITIAL_WEIGHTS = " Initial weights of "  # begins the sentence's last part


def count_leakage(cycles: pd.DataFrame, initial_weights: str = "") -> dict[str, Any]:
    """Count what the sets share: columns set, patient, recording, content; start_, end_seconds.

    `patients` and `recordings`: how many of the `test_patients` and `test_recordings` are also in
    training or validation. `duplicates`: sounds of test that are in training or validation under
    another recording's name, and cycles of test that overlap one of those in their recording.
    `repeats`: how many of them are such cycles, if any. `pairs`: the first three counts for each
    two sets, such as `train+val`. `patients` is None if patients are unknown. `initial_weights`:
    those that may know any cycle, if there are some.
    """
    test = cycles[cycles["set"] == "test"]
    twins = _overlapping_cycles(cycles)
    repeats = _count_twins(twins, ["test"], ["train", "val"])
    return {
        **_count_shared(cycles, twins, ["test"], ["train", "val"]),
        "test_patients": test["patient"].nunique(),
        "test_recordings": test["recording"].nunique(),
        **({"repeats": repeats} if repeats else {}),
        **({"initial_weights": initial_weights} if initial_weights else {}),
        "pairs": {
            pair: _count_shared(cycles, twins, *([name] for name in pair.split("+")))
            for pair in SET_PAIRS
        },
    }


def leakage_sentence(report: dict[str, Any]) -> str:
    """Return the sentence that is printed with every score of a split."""
    shared, patients = report["patients"], report["test_patients"]
    repeats = report.get("repeats", 0)
    duplicates = report["duplicates"] - repeats
    if shared is None:
        line = (
            "PATIENTS ARE UNKNOWN: those in test may also be in training or validation, and then "
            "these scores say nothing about new patients."
        )
    elif shared:
        line = (
            f"{shared} OF {patients} TEST PATIENTS ARE ALSO IN TRAINING OR VALIDATION: "
            "these scores say nothing about new patients."
        )
    else:
        line = f"No patient of the {patients} in test is also in training or validation."
    if duplicates:
        sounds = "1 SOUND OF TEST IS" if duplicates == 1 else f"{duplicates} SOUNDS OF TEST ARE"
        line += f" {sounds} ALSO IN TRAINING OR VALIDATION under another name."
    if repeats:
        cycles = "1 CYCLE OF TEST IS" if repeats == 1 else f"{repeats} CYCLES OF TEST ARE"
        line += f" {cycles} ANNOTATED A SECOND TIME, IN TRAINING OR VALIDATION."
    if "initial_weights" in report:
        line += (
            f"{INITIAL_WEIGHTS}{report['initial_weights']}: what they were trained on is unknown."
        )
    return line


def leakage_rows(report: dict[str, Any]) -> list[list[str]]:
    """Return the counts as rows of a table: sets, patients, recordings, duplicates."""
    rows = []
    for pair, title in SET_PAIRS.items():
        counts = [report["pairs"][pair][kind] for kind in KINDS]
        rows.append([title, *("unknown" if count is None else str(count) for count in counts)])
    shares = [f"{report[kind]} of {report[f'test_{kind}']}" for kind in ("patients", "recordings")]
    if report["patients"] is None:
        shares[0] = "unknown"
    return [*rows, ["of test, in training or validation", *shares, str(report["duplicates"])]]


def _count_shared(
    cycles: pd.DataFrame, twins: pd.DataFrame, sets: Collection[str], other_sets: Collection[str]
) -> dict[str, int | None]:
    one, other = (cycles[cycles["set"].isin(names)] for names in (sets, other_sets))
    sounds, others = (cycles[["content", "recording"]].drop_duplicates() for cycles in (one, other))
    pairs = sounds.merge(others, on="content", suffixes=("", "_other"))
    duplicates = pairs["content"][pairs["recording"] != pairs["recording_other"]]
    patients = len(set(one["patient"]) & set(other["patient"]))
    return {
        "patients": None if has_unknown_patients(cycles) else patients,
        "recordings": len(set(one["recording"]) & set(other["recording"])),
        "duplicates": duplicates.nunique() + _count_twins(twins, sets, other_sets),
    }


def _count_twins(twins: pd.DataFrame, sets: Collection[str], other_sets: Collection[str]) -> int:
    chosen = twins["set"].isin(sets) & twins["other_set"].isin(other_sets)
    return int(twins["cycle"][chosen].nunique())


def _overlapping_cycles(cycles: pd.DataFrame) -> pd.DataFrame:
    """Return the row number and set of each cycle that overlaps another one, and that one's set."""
    columns = ["recording", "set", "start_seconds", "end_seconds"]
    timed = cycles.reset_index(drop=True).reindex(columns=columns).dropna()
    by_recording = defaultdict(list)  # without groupby, which takes a second per 1000 recordings
    for number, recording, set_name, start, end in timed.itertuples(name=None):
        by_recording[recording].append((number, set_name, (start, end)))
    rows = []
    for group in by_recording.values():
        for one, other in overlapping_pairs([interval for _, _, interval in group]):
            (number, set_name, _), (other_number, other_set, _) = group[one], group[other]
            rows.append((number, set_name, other_set))
            rows.append((other_number, other_set, set_name))
    return pd.DataFrame(rows, columns=["cycle", "set", "other_set"])
