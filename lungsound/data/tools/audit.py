"""Audit a database's folder: its counts beside the published ones, and every problem."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import soundfile
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from lungsound.data.cycles import build_cycle_rows, duplicate_notes
from lungsound.data.recordings import Recording
from lungsound.data.registry import ALL_PARTS, NAMED, DatabaseSpec
from lungsound.data.store import StoredRecording, decode

# Full scale: at most one 16-bit step below 1. An unclipped tone of 50 Hz or more stays there for at
# most 2 samples at 44.1 kHz, fewer at lower rates: 5 samples in a row have been clipped.
FULL_SCALE, MIN_CLIPPED_RUN = 1 - 2.0**-15, 5
CLIPPING_NOTE = (
    f"are {MIN_CLIPPED_RUN} or more in a row at full scale; an unclipped tone has 1 or 2"
)
POOR_QUALITY = "Poor Quality"  # SPRSound's annotation of a recording without annotated events
BIT_DEPTHS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
WORKERS = 4  # each holds one recording


class AudioMeasurements(NamedTuple):
    """One recording's audio: its entry as in a store, and what only an audit measures."""

    stored: StoredRecording
    formats: list[str]  # such as "4000 Hz", "16 bits" (if it can be read) and the device
    clipped: int  # number of samples in runs of MIN_CLIPPED_RUN or more at full scale


class AuditReport(NamedTuple):
    """The result of an audit.

    `table` has a row per quantity and columns per part: (part, "here") is the count in the folder,
    (part, "promised") the published one, if any; None if there is none. `problems` and `warnings`
    have one line each and name their file.
    """

    table: pd.DataFrame
    problems: list[str]
    warnings: list[str]


Pairs = Sequence[tuple[Recording, AudioMeasurements]]


def audit(spec: DatabaseSpec, root: Path) -> AuditReport:
    """Audit a database below `root`, audio included.

    At most a few recordings are in memory. Raises DataError if there are no recordings.
    """
    recordings, problems, warnings = spec.read(root)
    named = _named_formats(spec)
    pairs = measure_all(recordings)
    for recording, audio in pairs:
        file, samples = recording.audio.name, audio.stored["samples"]
        rate_hz = audio.stored["rate_hz"]
        result = build_cycle_rows(recording, audio.stored, rate_hz, spec)
        problems += result.problems + result.doubts
        warnings += result.notes
        if audio.clipped:
            share = f"{audio.clipped} of its {samples} samples"
            percent = f"{100 * audio.clipped / samples:.3g} %"
            warnings.append(f"{file}: clipped: {share} ({percent}) {CLIPPING_NOTE}")
        if named and not audio.stored["problem"]:
            unknown = [value for value in audio.formats if value not in named]
            warnings += [f"{file}: {value}, not one of {', '.join(named)}" for value in unknown]
    sounds = [
        (recording.audio.name, audio.stored["content"])
        for recording, audio in pairs
        if not audio.stored["problem"]
    ]
    warnings += duplicate_notes(pd.DataFrame(sounds, columns=["recording", "content"]))
    warnings += _no_cycle_warnings(spec, recordings)
    return AuditReport(_comparison_table(spec, pairs), problems, warnings)


def measure_all(recordings: Sequence[Recording]) -> Pairs:
    """Measure each recording's audio in threads: decoding and hashing release the GIL."""
    with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as pool:
        done = pool.map(_measure, recordings)
        audio = track(done, "Reading", total=len(recordings), console=Console(stderr=True))
        return list(zip(recordings, audio, strict=True))


def _measure(recording: Recording) -> AudioMeasurements:
    """Measure one recording at its own rate. An unreadable one has a `stored["problem"]`."""
    samples, stored = decode(recording.audio)
    if stored["problem"]:
        return AudioMeasurements(stored, [recording.device], 0)
    formats = [f"{stored['rate_hz']} Hz", *_bit_depth(recording.audio), recording.device]
    return AudioMeasurements(stored, formats, count_clipped(samples))


def count_clipped(samples: NDArray[np.float32]) -> int:
    """Count the samples, of [n], in runs of MIN_CLIPPED_RUN or more at full scale."""
    edges = np.flatnonzero(np.diff(np.abs(samples) >= FULL_SCALE, prepend=False, append=False))
    runs = edges[1::2] - edges[::2]
    return int(runs[runs >= MIN_CLIPPED_RUN].sum())


def annotated_cycles(recordings: Iterable[Recording]) -> pd.DataFrame:
    """Return a table with one row per cycle; `seconds` is its annotated length."""
    columns = ["recording", "patient", "device", "part", "label", "event_type", "seconds"]
    rows = [
        (recording.name, recording.patient, recording.device, recording.part, cycle.label,
         cycle.event_type, cycle.seconds)
        for recording in recordings for cycle in recording.cycles
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _bit_depth(audio: Path) -> list[str]:
    """Return the bits per sample, or libsndfile's name of another format; nothing if unknown."""
    try:
        subtype = soundfile.info(audio).subtype
    except soundfile.LibsndfileError:  # a header that only read_audio can repair
        return []
    return [f"{BIT_DEPTHS[subtype]} bits" if subtype in BIT_DEPTHS else subtype]


def _named_formats(spec: DatabaseSpec) -> list[str]:
    """Return the rates, bit depths and devices that the publishers name."""
    published = spec.published.get(ALL_PARTS, {})
    return [row for row, value in published.items() if value == NAMED]


def _comparison_table(spec: DatabaseSpec, pairs: Pairs) -> pd.DataFrame:
    columns: dict[tuple[str, str], dict[str, Any]] = {}
    rows: dict[str, None] = {}
    for part, published in (spec.published or {ALL_PARTS: {}}).items():
        chosen = [pair for pair in pairs if part in (pair[0].part, ALL_PARTS)]
        columns[part, "here"] = _count(spec, chosen) if chosen or not published else {}
        if published:
            columns[part, "promised"] = dict(published)
        rows |= dict.fromkeys(columns[part, "here"])
    table = {column: [values.get(row) for row in rows] for column, values in columns.items()}
    return pd.DataFrame(table, list(rows), dtype=object)


def _count(spec: DatabaseSpec, pairs: Pairs) -> dict[str, Any]:
    cycles = annotated_cycles(recording for recording, _ in pairs)
    formats = Counter(value for _, audio in pairs for value in audio.formats if value)
    column, labels = next(iter(spec.label_sets.items()))
    named = _named_formats(spec)
    readable = [audio.stored for _, audio in pairs if not audio.stored["problem"]]
    seconds = pd.Series([stored["seconds"] for stored in readable], dtype=float)
    return {
        "recordings": len(pairs),
        "patients": len({recording.patient for recording, _ in pairs} - {""}) or None,
        "cycles": len(cycles),
        **{label: int((cycles[column] == label).sum()) for label in labels.labels},
        **{value: formats[value] for value in [*named, *sorted(formats.keys() - set(named))]},
        "minutes": float(seconds.sum() / 60),
        **_duration_stats("recording", seconds),
        **_duration_stats("cycle", cycles["seconds"]),
    }


def _duration_stats(unit: str, seconds: pd.Series) -> dict[str, float | None]:
    stats = {"shortest": seconds.min(), "mean": seconds.mean(), "longest": seconds.max()}
    return {f"{kind} {unit}, s": value if len(seconds) else None for kind, value in stats.items()}


def _no_cycle_warnings(spec: DatabaseSpec, recordings: Sequence[Recording]) -> list[str]:
    """List recordings with an annotated quality (as SPRSound's have) but without an event."""
    empty = [one for one in recordings if one.quality and not one.cycles and not one.problems]
    warnings = [
        f"{one.annotation}: annotated {one.quality}, and no event, expected one or more"
        for one in empty
        if one.quality != POOR_QUALITY
    ]
    poor = Counter(one.part for one in empty if one.quality == POOR_QUALITY)
    if poor:
        parts = dict.fromkeys([*spec.published, *poor])
        counts = ", ".join(f"{poor[part]} of {part}" for part in parts if poor[part])
        warnings.append(
            f"{poor.total()} recordings are annotated {POOR_QUALITY} and have no cycle: {counts}"
        )
    return warnings
