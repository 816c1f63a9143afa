"""The table of cycles: one row per annotated cycle, with its position in the store's samples."""

import hashlib
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lungsound.data.overlaps import describe_overlaps
from lungsound.data.recordings import Annotation, Recording
from lungsound.data.registry import DatabaseSpec
from lungsound.data.store import StoredRecording

# An annotation may end this much after its audio, as times are rounded. The microsecond is for the
# floating-point error of the difference.
END_TOLERANCE_SECONDS = 0.050 + 1e-6
MIN_CYCLE_SECONDS = 0.050  # no published cycle or event is shorter than 0.1 s
# An end at this many times the audio's length is a number of another unit.
UNIT_RATIO = 100
# A header of one channel for two doubles the audio, less the tolerance at the annotations' end.
LONG_AUDIO_RATIO = 1.95
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
    """The rows of one recording, the problems of its audio and cycles, doubts and notes.

    A doubt is a problem to `data check`, and a note to a run.
    """

    rows: list[dict[str, Any]]
    problems: list[str]
    doubts: list[str]
    notes: list[str]


def cycle_key(recording: str, cycle: int) -> int:
    """Return the cycle's 64-bit key for random draws, from the SHA-256 of recording/cycle."""
    return int.from_bytes(hashlib.sha256(f"{recording}/{cycle}".encode()).digest()[:8], "big")


def build_cycle_rows(
    recording: Recording, stored: StoredRecording, sample_rate: int, spec: DatabaseSpec
) -> RecordingRows:
    """Return the table rows of a recording whose audio is `stored` at `sample_rate` Hz."""
    seconds = stored["seconds"]
    if problem := stored["problem"] or _unit_problem(recording, seconds, spec.min_longest_seconds):
        return RecordingRows([], [problem], [], [])
    notes = [f"{recording.audio.name}: {stored['note']}"] if stored["note"] else []
    notes += _length_notes(recording, seconds, spec.gapless)
    overlaps = describe_overlaps(recording)
    doubts = _silence_doubts(recording, stored) + overlaps.repeats
    result = RecordingRows([], overlaps.conflicts, doubts, notes + overlaps.parts)
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


def _unit_problem(recording: Recording, seconds: float, min_longest_seconds: float) -> str:
    """Return a problem if the annotation's times must be in another unit, or ""."""
    lengths = [cycle.seconds for cycle in recording.cycles]
    end = max((cycle.end_seconds for cycle in recording.cycles), default=0)
    limit = min_longest_seconds * (2 if 2 * end < seconds else 1)  # all shrank, or only the cycles
    if lengths and max(lengths) < limit:
        fault = f"the longest of its {len(lengths)} cycles has {1000 * max(lengths):g} ms"
    elif end > UNIT_RATIO * seconds:
        fault = f"its cycles end at {end:g} s, after the audio's end at {seconds:.3f} s"
    else:
        return ""
    unit = "milliseconds" if recording.annotation.endswith(".json") else "seconds"
    return f"{recording.annotation}: {fault}; expected {unit}: are its times in another unit?"


def _length_notes(recording: Recording, seconds: float, gapless: bool) -> list[str]:
    """Return notes on cycles far shorter than a breath, and on audio without annotation."""
    notes = []
    if short := [one for one in recording.cycles if one.seconds < MIN_CYCLE_SECONDS]:
        limit = f"shorter than {1000 * MIN_CYCLE_SECONDS:g} ms, as no breath or event is"
        notes.append(f"{recording.annotation}: {_count(short, recording)} {limit}")
    end = max((cycle.end_seconds for cycle in recording.cycles), default=seconds)
    if gapless and seconds >= LONG_AUDIO_RATIO * end:
        audio = f"{recording.audio.name}: {seconds:.3f} s of audio, annotated only up to {end:g} s"
        notes.append(f"{audio}: are its channels and rate right?")
    return notes


def _silence_doubts(recording: Recording, stored: StoredRecording) -> list[str]:
    """Return a line if the samples of the whole file, or in more than half a cycle, are equal."""
    rate_hz, edges, file = stored["rate_hz"], stored["silence"], recording.audio.name
    if edges == [0, round(stored["seconds"] * rate_hz)]:
        return [f"{file}: silent: all its {edges[1]} samples are equal"]
    silent = []
    for cycle in recording.cycles:
        within = np.diff(np.clip(edges, cycle.start_seconds * rate_hz, cycle.end_seconds * rate_hz))
        if within[::2].sum() > cycle.seconds * rate_hz / 2:
            silent.append(cycle)
    if not silent:
        return []
    return [f"{file}: {_count(silent, recording)} silent: most of their samples are equal"]


def _count(cycles: list[Annotation], recording: Recording) -> str:
    numbers = ", ".join(str(cycle.line + 1) for cycle in cycles)
    return f"{len(cycles)} of {len(recording.cycles)} cycles ({numbers}) are"


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
