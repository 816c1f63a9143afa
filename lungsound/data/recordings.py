"""What every database's reader returns: recordings and their annotated cycles, no audio."""

from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import NamedTuple


@dataclass(frozen=True)
class Annotation:
    """One cycle: its place in the annotation file (line or event, from 0), times in seconds, and
    one of LABELS.

    `event_type` is the class as annotated, one of SPRSOUND_LABELS; "" where the database has no
    finer classes.
    """

    line: int
    start_seconds: float
    end_seconds: float
    label: str
    event_type: str = ""


@dataclass(frozen=True)
class Recording:
    """One recording, its cycles in the file's order, and what is wrong with its annotation.

    `part` is the database's own (train, intra, inter), "" where it has none. `age` is in years,
    `sex` M or F; NaN and "" where they, or the diagnosis, are not known.
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

    def where(self, cycle: Annotation) -> str:
        """The place of a cycle, for messages."""
        return f"{self.annotation}, {'event' if self.annotation.endswith('.json') else 'line'} {cycle.line + 1}"


class ReadResult(NamedTuple):
    """A reader's result: recordings sorted by name, every problem (one line each), and what a user
    should know.
    """

    recordings: list[Recording]
    problems: list[str]
    notes: list[str]
