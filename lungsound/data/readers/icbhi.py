"""Reader of the ICBHI 2017 respiratory sound database: names and annotations, no audio.

Source: Rocha et al., "A respiratory sound database for the development of automated
classification", 2018.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lungsound.data.labels import FOUR_CLASS
from lungsound.data.readers.files import (
    index_by_stem,
    name_clashes,
    parse_cycles,
    parse_number,
    quoted,
    read_lines,
)
from lungsound.data.readers.icbhi_files import NAME_FIELDS, NAME_PATTERN, find_icbhi_files
from lungsound.data.readers.icbhi_metadata import read_patient_metadata
from lungsound.data.recordings import Annotation, ReadResult, Recording

NAME_FORMAT = "patient_index_location_mode_device, such as 101_1b1_Al_sc_Meditron"
LINE_FORMAT = "start, end, crackle 0/1, wheeze 0/1"


def read_icbhi(root: Path) -> ReadResult:
    """Read all recordings below `root`: return them sorted by name, all problems, and notes.

    `.wav` (or `.flac`) and `.txt` are in `root` or in any folders below it, see `find_icbhi_files`.
    A recording with `problems` is returned too, so that its audio is also checked. Releases of the
    database differ in the device at the end of some names: an audio file without an annotation of
    the same name gets the one that shares its first four fields, and a note. Age, sex and diagnosis
    come from the metadata files, see `find_metadata_files`. Raises DataError if there is no
    recording.
    """
    root = Path(os.path.expanduser(root))  # Path.expanduser raises if there is no such user
    files = find_icbhi_files(root)
    audio, annotations = index_by_stem(files.audio), index_by_stem(files.annotations)
    clashes = name_clashes([*files.audio, *files.annotations])
    unmatched = [name for name in audio.keys() - annotations.keys() if NAME_PATTERN.fullmatch(name)]
    matched = match_across_releases(sorted(unmatched), annotations.keys() - audio.keys())
    patients, metadata_notes = read_patient_metadata(files.folders, root)
    if patients and not patients.keys() & {stem.split("_")[0] for stem in audio}:
        other = f"such as {min(patients)}, and none of the recordings"
        metadata_notes.append(f"the files of age, sex and diagnosis are of other patients, {other}")
    recordings, problems = [], files.problems
    for stem, path in audio.items():
        try:
            name = parse_name(stem)
        except ValueError as error:
            problems.append(f"{path.name}: {error}")
            continue
        fields = {**name, **patients.get(name["patient"], {})}
        annotation = annotations.get(matched.get(stem, stem))
        ambiguous = [problem for one in {stem, matched.get(stem, stem)} for problem in clashes[one]]
        recordings.append(_recording(stem, path, annotation, fields, ambiguous))
        problems += recordings[-1].problems
    for stem in sorted(annotations.keys() - audio.keys() - set(matched.values())):
        file = annotations[stem].name
        problems.append(f"{file}: annotation without audio, expected {stem}.wav beside it")
    notes = [
        f"{audio[stem].name} is taken with {other}.txt: another release's device"
        for stem, other in matched.items()
    ]
    return ReadResult(recordings, problems, files.notes + notes + metadata_notes)


def parse_name(stem: str) -> dict[str, str]:
    """Return the fields of a file name without suffix. Raises ValueError with the wrong field."""
    values = stem.split("_")
    if len(values) != len(NAME_FIELDS):
        raise ValueError(f"the name {stem!r} has {len(values)} fields, expected 5: {NAME_FORMAT}")
    name = dict(zip(NAME_FIELDS, values, strict=True))
    for field, (pattern, expected) in NAME_FIELDS.items():
        if not re.fullmatch(pattern, name[field]):
            found = f"{field.replace('_', ' ')} {name[field]!r}"
            raise ValueError(f"{found} in the name, expected {expected}: {NAME_FORMAT}")
    return name


def match_across_releases(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """Match names with `others` by their first four fields, if exactly one of each has them."""
    by_prefix: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for side, group in enumerate((names, others)):
        for name in group:
            by_prefix[name_without_device(name)][side].append(name)
    return {one[0]: other[0] for one, other in by_prefix.values() if len(one) == len(other) == 1}


def name_without_device(name: str) -> str:
    """Return a recording's name without its device: 226_1b1_Pl_sc of 226_1b1_Pl_sc_LittC2SE."""
    return "_".join(name.split("_")[:4])


def read_annotations(path: Path) -> tuple[tuple[Annotation, ...], tuple[str, ...]]:
    """Read the cycles of one annotation file, and its problems with file, line and value.

    A line has start, end, crackle and wheeze, separated by tabs or spaces; empty lines are skipped
    but counted. Any byte-order mark and line end is accepted.
    """
    try:
        filled = read_lines(path)
    except ValueError as error:
        return (), (f"{path.name}: {error}",)
    if not filled:
        return (), (f"{path.name}: empty, expected one line per cycle: {LINE_FORMAT}",)
    return parse_cycles(filled, _parse_line, f"{path.name}, line")


def _parse_line(number: int, line: str) -> Annotation:
    fields = line.split()
    if len(fields) != 4:
        raise ValueError(f"{len(fields)} fields in {quoted(line)}, expected 4: {LINE_FORMAT}")
    if re.search(r"\t *\t", line.strip()):  # the cells after it may be in the wrong column
        raise ValueError(f"a blank cell in {quoted(line)}, expected 4: {LINE_FORMAT}")
    start_seconds = parse_number("start", fields[0])
    end_seconds = parse_number("end", fields[1])
    if end_seconds <= start_seconds:
        raise ValueError(
            f"end {fields[1]} is not after start {fields[0]}, expected start < end in seconds"
        )
    for field, value in zip(("crackle", "wheeze"), fields[2:], strict=True):
        if value not in ("0", "1"):
            raise ValueError(f"{field} is {quoted(value)}, expected 0 or 1")
    label = FOUR_CLASS.labels[int(fields[2]) + 2 * int(fields[3])]
    return Annotation(number, start_seconds, end_seconds, label)


def _recording(
    stem: str, audio: Path, annotation: Path | None, fields: dict[str, Any], clashes: list[str]
) -> Recording:
    if annotation is None:
        problem = f"{audio.name}: audio without annotation, expected {stem}.txt beside it"
        return Recording(stem, audio, **fields, cycles=(), problems=(*clashes, problem))
    cycles, problems = read_annotations(annotation)
    file = annotation.name
    problems = (*clashes, *problems)
    return Recording(stem, audio, **fields, cycles=cycles, problems=problems, annotation=file)
