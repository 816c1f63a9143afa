"""The table of cycles: one row per annotated cycle, with its position in the store's samples."""

import hashlib
from typing import Any, NamedTuple

import pandas as pd

from lungsound.data.overlaps import describe_overlaps
from lungsound.data.recordings import Annotation, Recording
from lungsound.data.store import StoredRecording

# An annotation may end this much after its audio, as times are rounded. The microsecond is for the
# floating-point error of the difference.
END_TOLERANCE_SECONDS = 0.050 + 1e-6
CYCLE_DTYPES = {
    "recording": "str",
    "patient": "str",
    "recording_index": "str",
    "location": "str",
    "mode": "str",
    "device": "str",
    "cycle": "int64",
    "start_seconds": "float64",
    "end_seconds": "float64",
    "label": "str",
    "start_sample": "int64",
    "end_sample": "int64",
    "key": "uint64",
    "part": "str",
    "event_type": "str",
    "age": "float64",
    "sex": "str",
    "diagnosis": "str",
    "content": "str",
}
RECORDING_COLUMNS = [name for name in CYCLE_DTYPES if name in Recording.__dataclass_fields__]


class RecordingRows(NamedTuple):
    """The rows of one recording, the problems of its cycles, intervals annotated twice, notes."""

    rows: list[dict[str, Any]]
    problems: list[str]
    repeats: list[str]
    notes: list[str]


def cycle_key(recording: str, cycle: int) -> int:
    """Return the cycle's 64-bit key for random draws, from the SHA-256 of recording/cycle."""
    return int.from_bytes(hashlib.sha256(f"{recording}/{cycle}".encode()).digest()[:8], "big")


def build_cycle_rows(
    recording: Recording, stored: StoredRecording, sample_rate: int
) -> RecordingRows:
    """Return the table rows of a recording whose audio is `stored` at `sample_rate` Hz."""
    if stored["problem"]:
        return RecordingRows([], [stored["problem"]], [], [])
    notes = [f"{recording.audio.name}: {stored['note']}"] if stored["note"] else []
    overlaps = describe_overlaps(recording)
    result = RecordingRows([], overlaps.conflicts, overlaps.repeats, notes + overlaps.parts)
    shared = {name: getattr(recording, name) for name in RECORDING_COLUMNS}
    shared |= {"recording": recording.name, "content": stored["content"]}
    for cycle in recording.cycles:
        start_seconds, end_seconds = cycle.start_seconds, min(cycle.end_seconds, stored["seconds"])
        start, end = (
            min(round(seconds * sample_rate), stored["samples"])
            for seconds in (start_seconds, end_seconds)
        )
        _check_end(result, recording, stored, cycle, has_samples=start < end)
        row = {
            "cycle": cycle.line,
            "start_seconds": start_seconds,
            "end_seconds": end_seconds,
            "label": cycle.label,
            "event_type": cycle.event_type,
            "start_sample": stored["offset"] + start,
            "end_sample": stored["offset"] + end,
            "key": cycle_key(recording.name, cycle.line),
        }
        result.rows.append({**shared, **row})
    return result


def cycles_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return `rows` as a table with the columns of CYCLE_DTYPES, sorted by recording and cycle."""
    cycles = pd.DataFrame(rows, columns=list(CYCLE_DTYPES)).astype(CYCLE_DTYPES)
    return cycles.sort_values(["recording", "cycle"], ignore_index=True)


def duplicate_notes(cycles: pd.DataFrame) -> list[str]:
    """Return a line for each sound that several recordings contain (columns recording, content)."""
    recordings = cycles.drop_duplicates("recording")
    duplicates = recordings[recordings.duplicated("content", keep=False)]
    groups = duplicates.groupby("content", sort=False)["recording"]
    return [f"{' and '.join(sorted(names))} hold the same sound" for _, names in groups]


def _check_end(
    result: RecordingRows,
    recording: Recording,
    stored: StoredRecording,
    cycle: Annotation,
    has_samples: bool,
) -> None:
    """Add a problem or a note to `result` if the cycle ends after the audio, or has no samples."""
    where = f"{recording.where(cycle)}: end {cycle.end_seconds:g} s"
    audio_end = f"the audio's end at {stored['seconds']:.3f} s"
    late_seconds = cycle.end_seconds - stored["seconds"]
    if late_seconds > END_TOLERANCE_SECONDS:
        late = f"is {1000 * late_seconds:.0f} ms after {audio_end}, expected at most 50 ms"
        result.problems.append(f"{where} {late}")
    elif not has_samples:
        empty = f"start {cycle.start_seconds:g} s: no sample lies between them before {audio_end}"
        result.problems.append(f"{where}, {empty}")
    elif late_seconds > 0:
        result.notes.append(f"{where} cut to {audio_end}")
