"""Cycles that hold one sound twice, against a count over every pair of samples' sets."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lungsound.data.database import assign_split, open_database
from lungsound.data.labels import FOUR_CLASS
from lungsound.data.overlaps import overlapping_pairs
from lungsound.data.readers.icbhi import read_annotations
from lungsound.data.registry import DATABASES
from lungsound.data.splits.leakage import count_leakage, leakage_sentence
from lungsound.data.tools.audit import audit
from lungsound.errors import DataError

STEM = "101_1b1_Al_sc_Meditron"


def write_database(root: Path, *lines: str, stem: str = STEM) -> Path:
    """One recording of 4 s with these lines: start, end, crackle, wheeze."""
    root.mkdir(exist_ok=True)
    soundfile.write(root / f"{stem}.wav", np.sin(np.arange(16000) / 5), 4000, "PCM_16")
    (root / f"{stem}.txt").write_text("".join("\t".join(line.split()) + "\n" for line in lines))
    return root


@pytest.mark.parametrize("seed", range(20))
def test_pairs_are_those_of_sets_of_milliseconds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 60, 30)
    intervals = [(int(start), int(start + rng.integers(1, 30))) for start in starts]
    sounds = [set(range(*interval)) for interval in intervals]
    expected = {
        (one, other)
        for one, other in combinations(range(len(sounds)), 2)
        if 2 * len(sounds[one] & sounds[other]) >= min(len(sounds[one]), len(sounds[other]))
    }
    found = [tuple(sorted(pair)) for pair in overlapping_pairs(intervals)]
    assert len(found) == len(expected) > 20
    assert set(found) == expected


def test_published_cycles_do_not_overlap(real_data: Path) -> None:
    files = [
        [(cycle.start_seconds, cycle.end_seconds) for cycle in read_annotations(path)[0]]
        for path in (real_data / "icbhi_annotations").glob("*_*_*_*_*.txt")
    ]
    for path in (real_data / "sprsound").rglob("*.json"):
        events = json.loads(path.read_text())["event_annotation"]
        files.append([(int(event["start"]), int(event["end"])) for event in events])
    assert sum(map(len, files)) == 6898 + 7660
    assert [file for file in files if overlapping_pairs(file)] == []


@pytest.mark.parametrize(
    ("second", "where"),
    [
        ("0 1 0 0", "line 2: 0 to 1 s is annotated in line 1, too"),
        ("0.001 1.001 0 0", "line 2: 0.001 to 1.001 s is annotated in line 1, too"),
        ("0 1.05 0 0", "line 2: 0 to 1.05 s is annotated in line 1, too"),
    ],
)
def test_repeated_interval_is_a_problem_of_check_and_a_note_of_training(
    tmp_path: Path, second: str, where: str
) -> None:
    root = write_database(tmp_path / "data", "0 1 0 0", second, "2 3 0 1", "1 2 0 1", "2 3 0 1")
    problem = f"{STEM}.txt, {where}; 2 such pairs in the file"
    assert audit(DATABASES["icbhi"], root).problems == [problem]
    database = open_database(DATABASES["icbhi"], root, 4000, tmp_path / "store", False)
    assert len(database.cycles) == 5
    assert problem in database.notes


@pytest.mark.parametrize("interval", ["0 to 0.99", "0.2 to 1.2", "0 to 0.5", "0.4 to 1.3"])
def test_two_labels_for_one_interval_are_a_problem(tmp_path: Path, interval: str) -> None:
    """The same one, a second annotator's, and both limits."""
    second = interval.replace("to ", "") + " 1 1"
    root = write_database(tmp_path / "data", "2 3 1 0", "0 1 0 0", second)
    write_database(root, "0 1 0 0", stem="102_1b1_Al_sc_Meditron")
    problem = f"{STEM}.txt, line 3: {interval} s is both, but normal in line 2"
    assert audit(DATABASES["icbhi"], root).problems == [problem]
    with pytest.raises(DataError) as error:
        open_database(DATABASES["icbhi"], root, 4000, tmp_path / "store", False)
    assert error.value.problems == (problem,)
    database = open_database(DATABASES["icbhi"], root, 4000, tmp_path / "store", True)
    assert set(database.cycles["patient"]) == {"102"}


def test_cycle_in_another_one_is_a_remark(tmp_path: Path) -> None:
    """An overlap of less than half is a boundary, as two people may draw it."""
    root = write_database(tmp_path, "0 3 0 0", "1 2 1 0", "2.6 3.9 0 0", "3.3 4 0 1")
    report = audit(DATABASES["icbhi"], root)
    assert report.problems == []
    remarks = [line for line in report.warnings if "overlaps" in line]
    assert remarks == [
        f"{STEM}.txt, line 2: 1 to 2 s (crackle) overlaps line 1 (normal) by half or more; "
        "2 such pairs in the file"
    ]


def test_twins_in_two_sets_are_counted_as_leaks(tmp_path: Path) -> None:
    """The issue's example: each line of the annotations doubled, and a random split."""
    for patient in range(101, 109):
        lines = [f"{i / 4} {(i + 1) / 4} {i % 2} {i // 2 % 2}" for i in range(16) for _ in "ab"]
        write_database(tmp_path / "data", *lines, stem=f"{patient}_1b1_Al_sc_Meditron")
    database = open_database(DATABASES["icbhi"], tmp_path / "data", 4000, tmp_path / "store", False)
    cycles, _ = assign_split(database, FOUR_CLASS, "random", {"seed": 0})
    keys = list(zip(cycles["recording"], cycles["start_seconds"], strict=True))
    sets = {name: {keys[i] for i in np.flatnonzero(cycles["set"] == name)}
            for name in ("train", "val", "test")}  # fmt: skip
    tested = [key for key, name in zip(keys, cycles["set"], strict=True) if name == "test"]
    alone = count_leakage(cycles.drop(columns=["start_seconds"]))  # split.csv of release 0.1
    report = count_leakage(cycles)
    leaks = sum(key in sets["train"] | sets["val"] for key in tested)
    assert report["duplicates"] - alone["duplicates"] == report["repeats"] == leaks > 20
    twice = f" {leaks} CYCLES OF TEST ARE ANNOTATED A SECOND TIME, IN TRAINING OR VALIDATION."
    assert leakage_sentence(report) == leakage_sentence(alone) + twice
    pair, alone_pair = (one["pairs"]["val+test"]["duplicates"] for one in (report, alone))
    validated = [key for key, name in zip(keys, cycles["set"], strict=True) if name == "val"]
    assert pair - alone_pair == sum(key in sets["test"] for key in validated) > 0
