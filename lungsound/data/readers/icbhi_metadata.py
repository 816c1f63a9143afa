"""Age, sex and diagnosis of ICBHI 2017's patients, from the files beside its recordings."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

DEMOGRAPHICS, DIAGNOSES = "demographic_info.txt", "patient_diagnosis.csv"
AGE = re.compile(r"\d+(\.\d+)?|NA", re.ASCII)
PARENT_LEVELS = 2  # so many folders above the recordings' own are searched too


def read_patient_metadata(folder: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Read the patients' age, sex and diagnosis from the files in `folder` or above, if any.

    Returns patient -> those fields of `Recording` that are known, and notes on unusable lines.
    """
    patients: dict[str, dict[str, Any]] = defaultdict(dict)
    notes: list[str] = []
    # patient age sex BMI weight height, NA if unknown
    for number, fields in _read_fields(folder, DEMOGRAPHICS, None, notes):
        if len(fields) < 3 or not fields[0].isdigit() or not AGE.fullmatch(fields[1]):
            expected = "expected patient, age, sex ..."
            notes.append(f"{DEMOGRAPHICS}, line {number}: {expected}, but got {fields}")
            continue
        patient, age, sex = fields[:3]
        if age != "NA":
            patients[patient]["age"] = float(age)
        if sex in ("M", "F"):
            patients[patient]["sex"] = sex
    for number, fields in _read_fields(folder, DIAGNOSES, ",", notes):
        if len(fields) == 2 and fields[0].isdigit():
            patients[fields[0]]["diagnosis"] = fields[1]
        elif number > 1:  # some releases have a header
            expected = "expected patient,diagnosis"
            notes.append(f"{DIAGNOSES}, line {number}: {expected}, but got {fields}")
    return patients, notes


def find_metadata_file(folder: Path, name: str) -> Path | None:
    """Find the file `name` in the folder of the recordings, or up to two above it."""
    places = [folder.absolute(), *folder.absolute().parents[:PARENT_LEVELS]]
    return next((place / name for place in places if (place / name).is_file()), None)


def _read_fields(
    folder: Path, name: str, separator: str | None, notes: list[str]
) -> list[tuple[int, list[str]]]:
    """Return the number (from 1) and fields of each line of the file `name`, if there is one."""
    path = find_metadata_file(folder, name)
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        notes.append(f"{name} cannot be read, and is not used: {error.strerror}")
        return []
    return [
        (number, [word.strip() for word in line.split(separator)])
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
