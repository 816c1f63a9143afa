"""Age, sex and diagnosis of ICBHI 2017's patients, from the files beside its recordings."""

import re
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

DEMOGRAPHICS, DIAGNOSES = "demographic_info.txt", "patient_diagnosis.csv"
AGE = re.compile(r"\d+(\.\d+)?|NA", re.ASCII)
PARENT_LEVELS = 2  # so many folders above the recordings' own are searched too


@dataclass
class PatientMetadata:
    """Age, sex and diagnosis by patient, if known, and notes on unusable lines."""

    ages: dict[str, float] = field(default_factory=dict)
    sexes: dict[str, str] = field(default_factory=dict)
    diagnoses: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def for_patient(self, patient: str) -> dict[str, Any]:
        """Return the fields age, sex and diagnosis of `Recording`."""
        return {
            "age": self.ages.get(patient, nan),
            "sex": self.sexes.get(patient, ""),
            "diagnosis": self.diagnoses.get(patient, ""),
        }


def read_patient_metadata(folder: Path) -> PatientMetadata:
    """Read the patients' age, sex and diagnosis from the files in `folder` or above, if any."""
    metadata = PatientMetadata()
    # patient age sex BMI weight height, NA if unknown
    for number, fields in _read_fields(metadata, folder, DEMOGRAPHICS, None):
        if len(fields) < 3 or not fields[0].isdigit() or not AGE.fullmatch(fields[1]):
            metadata.notes.append(
                f"{DEMOGRAPHICS}, line {number}: expected patient, age, sex ..., but got {fields}"
            )
            continue
        patient, age, sex = fields[:3]
        if age != "NA":
            metadata.ages[patient] = float(age)
        if sex in ("M", "F"):
            metadata.sexes[patient] = sex
    for number, fields in _read_fields(metadata, folder, DIAGNOSES, ","):
        if len(fields) == 2 and fields[0].isdigit():
            metadata.diagnoses[fields[0]] = fields[1]
        elif number > 1:  # some releases have a header
            metadata.notes.append(
                f"{DIAGNOSES}, line {number}: expected patient,diagnosis, but got {fields}"
            )
    return metadata


def find_metadata_file(folder: Path, name: str) -> Path | None:
    """Find the file `name` in the folder of the recordings, or up to two above it."""
    places = [folder.absolute(), *folder.absolute().parents[:PARENT_LEVELS]]
    return next((place / name for place in places if (place / name).is_file()), None)


def name_without_device(name: str) -> str:
    """Return a recording's name without its device: 226_1b1_Pl_sc of 226_1b1_Pl_sc_LittC2SE."""
    return "_".join(name.split("_")[:4])


def _read_fields(
    metadata: PatientMetadata, folder: Path, name: str, separator: str | None
) -> list[tuple[int, list[str]]]:
    path = find_metadata_file(folder, name)
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        metadata.notes.append(f"{name} cannot be read, and is not used: {error.strerror}")
        return []
    return [
        (number, [word.strip() for word in line.split(separator)])
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
