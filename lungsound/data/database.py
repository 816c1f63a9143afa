"""A database as the rest of the project sees it: one table of cycles, and the waveforms they are
cut from.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lungsound.data.readers.icbhi import read_icbhi
from lungsound.data.readers.sprsound import read_sprsound
from lungsound.data.recordings import Annotation, Recording
from lungsound.data.store import StoredRecording, WaveformStore, open_waveform_store
from lungsound.errors import DataError
from lungsound.storage.keys import content_key

SYNTHETIC_MARKER = "SYNTHETIC.txt"  # lies in or above a folder of recordings that were computed
# An annotation may end this much after its audio: times are rounded. Microseconds absorb float
# subtraction.
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
READERS = {"demo": read_icbhi, "icbhi": read_icbhi, "sprsound": read_sprsound}

RECORDING_COLUMNS = (
    "patient",
    "recording_index",
    "location",
    "mode",
    "device",
    "part",
    "age",
    "sex",
    "diagnosis",
)


@dataclass(frozen=True, eq=False)
class Database:
    """A database that was found usable: what it holds, and what a user should know of it.

    `cycles` has one row per cycle, sorted by recording and cycle, with the columns of CYCLE_DTYPES:
    `cycle` is the line of the annotation file from 0, `start_sample` and `end_sample` are positions
    in `store.samples`, and `key` names the cycle for random draws, whatever the other rows are.
    `part`, `event_type`, `age` (years), `sex` and `diagnosis` are as in `Recording` and
    `Annotation`; `content` is a hash of the recording's sound. `recordings` counts those in use.
    """

    name: str
    synthetic: bool
    recordings: int
    cycles: pd.DataFrame
    store: WaveformStore
    fingerprint: str
    notes: tuple[str, ...]


def open_database(
    name: str, root: Path, sample_rate: int, store_dir: Path, skip_bad: bool
) -> Database:
    """Read the recordings below `root`, their waveforms at `sample_rate` Hz stored in `store_dir`.

    Raises DataError with the problems of all files together; with `skip_bad` the recordings that
    have one are left out and the problems are among the notes.
    """
    recordings, problems, notes = READERS[name](root)
    recordings = [recording for recording in recordings if recording.cycles or recording.problems]
    store = open_waveform_store(recordings, sample_rate, store_dir)
    used: list[Recording] = []
    rows: list[dict[str, object]] = []
    for recording in recordings:
        stored = store.recordings[recording.name]
        recording_problems, recording_rows, recording_notes = build_cycle_rows(
            recording, stored, sample_rate
        )
        problems += recording_problems
        if not recording_problems and not recording.problems:
            used.append(recording)
            rows += recording_rows
            notes += recording_notes
    if problems and not (skip_bad and used):
        raise DataError(_problem_summary(problems, root, skip_bad), tuple(problems))
    if problems:
        notes.append(
            f"skip_bad: {len(used)} recordings are used; left out for {len(problems)} problems:"
        )
        notes += [f"left out: {problem}" for problem in problems]
    cycles = pd.DataFrame(rows, columns=list(CYCLE_DTYPES)).astype(CYCLE_DTYPES)
    cycles = cycles.sort_values(["recording", "cycle"], ignore_index=True)
    notes += duplicate_notes(cycles)
    synthetic = any((folder / SYNTHETIC_MARKER).exists() for folder in (root, root.parent))
    return Database(
        name, synthetic, len(used), cycles, store, _fingerprint(store, cycles), tuple(notes)
    )


def duplicate_notes(cycles: pd.DataFrame) -> list[str]:
    """One line for each sound that several recordings hold."""
    recordings = cycles.drop_duplicates("recording")
    groups = recordings[recordings.duplicated("content", keep=False)].groupby(
        "content", sort=False
    )["recording"]
    return [f"{' and '.join(sorted(names))} hold the same sound" for _, names in groups]


def cycle_key(recording: str, cycle: int) -> int:
    """The 64-bit name of a cycle for random draws: the first 8 bytes, big-endian, of
    sha256("recording/cycle").
    """
    return int.from_bytes(hashlib.sha256(f"{recording}/{cycle}".encode()).digest()[:8], "big")


def build_cycle_rows(
    recording: Recording, stored: StoredRecording, sample_rate: int
) -> tuple[list[str], list[dict[str, object]], list[str]]:
    """The problems that only the audio shows, the recording's rows of the table, and notes."""
    if stored["problem"]:
        return [stored["problem"]], [], []
    problems, rows = [], []
    notes = [f"{recording.audio.name}: {stored['note']}"] if stored["note"] else []
    audio_end = f"the audio's end at {stored['seconds']:.3f} s"
    for cycle in recording.cycles:
        where = f"{recording.where(cycle)}: end {cycle.end_seconds:g} s"
        overhang = cycle.end_seconds - stored["seconds"]
        end_seconds = min(cycle.end_seconds, stored["seconds"])
        start, end = (
            min(round(time * sample_rate), stored["samples"])
            for time in (cycle.start_seconds, end_seconds)
        )
        if overhang > END_TOLERANCE_SECONDS:
            problems.append(
                f"{where} is {1000 * overhang:.0f} ms after {audio_end}, expected at most 50 ms"
            )
        elif start >= end:
            problems.append(
                f"{where}, start {cycle.start_seconds:g} s: no sample lies between them before {audio_end}"
            )
        elif overhang > 0:
            notes.append(f"{where} cut to {audio_end}")
        row = _row(recording, cycle, end_seconds, stored["offset"] + start, stored["offset"] + end)
        rows.append({**row, "content": stored["content"]})
    return problems, rows, notes


def _row(
    recording: Recording, cycle: Annotation, end_seconds: float, start_sample: int, end_sample: int
) -> dict[str, object]:
    return {
        "recording": recording.name,
        **{name: getattr(recording, name) for name in RECORDING_COLUMNS},
        "cycle": cycle.line,
        "start_seconds": cycle.start_seconds,
        "end_seconds": end_seconds,
        "label": cycle.label,
        "event_type": cycle.event_type,
        "start_sample": start_sample,
        "end_sample": end_sample,
        "key": cycle_key(recording.name, cycle.line),
    }


def _problem_summary(problems: list[str], root: Path, skip_bad: bool) -> str:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    found = f"{count} in the recordings of {Path(root).absolute()}"
    if skip_bad:
        return f"{found}, and no recording without one: to skip them would leave nothing:"
    return f"{found}. Mend the files, or leave these recordings out with data.skip_bad=true (--skip-bad of score):"


def _fingerprint(store: WaveformStore, cycles: pd.DataFrame) -> str:
    columns = ["recording", "cycle", "start_seconds", "end_seconds", "label", "event_type"]
    return content_key([store.fingerprint, cycles[columns].to_numpy(dtype=object).tolist()])
