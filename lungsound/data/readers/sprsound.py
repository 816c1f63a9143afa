"""Reader of SPRSound, the SJTU paediatric respiratory sound database: names and annotations, no
audio.

Source: Zhang et al., "SPRSound: Open-Source SJTU Paediatric Respiratory Sound Database", IEEE
TBioCAS 2022. Its test recordings lie in one folder; two folders of annotations tell children who
also occur in training (intra) from others.
"""

import contextlib
import json
import math
import os
import re
from pathlib import Path
from typing import Any

from lungsound.data.labels import SPRSOUND_SEVEN
from lungsound.data.recordings import Annotation, ReadResult, Recording
from lungsound.errors import DataError

AUDIO_FOLDERS = {"train": "train_wav", "inter": "test_wav", "intra": "test_wav"}
ANNOTATION_FOLDERS = {
    "train": "train_json",
    "inter": "test_json/inter_test_json",
    "intra": "test_json/intra_test_json",
}
PARTS = tuple(AUDIO_FOLDERS)
SUFFIXES = (".wav", ".flac")
LOCATIONS = {
    "p1": "left posterior",
    "p2": "left lateral",
    "p3": "right posterior",
    "p4": "right lateral",
}
NAME = re.compile(
    r"(?P<patient>\d+)_(?P<age>\d+(?:\.\d+)?)_(?P<sex>[01])_(?P<location>p[1-4])_(?P<number>\d+)",
    re.ASCII,
)
NAME_FORM = "patient_age_sex_location_number, such as 40638274_9.7_1_p1_1696"
MILLISECONDS = re.compile(r"\d+(\.\d+)?", re.ASCII)
MAX_MS = 1e12  # 31 years
DEVICE = "Yunting"  # one model of electronic stethoscope for all
POOR_QUALITY = "Poor Quality"  # record_annotation of a recording whose events were not annotated
EVENT_LABELS = dict(zip(SPRSOUND_SEVEN.labels, SPRSOUND_SEVEN.coarser_labels, strict=True))
SOURCE = "https://github.com/SJTU-YONGFU-RESEARCH-GRP/SPRSound"


def read_sprsound(root: Path) -> ReadResult:
    """All recordings of the parts that are there below `root`; a part needs its audio and its
    annotations.

    `root` holds train_wav, train_json, test_wav and test_json, or a folder that does. Recordings of
    poor quality have no cycles. A name that several parts have is a problem, and taken from the
    first alone. Raises DataError where there is no part at all.
    """
    folder = _find_folder(
        Path(os.path.expanduser(root))
    )  # Path.expanduser raises where there is no such user
    recordings: list[Recording] = []
    problems, notes = [], []
    missing = [part for part in PARTS if not _has_part(folder, part)]
    for part in PARTS:
        if part not in missing:
            found, its_problems = _read_part(folder, part)
            named = {recording.name: recording.part for recording in recordings}
            duplicate_names = [one for one in found if one.name in named]
            problems += its_problems
            where = ANNOTATION_FOLDERS[part]
            problems += [
                f"{one.annotation} in {where}: {named[one.name]} has that name, too"
                for one in duplicate_names
            ]
            found = [one for one in found if one.name not in named]
            recordings += found
            notes.append(_part_note(part, found))
    if missing:
        notes.append(f"SPRSound: not there, and not used: {', '.join(missing)}")
    problems += _find_unannotated_audio(folder, missing)
    return ReadResult(sorted(recordings, key=lambda recording: recording.name), problems, notes)


def read_events(path: Path) -> tuple[tuple[Annotation, ...], tuple[str, ...]]:
    """The cycles of one annotation file, and its problems. Times are milliseconds, as strings or
    numbers.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        return (), (f"{path.name}: cannot be read: {error.strerror}",)
    except (ValueError, RecursionError) as error:
        return (), (f"{path.name}: not JSON: {error}",)
    events = content.get("event_annotation") if isinstance(content, dict) else None
    if not isinstance(events, list):
        return (), (
            f"{path.name}: expected an object with a list event_annotation, but got {_shown(content)}",
        )
    cycles, problems = [], []
    for number, event in enumerate(events):
        try:
            cycles.append(_parse_event(number, event))
        except ValueError as error:
            problems.append(f"{path.name}, event {number + 1}: {error}")
    return tuple(cycles), tuple(problems)


def _parse_event(number: int, event: Any) -> Annotation:
    if not isinstance(event, dict):
        raise ValueError(f"expected an object with start, end and type, but got {_shown(event)}")
    start_seconds, end_seconds = _seconds("start", event), _seconds("end", event)
    if end_seconds <= start_seconds:
        raise ValueError(
            f"end {event['end']} is not after start {event['start']}, expected start < end in ms"
        )
    event_type = event.get("type")
    if not isinstance(event_type, str) or event_type not in EVENT_LABELS:
        raise ValueError(f"type is {_shown(event_type)}, expected one of {', '.join(EVENT_LABELS)}")
    return Annotation(number, start_seconds, end_seconds, EVENT_LABELS[event_type], event_type)


def _seconds(field: str, event: dict[str, Any]) -> float:
    value = event.get(field)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number or (isinstance(value, str) and MILLISECONDS.fullmatch(value.strip()))):
        raise ValueError(f"{field} is {_shown(value)}, expected milliseconds from 0, such as 1234")
    try:
        milliseconds = float(value)  # type: ignore[arg-type]
    except OverflowError:  # an integer of hundreds of digits
        milliseconds = math.inf
    if not 0 <= milliseconds < MAX_MS:
        raise ValueError(f"{field} is {_shown(value)}, expected milliseconds from 0, such as 1234")
    return milliseconds / 1000


def _read_part(folder: Path, part: str) -> tuple[list[Recording], list[str]]:
    audio, annotations = (
        _files(folder / AUDIO_FOLDERS[part], *SUFFIXES),
        _files(folder / ANNOTATION_FOLDERS[part], ".json"),
    )
    recordings, problems = [], []
    for stem, path in annotations.items():
        name = NAME.fullmatch(stem)
        if not name:
            problems.append(f"{path.name}: the name is not {NAME_FORM}")
        elif stem not in audio:
            problems.append(
                f"{path.name}: annotation without audio, expected {stem}.wav or .flac in {AUDIO_FOLDERS[part]}"
            )
        else:
            cycles, its_problems = read_events(path)
            problems += its_problems
            recordings.append(
                Recording(
                    stem, audio[stem], name["patient"], name["number"], name["location"], "", DEVICE, cycles,
                    its_problems, path.name, part, float(name["age"]), "MF"[int(name["sex"])],
                )
            )  # fmt: skip
    return recordings, problems


def _find_unannotated_audio(folder: Path, missing: list[str]) -> list[str]:
    """Audio without annotation, where all annotations of its folder are there."""
    problems = []
    for place in dict.fromkeys(AUDIO_FOLDERS.values()):
        parts = [part for part in PARTS if AUDIO_FOLDERS[part] == place]
        if not set(parts) & set(missing):
            annotated = {
                stem
                for part in parts
                for stem in _files(folder / ANNOTATION_FOLDERS[part], ".json")
            }
            audio = _files(folder / place, *SUFFIXES)
            problems += [
                f"{audio[stem].name}: audio without annotation, expected {stem}.json in "
                + " or ".join(ANNOTATION_FOLDERS[part] for part in parts)
                for stem in sorted(audio.keys() - annotated)
            ]
    return problems


def _part_note(part: str, recordings: list[Recording]) -> str:
    cycles = sum(len(recording.cycles) for recording in recordings)
    children = len({recording.patient for recording in recordings})
    return f"SPRSound {part}: {len(recordings)} recordings of {children} children, {cycles} events"


def _has_part(folder: Path, part: str) -> bool:
    # Not Path.is_dir, which raises where it may not look.
    return os.path.isdir(folder / AUDIO_FOLDERS[part]) and os.path.isdir(
        folder / ANNOTATION_FOLDERS[part]
    )


def _find_folder(root: Path) -> Path:
    try:
        below = _subfolders(root) if root.is_dir() else []
    except OSError as error:
        raise DataError(
            f"The folder {root.absolute()} cannot be read: {error.strerror} (data.root)"
        ) from error
    candidates = [root, *below]
    for folder in below:
        with contextlib.suppress(
            OSError
        ):  # one that may not be read, such as lost+found, is passed over
            candidates += _subfolders(folder)
    for folder in candidates:
        if any(_has_part(folder, part) for part in PARTS):
            return folder
    found = (
        "no such folder"
        if not root.exists()
        else "not a folder"
        if not root.is_dir()
        else "none of them in it"
    )
    raise DataError(
        f"No SPRSound recordings at {root.absolute()}: {found}. Expected train_wav with train_json, or test_wav with "
        f"test_json/inter_test_json or test_json/intra_test_json, there or up to two folders below. Get the database "
        f"from {SOURCE} (or `lungsound data get sprsound DEST`) and give its folder as data.root=PATH"
    )


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if os.path.isdir(path))


def _files(folder: Path, *suffixes: str) -> dict[str, Path]:
    # Names with a leading dot are left by macOS beside every file of an unpacked archive.
    try:
        paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(
            f"The folder {folder.absolute()} cannot be read: {error.strerror} (data.root)"
        ) from error
    return {path.stem: path for path in paths if path.suffix.lower() in suffixes and path.is_file()}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
