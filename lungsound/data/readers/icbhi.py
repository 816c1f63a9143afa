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
from lungsound.data.readers.files import files_by_stem, missing_reason, quoted
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
# The database has other .txt files, whose names do not match.
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
    """Parse a file name without suffix. Raises ValueError that names the wrong field."""
    fields = stem.split("_")
    if len(fields) != 5:
        raise ValueError(f"the name {stem!r} has {len(fields)} fields, expected 5: {NAME_FORMAT}")
    name = RecordingName(*fields)
    if not (name.patient.isascii() and name.patient.isdigit()):
        raise ValueError(f"patient {name.patient!r} in the name, expected digits: {NAME_FORMAT}")
    if not FIELD_PATTERN.fullmatch(name.recording_index):
        raise ValueError(
            f"recording index {name.recording_index!r} in the name, expected letters and digits: "
            f"{NAME_FORMAT}"
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
    audio = files_by_stem(folder, ".wav")
    annotations = _annotation_files(folder)
    unmatched = [name for name in audio.keys() - annotations.keys() if NAME_PATTERN.fullmatch(name)]
    matched = match_across_releases(sorted(unmatched), annotations.keys() - audio.keys())
    metadata = read_patient_metadata(folder)
    recordings, problems = [], []
    for stem, path in audio.items():
        try:
            name = parse_name(stem)
        except ValueError as error:
            problems.append(f"{path.name}: {error}")
            continue
        annotation = annotations.get(matched.get(stem, stem))
        recordings.append(_recording(stem, name, path, annotation, metadata))
        problems += recordings[-1].problems
    for stem in sorted(annotations.keys() - audio.keys() - set(matched.values())):
        file = annotations[stem].name
        problems.append(f"{file}: annotation without audio, expected {stem}.wav beside it")
    notes = [
        f"{stem}.wav is taken with {other}.txt: another release's device"
        for stem, other in matched.items()
    ]
    return ReadResult(recordings, problems, [*notes, *metadata.notes])


def match_across_releases(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """Match names with `others` by their first four fields, if exactly one of each has them."""
    names_by_prefix, others_by_prefix = _by_prefix(names), _by_prefix(others)
    return {
        same[0]: others_by_prefix[prefix][0]
        for prefix, same in names_by_prefix.items()
        if len(same) == len(others_by_prefix.get(prefix, [])) == 1
    }


def _by_prefix(names: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name_without_device(name), []).append(name)
    return groups


def read_annotations(path: Path) -> tuple[tuple[Annotation, ...], tuple[str, ...]]:
    """Read the cycles of one annotation file, and its problems with file, line and value.

    A line has start, end, crackle and wheeze, separated by tabs or spaces; empty lines are skipped
    but counted. Any byte-order mark and line end is accepted.
    """
    path = Path(path)
    try:
        text = _decode(path.read_bytes())
    except UnicodeDecodeError as error:
        return (), (f"{path.name}: not a text file: {error.reason} at byte {error.start}",)
    except OSError as error:
        return (), (f"{path.name}: cannot be read: {error.strerror}",)
    annotations, problems = [], []
    # Not str.splitlines: it also splits at form feeds, so that line numbers would differ from
    # an editor's.
    for line, content in enumerate(re.split(r"\r\n|\r|\n", text)):
        if not content.strip():
            continue
        try:
            annotations.append(_parse_line(line, content))
        except ValueError as error:
            problems.append(f"{path.name}, line {line + 1}: {error}")
    if not annotations and not problems:
        problems.append(
            f"{path.name}: empty, expected one line per cycle: start, end, crackle 0/1, wheeze 0/1"
        )
    return tuple(annotations), tuple(problems)


def _parse_line(line: int, content: str) -> Annotation:
    fields = content.split()
    if len(fields) != 4:
        raise ValueError(
            f"{len(fields)} fields in {quoted(content)}, expected 4: start, end, crackle 0/1, "
            "wheeze 0/1"
        )
    start_seconds = _parse_seconds("start", fields[0])
    end_seconds = _parse_seconds("end", fields[1])
    if end_seconds <= start_seconds:
        raise ValueError(
            f"end {fields[1]} is not after start {fields[0]}, expected start < end in seconds"
        )
    crackle = _parse_flag("crackle", fields[2])
    wheeze = _parse_flag("wheeze", fields[3])
    return Annotation(line, start_seconds, end_seconds, FOUR_CLASS.labels[crackle + 2 * wheeze])


def _parse_seconds(field: str, value: str) -> float:
    if DECIMAL_PATTERN.fullmatch(value) and 0 <= float(value) < math.inf:
        return float(value)
    raise ValueError(f"{field} is {quoted(value)}, expected seconds from 0, such as 1.234")


def _parse_flag(field: str, value: str) -> int:
    if value not in ("0", "1"):
        raise ValueError(f"{field} is {quoted(value)}, expected 0 or 1")
    return int(value)


def _recording(
    stem: str, name: RecordingName, audio: Path, annotation: Path | None, metadata: PatientMetadata
) -> Recording:
    if annotation:
        cycles, problems = read_annotations(annotation)
    else:
        problem = f"{audio.name}: audio without annotation, expected {stem}.txt beside it"
        cycles, problems = (), (problem,)
    return Recording(
        stem,
        audio,
        **vars(name),
        cycles=cycles,
        problems=problems,
        annotation=annotation.name if annotation else "",
        **metadata.for_patient(name.patient),
    )


def find_icbhi_folder(root: Path) -> Path:
    """Find the folder with the recordings at `root`. Raises DataError if there is none."""
    candidates = [root, *(root / subfolder for subfolder in SUBFOLDERS)]
    audio = {folder: files_by_stem(folder, ".wav") for folder in candidates if folder.is_dir()}
    for folder, stems in audio.items():
        if any(map(NAME_PATTERN.fullmatch, stems)):
            return folder
    for folder, stems in audio.items():
        if stems:
            return folder
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


def _decode(content: bytes) -> str:
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf_16 else "utf-8-sig")
