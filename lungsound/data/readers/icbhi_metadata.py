"""Age, sex and diagnosis of ICBHI 2017's patients, from the files beside its recordings."""

import contextlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lungsound.data.readers.files import (
    decode_text,
    list_files,
    quoted,
    read_content,
    read_tree,
    split_cells,
)
from lungsound.errors import DataError

# Most copies have demographic_info.txt and patient_diagnosis.csv; the publisher's names are
# ICBHI_Challenge_demographic_information.txt and ICBHI_Challenge_diagnosis.txt.
DEMOGRAPHICS = r"(icbhi_challenge_)?(patient_)?demographics?(_info(rmation)?)?[.](txt|csv|tsv)"
DIAGNOSES = r"(icbhi_challenge_)?(patient_)?diagnosis[.](txt|csv|tsv)"
SUFFIXES = (".txt", ".csv", ".tsv")
AGE = re.compile(r"\d{1,2}([.,]\d+)?|1[01]\d", re.ASCII)
SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}
UNKNOWN = ("", "na", "n/a", "nan", "-", "?")
PARENT_LEVELS = 2  # so many folders above the recordings' own are searched too


def read_patient_metadata(
    folders: Sequence[Path], root: Path
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Read the patients' age, sex and diagnosis from the files that `find_metadata_files` finds.

    Returns patient -> those fields of `Recording` that are known, the first of several, and notes.
    """
    patients: dict[str, dict[str, Any]] = defaultdict(dict)
    notes: list[str] = []
    for pattern, parse in ((DEMOGRAPHICS, _parse_person), (DIAGNOSES, _parse_diagnosis)):
        found = [find_metadata_files(folder, root, pattern) for folder in (*folders, root)]
        for first, *others in dict.fromkeys(tuple(paths) for paths in found if paths):
            if others:
                names = " and ".join(path.name for path in others)
                notes.append(f"{first.name} is used, not {names} beside it")
            notes += _read_lines(first, parse, patients)
    return patients, notes


def find_metadata_files(folder: Path, root: Path, pattern: str) -> list[Path]:
    """Find the files with a name of `pattern` (any case), all of them in the same folder.

    This is the recordings' `folder`, or else the nearest of the two above it, or the uppermost one
    below `root`.
    """
    for paths in _list_places(folder, root):
        found = [path for path in paths if re.fullmatch(pattern, path.name, re.IGNORECASE)]
        if found:
            return found
    return []


def _list_places(folder: Path, root: Path) -> Iterator[list[Path]]:
    for place in [folder.absolute(), *folder.absolute().parents[:PARENT_LEVELS]]:
        with contextlib.suppress(DataError):  # this user need not be allowed to list those above
            yield list_files(place, *SUFFIXES)
    yield from read_tree(root, *SUFFIXES).folders.values()


def _read_lines(
    path: Path,
    parse: Callable[[list[str]], dict[str, Any]],
    patients: dict[str, dict[str, Any]],
) -> list[str]:
    """Add the fields of each line's patient to `patients`; return notes on unusable lines."""
    try:
        lines = decode_text(read_content(path), "replace").splitlines()
    except ValueError as error:
        return [f"{path.name}: {error}; it is not used"]
    notes: list[str] = []
    read: dict[str, int] = {}  # patient -> line
    order: list[int] = []
    contrary: list[int] = []
    for number, line in enumerate(lines, start=1):
        cells = split_cells(line)
        if number == 1 and not any(map(str.isdigit, cells)):
            order = _column_order(cells)
            continue
        if not line.strip():
            continue
        if order:
            cells = [cells[place] for place in order if place < len(cells)]
        try:
            if not cells[0].isdigit():
                raise ValueError("a patient's number first")
            if cells[0] in read:
                raise ValueError(f"one line per patient, the first is line {read[cells[0]]}")
            fields = parse(cells)
            if fields | patients[cells[0]] != patients[cells[0]] | fields:
                contrary.append(number)
            patients[cells[0]] = fields | patients[cells[0]]
            read[cells[0]] = number
        except ValueError as error:
            notes.append(f"{path.name}, line {number}: expected {error}, but got {quoted(cells)}")
    if contrary:
        fault = f"{len(contrary)} lines contradict a file that is used, such as line {contrary[0]}"
        notes.append(f"{path}: {fault}")
    return notes if read or notes else [f"{path.name}: expected a line per patient, but got none"]


def _column_order(header: list[str]) -> list[int]:
    """Return the positions of patient, age and sex in a header that names them, or []."""
    order: list[int] = []
    for name in ("patient|subject|id", "age", "sex|gender"):
        named = [place for place, cell in enumerate(header) if re.match(name, cell, re.IGNORECASE)]
        order += named[:1]
    return order if len(order) == 3 else []


def _parse_person(cells: list[str]) -> dict[str, Any]:
    """Parse patient, age and sex; BMI, weight and height follow. Raises ValueError."""
    if len(cells) < 3:
        raise ValueError("patient, age, sex ...")
    _, age, sex = cells[:3]
    person: dict[str, Any] = {}
    if age.lower() not in UNKNOWN:
        if not AGE.fullmatch(age):
            raise ValueError("an age in years, such as 61 or 0.75, or NA")
        person["age"] = float(age.replace(",", "."))
    if sex.lower() not in UNKNOWN:
        if sex.lower() not in SEXES:
            raise ValueError("M, F or NA as the sex")
        person["sex"] = SEXES[sex.lower()]
    return person


def _parse_diagnosis(cells: list[str]) -> dict[str, Any]:
    if len(cells) != 2:
        raise ValueError("patient, diagnosis")
    return {} if cells[1].lower() in UNKNOWN else {"diagnosis": cells[1]}
