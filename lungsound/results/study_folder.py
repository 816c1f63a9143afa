"""Read study.json: a study's swept keys, and the folder of each of its runs."""

import json
import os
from pathlib import Path
from typing import Any

from lungsound.errors import LungsoundError
from lungsound.storage.files import corrupt_file_on_error, read_file
from lungsound.storage.keys import canonical_json

STUDY_FILE = "study.json"
MAX_FILENAME_BYTES = 255  # the limit of file systems


def read_study(folder: Path) -> dict[str, Any]:
    """Read study.json.

    Raises LungsoundError if `folder` is not a study's, CorruptFileError if the file is not valid.
    """
    path = folder / STUDY_FILE
    if not path.exists():
        raise LungsoundError(
            f"{folder}: expected the folder of a study, with its {STUDY_FILE}, but there is none"
        )
    content = read_file(path)
    with corrupt_file_on_error(path):
        study: dict[str, Any] = json.loads(content)
        _validate(study["swept"], study["jobs"])
    return study


def _validate(swept: list[Any], jobs: list[dict[str, Any]]) -> None:
    """Raise an exception for keys, values and folder names that no study has."""
    canonical_json([swept, jobs])  # raises for lone surrogates, which cannot be encoded
    if not all(isinstance(key, str) for key in swept) or len(swept) != len(set(swept)):
        raise ValueError("swept: expected keys")
    for job in jobs:
        name, values = Path(job["run"]).name, job["values"]
        plain = all(isinstance(value, str | int | float) for value in values.values())
        if sorted(values) != sorted(swept) or not plain:
            raise ValueError(f"{name[:60]}: expected a value of each swept key")
        if len(os.fsencode(name)) > MAX_FILENAME_BYTES:
            raise ValueError(f"{name[:60]}...: expected the name of a run's folder")
