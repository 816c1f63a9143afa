"""What every reader returns: recordings and their annotated cycles, without audio."""

from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import NamedTuple


@dataclass(frozen=True)
class Annotation:
    """One cycle: its line or event in the annotation file (from 0), its times and its class.

    `event_type` is a finer class, "" if the database has none: see `DatabaseSpec.label_sets`.
    `table_line` is the line (from 1) in a table of several recordings; `line` counts within one.
    """

    line: int
    start_seconds: float
    end_seconds: float
    label: str
    event_type: str = ""
    table_line: int | None = None

    @property
    def seconds(self) -> float:
        return self.end_seconds - self.start_seconds


@dataclass(frozen=True)
class Recording:
    """One recording, its cycles in the order of the file, and the problems of its annotation.

    `part` is the part of the database (train, intra, inter), "" if it has none. `age` is in years,
    `sex` M or F; they are NaN and "" if unknown, as are patient, device, location and diagnosis.
    `quality` is as annotated.
    """

    name: str
    audio: Path
    patient: str
    recording_index: str
    location: str
    mode: str
    device: str
    cycles: tuple[Annotation, ...]
    problems: tuple[str, ...] = ()
    annotation: str = ""  # name of the annotation's file
    part: str = ""
    age: float = nan
    sex: str = ""
    diagnosis: str = ""
    quality: str = ""

    def where(self, cycle: Annotation) -> str:
        """Return the file and line of a cycle's annotation, for messages."""
        unit = "event" if self.annotation.endswith(".json") else "line"
        return f"{self.annotation}, {unit} {cycle.table_line or cycle.line + 1}"


class ReadResult(NamedTuple):
    """Recordings sorted by name, every problem (one line each), and notes for the user."""

    recordings: list[Recording]
    problems: list[str]
    notes: list[str]
