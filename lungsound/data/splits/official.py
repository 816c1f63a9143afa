"""The databases' own splits. Some lack a validation set: it is taken from training by patient."""

import os
from pathlib import Path

import pandas as pd

from lungsound.data.readers.icbhi import match_across_releases, name_without_device
from lungsound.data.readers.icbhi_files import find_icbhi_files
from lungsound.data.readers.icbhi_metadata import find_metadata_files
from lungsound.data.splits.patient import (
    has_unknown_patients,
    hold_out_validation,
    patient_split,
)
from lungsound.data.splits.table import check_names, read_split_text
from lungsound.errors import DataError

OFFICIAL_SPLIT_FILENAME = "ICBHI_challenge_train_test.txt"
SplitResult = tuple[pd.Series, tuple[str, ...]]


def official_icbhi(
    cycles: pd.DataFrame,
    seed: int,
    root: Path | str,
    file: Path | str | None = None,
    clean: bool = False,
) -> SplitResult:
    """Return ICBHI's own 60/40 split, and notes. No patient of test is in validation.

    `file` has a recording and train or test per line; the default is the published file in the
    database's folder `root`. The device at the end of a name differs between releases: unknown
    names are matched by their first four fields, and every match is noted. `clean` takes the
    recordings of patients who are also in training (156 and 218) out of test. Raises DataError if
    the file cannot be used.
    """
    path = Path(os.path.expanduser(file)) if file else find_official_file(root)
    sets, notes = _match_recordings(cycles["recording"], path, read_official_file(path))
    test = set(cycles["patient"][sets == "test"])
    shared = sorted(test & set(cycles["patient"][sets == "train"]))
    if clean and shared:
        excluded = (sets == "test") & cycles["patient"].isin(shared)
        reason = f"of patients who are also in training ({', '.join(shared)})"
        notes.append(_exclusion_note(cycles[excluded], reason))
        sets[excluded] = ""
    source = f"split=official, {path.name}"
    return hold_out_validation(cycles, sets, seed, shared, source), tuple(notes)


def official_sprsound(
    cycles: pd.DataFrame, seed: int, part: str | None = None, clean: bool = False
) -> SplitResult:
    """Return SPRSound's own split into its training part and its test part, and notes.

    `part` is inter, intra or both; None takes those that are present. The validation set is the
    same for every test part. `clean` takes sounds out of test that are also in training under
    another name. Raises DataError if a requested part is missing.
    """
    tested = _test_parts(set(cycles["part"]), part)
    set_by_part = {"train": "train", **dict.fromkeys(tested, "test")}
    sets = cycles["part"].map(set_by_part).fillna("").astype("str").rename("set")
    notes = []
    trained_sounds = cycles["content"][sets == "train"]
    copies = (sets == "test") & cycles["content"].isin(trained_sounds)
    if clean and copies.any():
        notes.append(_exclusion_note(cycles[copies], "that lie in training under another name"))
        sets[copies] = ""
    source = "split=official, the part train"
    return hold_out_validation(cycles, sets, seed, (), source), tuple(notes)


def sprsound_train_part(cycles: pd.DataFrame, seed: int, folds: int, fold: int) -> SplitResult:
    """Split SPRSound's training part as `patient_split` does; its test parts are in no set."""
    trained = cycles[cycles["part"] == "train"]
    sets, notes = patient_split(trained, seed, folds, fold)
    return sets.reindex(cycles.index, fill_value=""), notes


def column_split(cycles: pd.DataFrame, seed: int) -> SplitResult:
    """Return the split that a table's column `set` has (the cycles' part), and notes.

    If it has no val, a fifth of the training patients is val, none of whom is in test; of the
    training recordings if patients are unknown. Raises DataError if the column is not there.
    """
    sets = cycles["part"].rename("set")
    if (sets == "").all():
        raise DataError("split=column: expected a column `set` in data.table, but there is none")
    notes = []
    if left_out := int((sets == "").sum()):
        notes.append(f"the column set is empty for {left_out} cycles: they are left out")
    if (sets == "val").any():
        return sets, tuple(notes)
    if has_unknown_patients(cycles):
        cycles = cycles.assign(patient=cycles["recording"])
        notes.append("patients are unknown: validation is a fifth of the training recordings")
    tested = cycles["patient"][sets == "test"]
    return hold_out_validation(cycles, sets, seed, tested, "split=column"), tuple(notes)


def find_official_file(root: Path | str) -> Path:
    """Find ICBHI's split file by `find_metadata_files`. Raises DataError."""
    root = Path(os.path.expanduser(root))
    folder = find_icbhi_files(root).folders[0]
    found = find_metadata_files(folder, root, f"{OFFICIAL_SPLIT_FILENAME}|official_split.txt")
    if not found:
        raise DataError(
            f"split=official: expected {OFFICIAL_SPLIT_FILENAME} in the database's folder {root}, "
            "up to two above or below it, but it is not there. Get it from the database's page, or "
            "name it: split.file=PATH"
        )
    return found[0]


def read_official_file(file: Path) -> dict[str, str]:
    """Read ICBHI's split file: recording -> train or test. Raises DataError."""
    sets: dict[str, str] = {}
    first_line: dict[str, int] = {}
    problems = []
    text = read_split_text(file, "official split")
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        where = f"{file.name}, line {number}:"
        name = name_without_device(words[0])
        if len(words) != 2 or words[1] not in ("train", "test"):
            problems.append(f"{where} expected a recording and train or test: {line[:60]!r}")
        elif name in first_line:
            first = first_line[name]
            problems.append(f"{where} {words[0]} is named a second time, after line {first}")
        else:
            sets[words[0]] = words[1]
            first_line[name] = number
    if not problems and not sets:
        problems.append("it is empty")
    if problems:
        message = f"The official split {file} cannot be used (split.file):"
        raise DataError(message, tuple(problems))
    return sets


def _match_recordings(
    recording: pd.Series, path: Path, listed: dict[str, str]
) -> tuple[pd.Series, list[str]]:
    """Return the `listed` set of each cycle's recording, "" if it is not listed, and notes."""
    names, file_name = set(recording), path.name
    matched = match_across_releases(listed.keys() - names, names - listed.keys())
    notes = [f"{file_name}: {name} is taken for {other}" for name, other in sorted(matched.items())]
    set_by_name = {matched.get(name, name): set_name for name, set_name in listed.items()}
    check_names(path, set_by_name.keys(), names)
    sets = recording.map(set_by_name).fillna("").astype("str").rename("set")
    unlisted = sorted(set(recording[sets == ""]))
    if unlisted:
        notes.append(
            f"{file_name} does not name {len(unlisted)} recordings, which are left out: "
            f"{', '.join(unlisted[:10])}{' ...' * (len(unlisted) > 10)}"
        )
    if unused := len(listed) - recording[sets != ""].nunique():
        notes.append(f"{unused} of the {len(listed)} recordings in {file_name} are not in use")
    return sets, notes


def _test_parts(present: set[str], part: str | None) -> set[str]:
    """Return the parts to test on. Raises DataError if one, or the training part, is missing."""
    both = {"inter", "intra"}
    tested = {None: present & both, "both": both}.get(part, {str(part)})
    missing = ({"train"} | (tested or both)) - present
    if missing:
        raise DataError(
            f"split.part={part or 'null'}: expected the parts train and "
            f"{' and '.join(sorted(tested)) or 'inter or intra'} of SPRSound, but there is no "
            f"{' and no '.join(sorted(missing))}, only {', '.join(sorted(present))}"
        )
    return tested


def _exclusion_note(cycles: pd.DataFrame, reason: str) -> str:
    recordings = cycles["recording"].nunique()
    return f"left out of test: {recordings} recordings, {len(cycles)} cycles, {reason}"
