"""Reader of the ICBHI 2017 respiratory sound database: names and annotations, no audio.

Source: Rocha et al., "A respiratory sound database for the development of automated
classification", 2018.
"""

import codecs
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lungsound.data.labels import FOUR_CLASS
from lungsound.data.readers.files import files_by_stem, missing_reason, parse_cycles, quoted
from lungsound.data.readers.icbhi_metadata import read_patient_metadata
from lungsound.data.recordings import Annotation, ReadResult, Recording
from lungsound.errors import DataError

# Field of a recording's name -> its pattern, and that in words.
NAME_FIELDS = {
    "patient": ("[0-9]+", "digits"),
    "recording_index": ("[0-9A-Za-z-]+", "letters and digits"),
    "location": ("Tc|Al|Ar|Pl|Pr|Ll|Lr", "one of Tc, Al, Ar, Pl, Pr, Ll, Lr"),
    "mode": ("sc|mc", "sc or mc"),
    "device": ("[0-9A-Za-z-]+", "letters and digits"),
}
NAME_FORMAT = "patient_index_location_mode_device, such as 101_1b1_Al_sc_Meditron"
LINE_FORMAT = "start, end, crackle 0/1, wheeze 0/1"
SUBFOLDERS = ("audio_and_txt_files", "ICBHI_final_database")
SOURCE = "https://bhichallenge.med.auth.gr/ICBHI_2017_Challenge"
# float() alone would also take "nan", "1_0" and digits of other scripts.
DECIMAL_PATTERN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# The database has other .txt files, whose names do not match.
NAME_PATTERN = re.compile(r"\d+(_[^_]+){4}", re.ASCII)


def read_icbhi(root: Path) -> ReadResult:
    """Read all recordings below `root`: return them sorted by name, all problems, and notes.

    `root` is a folder of `.wav` + `.txt`, or one that contains `audio_and_txt_files` or
    `ICBHI_final_database`. A recording with `problems` is returned too, so that its audio is also
    checked. Releases of the database differ in the device at the end of some names: an audio file
    without an annotation of the same name gets the one that shares its first four fields, and a
    note. Age, sex and diagnosis come from the metadata files in the folder, or up to two folders
    above. Raises DataError if there are no recordings.
    """
    # Path.expanduser raises if there is no such user.
    folder = find_icbhi_folder(Path(os.path.expanduser(root)))
    audio, annotations = files_by_stem(folder, ".wav"), _annotation_files(folder)
    unmatched = [name for name in audio.keys() - annotations.keys() if NAME_PATTERN.fullmatch(name)]
    matched = match_across_releases(sorted(unmatched), annotations.keys() - audio.keys())
    patients, metadata_notes = read_patient_metadata(folder)
    recordings, problems = [], []
    for stem, path in audio.items():
        try:
            name = parse_name(stem)
        except ValueError as error:
            problems.append(f"{path.name}: {error}")
            continue
        fields = {**name, **patients.get(name["patient"], {})}
        annotation = annotations.get(matched.get(stem, stem))
        recordings.append(_recording(stem, path, annotation, fields))
        problems += recordings[-1].problems
    for stem in sorted(annotations.keys() - audio.keys() - set(matched.values())):
        file = annotations[stem].name
        problems.append(f"{file}: annotation without audio, expected {stem}.wav beside it")
    notes = [
        f"{stem}.wav is taken with {other}.txt: another release's device"
        for stem, other in matched.items()
    ]
    return ReadResult(recordings, problems, notes + metadata_notes)


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
        content = path.read_bytes()
        is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        return (), (f"{path.name}: not a text file: {error.reason} at byte {error.start}",)
    except OSError as error:
        return (), (f"{path.name}: cannot be read: {error.strerror}",)
    # Not str.splitlines: it also splits at form feeds, so that line numbers would differ from
    # an editor's.
    lines = enumerate(re.split(r"\r\n|\r|\n", text))
    filled = [(number, line) for number, line in lines if line.strip()]
    if not filled:
        return (), (f"{path.name}: empty, expected one line per cycle: {LINE_FORMAT}",)
    return parse_cycles(filled, _parse_line, f"{path.name}, line")


def _parse_line(number: int, line: str) -> Annotation:
    fields = line.split()
    if len(fields) != 4:
        raise ValueError(f"{len(fields)} fields in {quoted(line)}, expected 4: {LINE_FORMAT}")
    start_seconds = _parse_seconds("start", fields[0])
    end_seconds = _parse_seconds("end", fields[1])
    if end_seconds <= start_seconds:
        raise ValueError(
            f"end {fields[1]} is not after start {fields[0]}, expected start < end in seconds"
        )
    for field, value in zip(("crackle", "wheeze"), fields[2:], strict=True):
        if value not in ("0", "1"):
            raise ValueError(f"{field} is {quoted(value)}, expected 0 or 1")
    label = FOUR_CLASS.labels[int(fields[2]) + 2 * int(fields[3])]
    return Annotation(number, start_seconds, end_seconds, label)


def _parse_seconds(field: str, value: str) -> float:
    if DECIMAL_PATTERN.fullmatch(value) and 0 <= float(value) < math.inf:
        return float(value)
    raise ValueError(f"{field} is {quoted(value)}, expected seconds from 0, such as 1.234")


def _recording(
    stem: str, audio: Path, annotation: Path | None, fields: dict[str, Any]
) -> Recording:
    if annotation is None:
        problem = f"{audio.name}: audio without annotation, expected {stem}.txt beside it"
        return Recording(stem, audio, **fields, cycles=(), problems=(problem,))
    cycles, problems = read_annotations(annotation)
    file = annotation.name
    return Recording(stem, audio, **fields, cycles=cycles, problems=problems, annotation=file)


def find_icbhi_folder(root: Path) -> Path:
    """Find the folder with the recordings at `root`. Raises DataError if there is none."""
    candidates = [root, *(root / subfolder for subfolder in SUBFOLDERS)]
    audio = {folder: files_by_stem(folder, ".wav") for folder in candidates if folder.is_dir()}
    filled = [folder for folder, stems in audio.items() if stems]
    named = [folder for folder in filled if any(map(NAME_PATTERN.fullmatch, audio[folder]))]
    if filled:
        return (named or filled)[0]
    reason = missing_reason(root, "no .wav file in it")
    raise DataError(
        f"No ICBHI recordings at {root.absolute()}: {reason}. Looked there and in its "
        f"{' and '.join(SUBFOLDERS)}; expected files such as 101_1b1_Al_sc_Meditron.wav and .txt. "
        f"Get the database from {SOURCE}, unpack it and give its folder as data.root=PATH, or take "
        "data=demo."
    )


def has_icbhi_recordings(folder: Path) -> bool:
    """Return whether the folder itself has an ICBHI recording with its annotation."""
    return bool(files_by_stem(folder, ".wav").keys() & _annotation_files(folder).keys())


def _annotation_files(folder: Path) -> dict[str, Path]:
    files = files_by_stem(folder, ".txt")
    return {stem: path for stem, path in files.items() if NAME_PATTERN.fullmatch(stem)}
