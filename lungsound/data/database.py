"""An opened database: the table of its cycles, and their waveforms."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lungsound.data.cycles import build_cycle_rows, cycles_table, duplicate_notes
from lungsound.data.labels import LabelSet
from lungsound.data.readers.files import SYNTHETIC_MARKER
from lungsound.data.registry import DatabaseSpec
from lungsound.data.splits.checks import check_classes
from lungsound.data.splits.protocols import run_protocol
from lungsound.data.store import WaveformStore, open_waveform_store
from lungsound.errors import DataError
from lungsound.storage.keys import content_key


@dataclass(frozen=True, eq=False)
class Database:
    """A database that passed all checks, and notes on it for the user.

    `cycles` has one row per cycle, sorted by recording and cycle, with the columns of CYCLE_DTYPES:
    `cycle` is the line of the annotation file from 0, `start_sample` and `end_sample` are positions
    in `store.samples`, and `key` seeds the cycle's random draws, independent of other rows.
    `part`, `event_type`, `age` (years), `sex` and `diagnosis` are as in `Recording` and
    `Annotation`; `content` is a hash of the recording's sound. `recordings` counts those in use.
    """

    spec: DatabaseSpec
    synthetic: bool
    recordings: int
    cycles: pd.DataFrame
    store: WaveformStore
    fingerprint: str
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.spec.name


def open_database(
    spec: DatabaseSpec, root: Path, sample_rate: int, store_dir: Path, skip_bad: bool
) -> Database:
    """Read the recordings below `root`; store their waveforms at `sample_rate` Hz in `store_dir`.

    Raises DataError with the problems of all files together. With `skip_bad` recordings that have a
    problem are left out, and the problems become notes.
    """
    recordings, problems, notes = spec.read(root)
    recordings = [recording for recording in recordings if recording.cycles or recording.problems]
    store = open_waveform_store(recordings, sample_rate, store_dir)
    rows: list[dict[str, Any]] = []
    used = 0
    for recording in recordings:
        stored = store.recordings[recording.name]
        result = build_cycle_rows(recording, stored, sample_rate, spec)
        problems += result.problems
        if not result.problems and not recording.problems:
            used += 1
            rows += result.rows
            notes += result.doubts + result.notes
    count = len(problems)
    if problems and not (skip_bad and used):
        raise DataError(_problem_summary(count, root, skip_bad), tuple(problems))
    if problems:
        notes.append(f"skip_bad: {used} recordings are used; left out for {count} problems:")
        notes += [f"left out: {problem}" for problem in problems]
    cycles = cycles_table(rows)
    notes += duplicate_notes(cycles)
    fingerprint = _fingerprint(store, cycles)
    return Database(spec, is_synthetic(root), used, cycles, store, fingerprint, tuple(notes))


def is_synthetic(root: Path) -> bool:
    """Return whether the recordings in the folder are synthetic."""
    return any((folder / SYNTHETIC_MARKER).exists() for folder in (root, root.parent))


def assign_split(
    database: Database, labels: LabelSet, protocol: str, settings: Mapping[str, Any]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the cycles that are in a set, with `set` and `target` (index in `labels`), and notes.

    `settings` has the keys that protocols take. Raises DataError if the protocol cannot split this
    database, or its split cannot be trained on.
    """
    cycles, spec = database.cycles, database.spec
    sets, notes = run_protocol(spec.all_protocols[protocol], cycles, settings)
    column, annotated = spec.annotation(labels)
    notes = (*notes, *check_classes(cycles[column], sets, annotated.labels))
    used = cycles.assign(set=sets, target=encode_targets(spec, cycles, labels))[sets != ""]
    return used.reset_index(drop=True), notes


def encode_targets(spec: DatabaseSpec, cycles: pd.DataFrame, labels: LabelSet) -> pd.Series:
    """Return the index in `labels` of each cycle's class. Raises DataError for an unknown class."""
    column, annotated = spec.annotation(labels)
    unknown = sorted(set(cycles[column]) - set(annotated.labels))
    if unknown:
        raise DataError(
            f"{spec.title}: expected every {column} to be one of {', '.join(annotated.labels)}, "
            f"but got {', '.join(map(repr, unknown))}"
        )
    index = dict(zip(annotated.labels, annotated.fold_to(labels), strict=True))
    return cycles[column].map(index).astype("int64")


def _problem_summary(count: int, root: Path, skip_bad: bool) -> str:
    found = f"{count} problem{'s' * (count != 1)} in the recordings of {Path(root).absolute()}"
    if skip_bad:
        return f"{found}, and no recording without one: to skip them would leave nothing:"
    remedy = "leave these recordings out with data.skip_bad=true (--skip-bad of score):"
    return f"{found}. Mend the files, or {remedy}"


def _fingerprint(store: WaveformStore, cycles: pd.DataFrame) -> str:
    columns = ["recording", "cycle", "start_seconds", "end_seconds", "label", "event_type"]
    return content_key([store.fingerprint, cycles[columns].to_numpy(dtype=object).tolist()])
