"""Protocols by patient, and the databases' own splits. `splits.py` has the paper's, and splits from
a file.
"""

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from lungsound.data.readers.icbhi import match_across_releases
from lungsound.data.readers.icbhi_metadata import name_without_device
from lungsound.errors import DataError

OFFICIAL_SPLIT_FILENAME = "ICBHI_challenge_train_test.txt"
VALIDATION_FOLDS = (
    5  # one of them is validation: 20 % of what is not test, as in the paper's protocol
)
SplitResult = tuple[pd.Series, tuple[str, ...]]


def patient_split(cycles: pd.DataFrame, folds: int, fold: int, seed: int) -> pd.Series:
    """Patients disjoint: fold `fold` of `folds` is test, a fifth of the other patients val; classes
    stratified.

    As even as whole patients allow (scikit-learn's StratifiedGroupKFold, which deals the patients
    with the most uneven classes first: `seed` shuffles those alike, so that other seeds change less
    than other folds). The rows' order does not matter. Raises DataError where there are fewer
    patients than folds.
    """
    sets = pd.Series("train", index=cycles.index, name="set", dtype="str")
    sets.iloc[_patient_fold(cycles, folds, fold, seed)] = "test"
    return _hold_out_validation(cycles, sets, seed, (), "split=patient")


def official_icbhi(cycles: pd.DataFrame, file: Path, seed: int, remove_leaks: bool) -> SplitResult:
    """ICBHI's own 60/40 split, and notes; validation is cut from training by patient, without a
    patient of test.

    `file` has a recording and train or test a line. Releases differ in the device a name ends with:
    names that are not there are matched on their first four fields, and every match is noted.
    `remove_leaks` takes the recordings of patients who are in training too (156 and 218) out of
    test. Raises DataError where the file cannot be used.
    """
    listed = _read_official(file)
    recordings = cycles["recording"].unique()
    matched = match_across_releases(
        listed.keys() - set(recordings), set(recordings) - listed.keys()
    )
    notes = [f"{file.name}: {name} is taken for {other}" for name, other in sorted(matched.items())]
    sets = (
        cycles["recording"]
        .map({matched.get(name, name): where for name, where in listed.items()})
        .fillna("")
    )
    sets = sets.astype("str").rename("set")
    if unlisted := sorted(set(cycles["recording"][sets == ""])):
        notes.append(
            f"{file.name} does not name {len(unlisted)} recordings, which are left out: {', '.join(unlisted)}"
        )
    if unused := len(listed) - cycles["recording"][sets != ""].nunique():
        notes.append(f"{unused} of the {len(listed)} recordings in {file.name} are not in use")
    test = set(cycles["patient"][sets == "test"])
    shared = sorted(test & set(cycles["patient"][sets == "train"]))
    if remove_leaks and shared:
        excluded = (sets == "test") & cycles["patient"].isin(shared)
        notes.append(
            _exclusion_note(
                cycles[excluded], f"of patients who are also in training ({', '.join(shared)})"
            )
        )
        sets[excluded] = ""
    return _hold_out_validation(cycles, sets, seed, shared, f"split=official, {file.name}"), tuple(
        notes
    )


def official_sprsound(
    cycles: pd.DataFrame, part: str | None, seed: int, clean: bool
) -> SplitResult:
    """SPRSound's training against its test part (`inter`, `intra`, or `both`; None: those that are
    there), and notes.

    Validation is cut from training by patient, whatever test parts there are. `clean` takes out of
    test what lies in training under another name. Raises DataError where a part that is asked for
    is not there.
    """
    there = set(cycles["part"])
    requested = {None: there & {"inter", "intra"}, "both": {"inter", "intra"}}.get(part, {part})
    if missing := ({"train"} | requested) - there or (
        {"inter", "intra"} if not requested else set()
    ):
        raise DataError(
            f"split.part={'null' if part is None else part}: expected the parts train and "
            f"{' and '.join(map(str, sorted(requested, key=str))) or 'inter or intra'} of SPRSound, but there is no "
            f"{' and no '.join(sorted(map(str, missing)))}, only {', '.join(sorted(there))}"
        )
    sets = (
        cycles["part"]
        .map({"train": "train", **dict.fromkeys(requested, "test")})
        .fillna("")
        .astype("str")
    )
    notes = []
    copies = (sets == "test") & cycles["content"].isin(cycles["content"][sets == "train"])
    if clean and copies.any():
        notes.append(_exclusion_note(cycles[copies], "that lie in training under another name"))
        sets[copies] = ""
    return _hold_out_validation(
        cycles, sets.rename("set"), seed, (), "split=official, the part train"
    ), tuple(notes)


def _hold_out_validation(
    cycles: pd.DataFrame, sets: pd.Series, seed: int, excluded_patients: Iterable[str], source: str
) -> pd.Series:
    """`sets` with a fifth of the training patients in val, but for `excluded_patients` ones;
    `source`: what made the sets.
    """
    candidates = np.flatnonzero(
        (sets == "train") & ~cycles["patient"].isin(list(excluded_patients))
    )
    try:
        chosen = _patient_fold(cycles.iloc[candidates], VALIDATION_FOLDS, 0, seed)
    except DataError as error:
        raise DataError(
            f"No validation set can be cut from training by patient. {error} ({source})"
        ) from error
    sets = sets.copy()
    sets.iloc[candidates[chosen]] = "val"
    return sets


def _patient_fold(cycles: pd.DataFrame, folds: int, fold: int, seed: int) -> np.ndarray:
    """Positions of the cycles in one fold; the finest classes there are stay in proportion."""
    patients = cycles["patient"].nunique()
    if patients < folds:
        raise DataError(
            f"Expected at least {folds} patients for {folds} folds by patient, but got {patients}"
        )
    finest_label = cycles["event_type"].where(cycles["event_type"] != "", cycles["label"])
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="The least populated class"
        )  # check_classes says what it leads to
        try:
            parts = list(splitter.split(cycles, finest_label, cycles["patient"]))
        except ValueError as error:
            raise DataError(
                f"No {folds} folds by patient can be made of {len(cycles)} cycles: {error}"
            ) from error
    return np.asarray(parts[fold][1])


def _exclusion_note(cycles: pd.DataFrame, why: str) -> str:
    return (
        f"left out of test: {cycles['recording'].nunique()} recordings, {len(cycles)} cycles, {why}"
    )


def _read_official(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(
            f"The official split {file} cannot be read: {error.strerror} (split.file)"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"The official split {file} is not a text file: {error.reason} (split.file)"
        ) from error
    named: dict[str, str] = {}
    fields: dict[str, int] = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or words[1] not in ("train", "test"):
            problems.append(
                f"{file.name}, line {number}: expected a recording and train or test: {line[:60]!r}"
            )
        elif name_without_device(words[0]) in fields:
            first = fields[name_without_device(words[0])]
            problems.append(
                f"{file.name}, line {number}: {words[0]} is named a second time, after line {first}"
            )
        else:
            named[words[0]], fields[name_without_device(words[0])] = words[1], number
    if problems or not named:
        raise DataError(
            f"The official split {file} cannot be used (split.file):",
            tuple(problems or ["it is empty"]),
        )
    return named
