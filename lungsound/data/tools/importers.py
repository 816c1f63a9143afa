"""Other programs' annotations as a table of cycles: Audacity's label tracks, HF_Lung's labels.

HF_Lung_V1: Hsu et al., PLOS ONE 2021, https://gitlab.com/techsupportHF/HF_Lung_V1.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from lungsound.data.labels import FOUR_CLASS
from lungsound.data.readers.files import (
    missing_reason,
    name_clashes,
    parse_cycles,
    parse_number,
    quoted,
    read_lines,
    read_tree,
)
from lungsound.data.readers.table import SUFFIXES, recording_name
from lungsound.data.recordings import Annotation
from lungsound.errors import DataError, StorageError
from lungsound.storage.files import write_file

# HF_Lung's sounds -> their place in FOUR_CLASS, whose third is both (1 + 2); D is discontinuous.
SOUNDS = {"D": 1, "Wheeze": 2, "Rhonchi": 2, "Stridor": 2}
PHASES = ("I", "E")  # inhalation, exhalation
DEVICES = {"steth": "Littmann 3200", "trunc": "HF-Type-1"}  # how HF_Lung's names begin
MAX_PAUSE_SECONDS = 1.0  # between the inhalation and the exhalation of one breath
MIN_SHARED_SECONDS = 0.05  # of a sound with a breath: less is a boundary that was drawn twice
Track = tuple[tuple[Annotation, ...], tuple[str, ...]]  # annotations, problems
Split = tuple[list[Annotation], list[Annotation]]  # cycles, and annotations that are in none


def import_annotations(kind: str, root: Path, out: Path) -> list[str]:
    """Write the cycles of all recordings at and below `root` to the new table `out`.

    Return lines on what is in it and what is not. Raises DataError with every wrong line.
    """
    if out.exists():
        raise DataError(f"{out}: expected a new file, but it is there, and stays as it is (--out)")
    ending, parse, convert = FORMATS[kind]
    rows, problems, unused, without = [], list[str](), list[str](), list[str]()
    if reason := missing_reason(root, ""):
        raise DataError(f"{root}: expected the folder of the recordings, but got: {reason}")
    for audio, track, clashes in _find_tracks(root, ending):
        name = recording_name(audio.relative_to(root).as_posix())
        annotations, faults = _read_track(track, parse)
        problems += [*clashes, *faults]
        cycles, others = convert(annotations)
        unused += [f"{track}, line {other.line + 1}" for other in others]
        without += [] if cycles else [name]
        for cycle in cycles:
            times = {"start_seconds": cycle.start_seconds, "end_seconds": cycle.end_seconds}
            row = {"recording": name, **times, "label": cycle.label}
            rows.append(row | (_hf_lung_facts(audio) if kind == "hf_lung" else {}))
    if problems:
        raise DataError(
            f"{root}: these annotations cannot be used:", tuple(dict.fromkeys(problems))
        )
    if not rows:
        expected = f"one or more .wav or .flac with cycles in NAME{ending} beside it"
        raise DataError(f"{root}: expected {expected}, but there is none")
    table = pd.DataFrame(rows)
    try:
        write_file(out, table.to_csv(index=False).encode())
    except StorageError as error:
        raise StorageError(f"{out} cannot be written: {error.__cause__} (--out)") from error
    counts = ", ".join(f"{label} {count}" for label, count in table["label"].value_counts().items())
    report = [f"{out}: {len(table)} cycles of {table['recording'].nunique()} recordings: {counts}"]
    for what, places in (("recordings without", without), ("annotations outside of", unused)):
        report += [f"{what} a cycle: {len(places)}, such as {places[0]}"] if places else []
    return report


def _find_tracks(root: Path, ending: str) -> Iterator[tuple[Path, Path | None, list[str]]]:
    """Yield each recording, its track if there is one, and a problem per other file of its name."""
    for paths in read_tree(root, *SUFFIXES, ".txt").folders.values():
        clashes = name_clashes(paths)
        tracks = {path.name.lower(): path for path in paths}
        for audio in paths:
            if audio.suffix.lower() in SUFFIXES:
                track = tracks.get(f"{audio.stem}{ending}".lower())
                yield audio, track, clashes.get(audio.stem, [])


def _read_track(path: Path | None, parse: Callable[[int, str], Annotation]) -> Track:
    if path is None:
        return (), ()
    try:
        lines = read_lines(path)
    except ValueError as error:
        return (), (f"{path}: {error}",)
    # Audacity writes a label's frequencies below it, after a backslash.
    times = [(number, line) for number, line in lines if not line.startswith("\\")]
    return parse_cycles(times, parse, f"{path}, line")


def _parse_label(number: int, line: str) -> Annotation:
    cells = [cell.strip() for cell in line.split("\t")]
    if len(cells) != 3 or not cells[2]:
        raise ValueError(f"got {quoted(line)}, expected start, end and label between tabs")
    times = parse_number("start", cells[0]), parse_number("end", cells[1])
    if times[1] < times[0]:
        raise ValueError(f"end is {cells[1]}, expected one after the start, {cells[0]}")
    return Annotation(number, *times, cells[2])


def _split_regions(labels: Sequence[Annotation]) -> Split:
    """Return regions, and labels of a point in time."""
    return [one for one in labels if one.seconds], [one for one in labels if not one.seconds]


def _parse_event(number: int, line: str) -> Annotation:
    """Read a line of HF_Lung, such as I 00:00:00.969 00:00:02.124."""
    words = line.split()
    if len(words) != 3 or words[0] not in (*PHASES, *SOUNDS):
        names = ", ".join((*PHASES, *SOUNDS))
        raise ValueError(f"got {quoted(line)}, expected one of {names}, its start and its end")
    start, end = map(_parse_time, words[1:])
    if end <= start:
        raise ValueError(f"end is {words[2]}, expected one after the start, {words[1]}")
    return Annotation(number, start, end, words[0])


def _parse_time(word: str) -> float:
    try:
        time = datetime.strptime(word, "%H:%M:%S.%f")
    except ValueError:
        raise ValueError(f"got {quoted(word)}, expected a time such as 00:00:01.250") from None
    return (time - datetime(1900, 1, 1)).total_seconds()


def _split_breaths(events: Sequence[Annotation]) -> Split:
    """Return breaths with ICBHI's labels, and sounds that are in none.

    A breath is an inhalation and the exhalation that follows it within MAX_PAUSE_SECONDS; one
    without the other is a cycle, too, because HF_Lung annotates only what can be heard clearly.
    """
    breaths: list[list[Annotation]] = []  # phases
    for phase in sorted(events, key=lambda event: event.start_seconds):
        last = breaths[-1][-1] if breaths else phase
        is_near = phase.start_seconds <= last.end_seconds + MAX_PAUSE_SECONDS
        if (last.label, phase.label) == ("I", "E") and is_near:
            breaths[-1].append(phase)
        elif phase.label in PHASES:
            breaths.append([phase])
    cycles, unused = [], {event for event in events if event.label in SOUNDS}
    for phases in breaths:
        start, end = phases[0].start_seconds, max(phase.end_seconds for phase in phases)
        sounds = [event for event in events if event.label in SOUNDS and _shares(event, start, end)]
        label = FOUR_CLASS.labels[sum({SOUNDS[sound.label] for sound in sounds})]
        cycles.append(Annotation(phases[0].line, start, end, label))
        unused -= set(sounds)
    return cycles, sorted(unused, key=lambda event: event.line)


def _shares(sound: Annotation, start: float, end: float) -> bool:
    shared = min(sound.end_seconds, end) - max(sound.start_seconds, start)
    return shared >= min(MIN_SHARED_SECONDS, sound.seconds / 2)


def _hf_lung_facts(audio: Path) -> dict[str, str]:
    set_name = audio.parent.name if audio.parent.name in ("train", "test") else ""
    return {"device": DEVICES.get(audio.stem[:5], ""), "set": set_name}


FORMATS = {
    "audacity": (".txt", _parse_label, _split_regions),
    "hf_lung": ("_label.txt", _parse_event, _split_breaths),
}
