"""What a database's folder holds, against what its paper promises, and everything that is wrong
with it.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import soundfile
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from lungsound.data.audio import read_audio
from lungsound.data.database import READERS, build_cycle_rows, duplicate_notes
from lungsound.data.labels import FOUR_CLASS, SPRSOUND_SEVEN
from lungsound.data.readers.sprsound import ANNOTATION_FOLDERS, PARTS, POOR_QUALITY
from lungsound.data.recordings import Recording
from lungsound.data.store import StoredRecording, content_hash
from lungsound.errors import DataError

ALL_PARTS = "all"  # the column of the whole database; ICBHI has no other
# Rows of the table with a number, or "named" where the source names a value without one. ICBHI:
# Rocha et al. 2018; the rates are those of the published files. SPRSound: totals and the inter
# part's recordings as published (IEEE DataPort, the database's repository); train and intra counted
# from the published annotations; inter's children and events are the totals less these (intra's
# children are train's).
PUBLISHED: dict[str, dict[str, dict[str, int | str]]] = {
    "icbhi": {
        ALL_PARTS: {
            "recordings": 920, "patients": 126, "cycles": 6898,
            "normal": 3642, "crackle": 1864, "wheeze": 886, "both": 506, "minutes": 330,
            **dict.fromkeys(["44100 Hz", "10000 Hz", "4000 Hz", "24 bits", "16 bits"], "named"),
            **dict.fromkeys(["AKGC417L", "LittC2SE", "Litt3200", "Meditron"], "named"),
        },
    },
    "sprsound": {
        "train": {
            "recordings": 1949, "patients": 251, "cycles": 6656, "Normal": 5159, "Fine Crackle": 912,
            "Coarse Crackle": 49, "Wheeze": 452, "Rhonchi": 39, "Stridor": 15, "Wheeze+Crackle": 30, "minutes": 352,
        },
        "inter": {"recordings": 355, "patients": 41, "cycles": 1429},
        "intra": {
            "recordings": 379, "patients": 162, "cycles": 1004, "Normal": 688, "Fine Crackle": 175,
            "Coarse Crackle": 14, "Wheeze": 108, "Rhonchi": 14, "Stridor": 2, "Wheeze+Crackle": 3,
        },
        ALL_PARTS: {
            "recordings": 2683, "patients": 292, "cycles": 9089,
            **dict.fromkeys(["8000 Hz", "16 bits", "Yunting"], "named"),
        },
    },
}  # fmt: skip
# Full scale is within one step of 16 bits of 1. A tone of 50 Hz or more that only just reaches it
# stays there for 2 samples at 44.1 kHz, and for fewer at lower rates: 5 in a row have been cut off.
FULL_SCALE, MIN_CLIPPED_RUN = 1 - 2.0**-15, 5
CLIPPING_NOTE = (
    f"lie {MIN_CLIPPED_RUN} or more in a row at full scale, where a sound that just fits has 1 or 2"
)
BIT_DEPTHS = {
    "PCM_U8": "8 bits",
    "PCM_S8": "8 bits",
    "PCM_16": "16 bits",
    "PCM_24": "24 bits",
    "PCM_32": "32 bits",
}
WORKERS = 4  # each holds one recording


class AudioMeasurements(NamedTuple):
    """What one recording's audio shows: how a store would list it, and what only a check asks."""

    stored: StoredRecording
    bits: str  # such as "16 bits", or libsndfile's name where samples are no plain integers; "" where unreadable
    silent: bool  # all samples are equal
    clipped: int  # samples in a row of MIN_CLIPPED_RUN or more at full scale


class AuditReport(NamedTuple):
    """What a check found.

    `table` has a row a quantity and two columns a part, (part, "here") and (part, "promised"); None
    where a part is not there, or nothing is promised of it. `problems` and `warnings` have one line
    each and name their file.
    """

    table: pd.DataFrame
    problems: list[str]
    warnings: list[str]


def check(name: str, root: Path) -> AuditReport:
    """Read all of the database `name` ("icbhi", "sprsound") below `root`, audio too.

    Memory stays at a few recordings, whatever the database's size. Raises DataError where there are
    no recordings.
    """
    recordings, problems, remarks = READERS[name](root)
    measured = measure_all(recordings)
    for recording, audio in zip(recordings, measured, strict=True):
        found, _, notes = build_cycle_rows(recording, audio.stored, audio.stored["rate_hz"])
        problems += found
        remarks += notes
        if audio.silent:
            problems.append(
                f"{recording.audio.name}: silent: all its {audio.stored['samples']} samples are equal"
            )
    remarks += [
        *_duplicate_warnings(recordings, measured),
        *_clipping_warnings(recordings, measured),
    ]
    remarks += _unexpected_format_warnings(name, recordings, measured) + _no_cycle_warnings(
        recordings
    )
    return AuditReport(_comparison_table(name, recordings, measured), problems, remarks)


def measure_all(recordings: Sequence[Recording]) -> list[AudioMeasurements]:
    """The audio of each recording, measured in threads: decoding and hashing leave Python's lock."""
    workers = max(1, min(WORKERS, os.cpu_count() or 1))
    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(measure, [recording.audio for recording in recordings])
        return list(track(done, "Reading", total=len(recordings), console=Console(stderr=True)))


def measure(audio: Path) -> AudioMeasurements:
    """One recording's audio, at its own rate; what makes it unreadable is in `stored["problem"]`."""
    try:
        samples, rate_hz, note = read_audio(audio)
    except DataError as error:
        unreadable = StoredRecording(
            offset=0, samples=0, seconds=0.0, rate_hz=0, content="", note="", problem=str(error)
        )
        return AudioMeasurements(unreadable, "", False, 0)
    stored = StoredRecording(
        offset=0, samples=len(samples), seconds=len(samples) / rate_hz, rate_hz=rate_hz,
        content=content_hash(samples, rate_hz), note=note, problem="",
    )  # fmt: skip
    return AudioMeasurements(
        stored, _bits(audio), bool((samples == samples[0]).all()), count_clipped(samples)
    )


def count_clipped(samples: NDArray[np.float32]) -> int:
    """How many of the samples [n] lie in rows of MIN_CLIPPED_RUN or more at full scale."""
    edges = np.flatnonzero(np.diff(np.abs(samples) >= FULL_SCALE, prepend=False, append=False))
    rows = edges[1::2] - edges[::2]
    return int(rows[rows >= MIN_CLIPPED_RUN].sum())


def cycle_table(recordings: Iterable[Recording]) -> pd.DataFrame:
    """One row a cycle: recording, patient, device, part, label, event_type and its annotated length
    in seconds.
    """
    columns = ("recording", "patient", "device", "part", "label", "event_type", "seconds")
    rows = [
        (recording.name, recording.patient, recording.device, recording.part, cycle.label, cycle.event_type,
         cycle.end_seconds - cycle.start_seconds)
        for recording in recordings for cycle in recording.cycles
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(columns))


def _bits(audio: Path) -> str:
    try:
        subtype = soundfile.info(audio).subtype
    except soundfile.LibsndfileError:  # a header that only read_audio can mend
        return ""
    return BIT_DEPTHS.get(subtype, subtype)


def _comparison_table(
    name: str, recordings: list[Recording], measured: list[AudioMeasurements]
) -> pd.DataFrame:
    columns: dict[tuple[str, str], dict[str, int | float | str | None]] = {}
    listed_formats = [row for row, value in PUBLISHED[name][ALL_PARTS].items() if value == "named"]
    for part, published in PUBLISHED[name].items():
        chosen = [
            number
            for number, recording in enumerate(recordings)
            if part in (recording.part, ALL_PARTS)
        ]
        found = _count(
            name,
            [recordings[number] for number in chosen],
            [measured[number] for number in chosen],
            listed_formats,
        )
        columns[part, "here"] = found if chosen else {}
        columns[part, "promised"] = dict(published)
    rows = list(dict.fromkeys(row for part in PUBLISHED[name] for row in columns[part, "here"]))
    return pd.DataFrame(
        {
            column: pd.Series([values.get(row) for row in rows], rows, object)
            for column, values in columns.items()
        }
    )


def _count(
    name: str, recordings: list[Recording], measured: list[AudioMeasurements], named: list[str]
) -> dict[str, int | float | str | None]:
    cycles = cycle_table(recordings)
    readable = [audio for audio in measured if not audio.stored["problem"]]
    formats = Counter(f"{audio.stored['rate_hz']} Hz" for audio in readable)
    formats.update(audio.bits for audio in readable if audio.bits)
    formats.update(recording.device for recording in recordings)
    classes, column = (
        (SPRSOUND_SEVEN.labels, "event_type")
        if name == "sprsound"
        else (FOUR_CLASS.labels, "label")
    )
    seconds = pd.Series([audio.stored["seconds"] for audio in readable], dtype=float)
    return {
        "recordings": len(recordings),
        "patients": len({recording.patient for recording in recordings}),
        "cycles": len(cycles),
        **{label: int((cycles[column] == label).sum()) for label in classes},
        **{value: formats[value] for value in [*named, *sorted(formats.keys() - set(named))]},
        "minutes": float(seconds.sum() / 60),
        **_duration_stats("recording", seconds),
        **_duration_stats("cycle", cycles["seconds"]),
    }


def _duration_stats(unit: str, seconds: pd.Series) -> dict[str, int | float | str | None]:
    values = (seconds.min(), seconds.mean(), seconds.max()) if len(seconds) else (None, None, None)
    return {
        f"{kind} {unit}, s": value
        for kind, value in zip(("shortest", "mean", "longest"), values, strict=True)
    }


def _duplicate_warnings(
    recordings: list[Recording], measured: list[AudioMeasurements]
) -> list[str]:
    rows = [
        (recording.audio.name, audio.stored["content"])
        for recording, audio in zip(recordings, measured, strict=True)
        if not audio.stored["problem"]
    ]
    return duplicate_notes(pd.DataFrame(rows, columns=["recording", "content"]))


def _clipping_warnings(recordings: list[Recording], measured: list[AudioMeasurements]) -> list[str]:
    return [
        f"{recording.audio.name}: clipped: {audio.clipped} of its {audio.stored['samples']} samples "
        f"({100 * audio.clipped / audio.stored['samples']:.2g} %) {CLIPPING_NOTE}"
        for recording, audio in zip(recordings, measured, strict=True)
        if audio.clipped and not audio.silent
    ]


def _unexpected_format_warnings(
    name: str, recordings: list[Recording], measured: list[AudioMeasurements]
) -> list[str]:
    """Rates, bit depths and devices of which the database's paper knows nothing."""
    known = [row for row, value in PUBLISHED[name][ALL_PARTS].items() if value == "named"]
    return [
        f"{recording.audio.name}: {value}, not one of {', '.join(known)}"
        for recording, audio in zip(recordings, measured, strict=True)
        for value in (f"{audio.stored['rate_hz']} Hz", audio.bits, recording.device)
        if value and value not in known and not audio.stored["problem"]
    ]


def _no_cycle_warnings(recordings: list[Recording]) -> list[str]:
    """Recordings of poor quality, which SPRSound annotates as such, and others without an event."""
    remarks, poor_quality_counts = [], Counter[str]()
    for recording in recordings:
        if recording.part and not recording.cycles and not recording.problems:
            annotation = (
                recording.audio.parents[1]
                / ANNOTATION_FOLDERS[recording.part]
                / recording.annotation
            )
            quality = json.loads(annotation.read_bytes()).get("record_annotation")
            poor_quality_counts[recording.part] += quality == POOR_QUALITY
            if quality != POOR_QUALITY:
                remarks.append(
                    f"{recording.annotation}: annotated {quality}, and no event, expected one or more"
                )
    counts = [
        f"{poor_quality_counts[part]} of {part}" for part in PARTS if poor_quality_counts[part]
    ]
    if counts:
        remarks.append(
            f"{poor_quality_counts.total()} recordings are annotated {POOR_QUALITY} and have no cycle: {', '.join(counts)}"
        )
    return remarks
