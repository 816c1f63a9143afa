"""Reader of the ICBHI 2017 respiratory sound database: names and annotations, no audio.

Source: Rocha et al., "A respiratory sound database for the development of automated
classification", 2018.
"""

import codecs
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lungsound.data.labels import FOUR_CLASS
from lungsound.data.readers.icbhi_metadata import (
    PatientMetadata,
    name_without_device,
    read_patient_metadata,
)
from lungsound.data.recordings import Annotation, ReadResult, Recording
from lungsound.errors import DataError

LOCATIONS = ("Tc", "Al", "Ar", "Pl", "Pr", "Ll", "Lr")
MODES = ("sc", "mc")
SUBFOLDERS = ("audio_and_txt_files", "ICBHI_final_database")
SOURCE = "https://bhichallenge.med.auth.gr/ICBHI_2017_Challenge"
NAME_FORMAT = "patient_index_location_mode_device, such as 101_1b1_Al_sc_Meditron"
# float() alone would also take "nan", "1_0" and digits of other scripts.
DECIMAL_PATTERN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
FIELD_PATTERN = re.compile(r"[0-9A-Za-z-]+")
# What tells a recording's annotation from the side files, also where one of its fields is wrong.
NAME_PATTERN = re.compile(r"\d+(_[^_]+){4}", re.ASCII)


@dataclass(frozen=True)
class RecordingName:
    """The five fields of a recording's name, as written in it."""

    patient: str
    recording_index: str
    location: str
    mode: str
    device: str


def parse_name(stem: str) -> RecordingName:
    """The fields of a file name without its suffix. Raises ValueError, saying which field does not
    fit.
    """
    fields = stem.split("_")
    if len(fields) != 5:
        raise ValueError(f"the name {stem!r} has {len(fields)} fields, expected 5: {NAME_FORMAT}")
    name = RecordingName(*fields)
    if not (name.patient.isascii() and name.patient.isdigit()):
        raise ValueError(f"patient {name.patient!r} in the name, expected digits: {NAME_FORMAT}")
    if not FIELD_PATTERN.fullmatch(name.recording_index):
        raise ValueError(
            f"recording index {name.recording_index!r} in the name, expected letters and digits: {NAME_FORMAT}"
        )
    if name.location not in LOCATIONS:
        raise ValueError(
            f"location {name.location!r} in the name, expected one of {', '.join(LOCATIONS)}"
        )
    if name.mode not in MODES:
        raise ValueError(f"mode {name.mode!r} in the name, expected one of {', '.join(MODES)}")
    if not FIELD_PATTERN.fullmatch(name.device):
        raise ValueError(
            f"device {name.device!r} in the name, expected letters and digits: {NAME_FORMAT}"
        )
    return name


def read_icbhi(root: Path) -> ReadResult:
    """All recordings below `root`, sorted by name, every problem found, one line each, and notes.

    `root` is a folder of `.wav` + `.txt`, or one that contains `audio_and_txt_files` or
    `ICBHI_final_database`. A recording with `problems` is in the list too, so that its audio is
    checked in the same start; its problems are also in the second list. Releases of the database
    differ in the device that some names end with: where an audio file has no annotation of its own
    name, the one that shares its first four fields is taken, and a note says so. Age, sex and
    diagnosis come from the side files, where they lie in the folder or up to two above. Raises
    DataError where there are no recordings at all.
    """
    folder = find_icbhi_folder(
        Path(os.path.expanduser(root))
    )  # Path.expanduser raises where there is no such user
    audio = _files_by_stem(folder, ".wav")
    annotations = {
        stem: path
        for stem, path in _files_by_stem(folder, ".txt").items()
        if NAME_PATTERN.fullmatch(stem)
    }
    unmatched_audio = [
        stem for stem in audio if stem not in annotations and NAME_PATTERN.fullmatch(stem)
    ]
    matched = match_across_releases(unmatched_audio, annotations.keys() - audio.keys())
    patient_metadata = read_patient_metadata(folder)
    recordings, problems = [], []
    for stem, path in audio.items():
        try:
            name = parse_name(stem)
        except ValueError as error:
            problems.append(f"{path.name}: {error}")
            continue
        recording = _recording(
            stem, name, path, annotations.get(matched.get(stem, stem)), patient_metadata
        )
        recordings.append(recording)
        problems += recording.problems
    for stem in sorted(annotations.keys() - audio.keys() - set(matched.values())):
        problems.append(
            f"{annotations[stem].name}: annotation without audio, expected {stem}.wav beside it"
        )
    notes = [
        f"{stem}.wav is taken with {other}.txt: another release's device"
        for stem, other in matched.items()
    ]
    return ReadResult(recordings, problems, [*notes, *patient_metadata.notes])


def match_across_releases(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """Each name's counterpart among `others` that shares its first four fields, where no other on
    either side does.
    """
    sides: list[dict[str, list[str]]] = [{}, {}]
    for side, side_names in zip(sides, (names, others), strict=True):
        for name in side_names:
            side.setdefault(name_without_device(name), []).append(name)
    names_by_prefix, others_by_prefix = sides
    return {
        names_by_prefix[key][0]: others_by_prefix[key][0]
        for key in names_by_prefix
        if len(names_by_prefix[key]) == len(others_by_prefix.get(key, [])) == 1
    }


def read_annotations(path: Path) -> tuple[tuple[Annotation, ...], tuple[str, ...]]:
    """The cycles of one annotation file (start, end, crackle, wheeze a line), and its problems:
    file, line and value.

    Fields are separated by tabs or spaces; empty lines are passed over but counted. Byte-order
    marks and all line ends are taken as they come.
    """
    path = Path(path)
    try:
        text = _decode(path.read_bytes())
    except UnicodeDecodeError as error:
        return (), (f"{path.name}: not a text file: {error.reason} at byte {error.start}",)
    except OSError as error:
        return (), (f"{path.name}: cannot be read: {error.strerror}",)
    annotations, problems = [], []
    # Not str.splitlines, which also splits at form feeds and the like: an editor's line numbers
    # would not match ours.
    for line, content in enumerate(re.split(r"\r\n|\r|\n", text)):
        if not content.strip():
            continue
        try:
            annotations.append(_parse_line(line, content))
        except ValueError as error:
            problems.append(f"{path.name}, line {line + 1}: {error}")
    if not annotations and not problems:
        problems.append(
            f"{path.name}: empty, expected one line a cycle: start, end, crackle 0/1, wheeze 0/1"
        )
    return tuple(annotations), tuple(problems)


def _parse_line(line: int, content: str) -> Annotation:
    fields = content.split()
    if len(fields) != 4:
        raise ValueError(
            f"{len(fields)} fields in {_abbreviate(content)}, expected 4: start, end, crackle 0/1, wheeze 0/1"
        )
    start_seconds, end_seconds = (
        _parse_seconds("start", fields[0]),
        _parse_seconds("end", fields[1]),
    )
    if end_seconds <= start_seconds:
        raise ValueError(
            f"end {fields[1]} is not after start {fields[0]}, expected start < end in seconds"
        )
    crackle, wheeze = _parse_flag("crackle", fields[2]), _parse_flag("wheeze", fields[3])
    return Annotation(line, start_seconds, end_seconds, FOUR_CLASS.labels[crackle + 2 * wheeze])


def _parse_seconds(field: str, value: str) -> float:
    if (
        not DECIMAL_PATTERN.fullmatch(value)
        or not math.isfinite(seconds := float(value))
        or seconds < 0
    ):
        raise ValueError(f"{field} is {_abbreviate(value)}, expected seconds from 0, such as 1.234")
    return seconds


def _parse_flag(field: str, value: str) -> int:
    if value not in ("0", "1"):
        raise ValueError(f"{field} is {_abbreviate(value)}, expected 0 or 1")
    return int(value)


def _recording(
    stem: str, name: RecordingName, audio: Path, annotation: Path | None, side: PatientMetadata
) -> Recording:
    if annotation is None:
        cycles: tuple[Annotation, ...] = ()
        problems: tuple[str, ...] = (
            f"{audio.name}: audio without annotation, expected {stem}.txt beside it",
        )
    else:
        cycles, problems = read_annotations(annotation)
    known = side.for_patient(name.patient)
    file = annotation.name if annotation else ""
    return Recording(
        stem, audio, **vars(name), cycles=cycles, problems=problems, annotation=file, **known
    )


def find_icbhi_folder(root: Path) -> Path:
    """The folder of the recordings themselves. Raises DataError where there is none."""
    candidates = [root, *(root / subfolder for subfolder in SUBFOLDERS)]
    audio = {folder: _files_by_stem(folder, ".wav") for folder in candidates if folder.is_dir()}
    for folder, stems in audio.items():
        if any(map(NAME_PATTERN.fullmatch, stems)):
            return folder
    for folder, stems in audio.items():
        if stems:
            return folder
    found = (
        "no such folder"
        if not root.exists()
        else "not a folder"
        if not root.is_dir()
        else "no .wav file in it"
    )
    raise DataError(
        f"No ICBHI recordings at {root.absolute()}: {found}. Looked there and in its {' and '.join(SUBFOLDERS)}; "
        f"expected files such as 101_1b1_Al_sc_Meditron.wav and .txt. Get the database from {SOURCE}, unpack it and "
        "give its folder as data.root=PATH, or take data=demo."
    )


def _files_by_stem(folder: Path, suffix: str) -> dict[str, Path]:
    # Names with a leading dot are left by macOS beside every file of an unpacked archive.
    try:
        paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
        return {
            path.stem: path for path in paths if path.suffix.lower() == suffix and path.is_file()
        }
    except OSError as error:
        raise DataError(
            f"The folder {folder.absolute()} cannot be read: {error.strerror} (data.root)"
        ) from error


def _decode(content: bytes) -> str:
    utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if utf_16 else "utf-8-sig")


def _abbreviate(value: str) -> str:
    return repr(value if len(value) <= 60 else value[:57] + "...")
