"""Reader of SPRSound, a database of children's respiratory sounds: names and annotations, no audio.

Source: Zhang et al., "SPRSound: Open-Source SJTU Paediatric Respiratory Sound Database", IEEE
TBioCAS 2022. All test recordings are in one folder. Their annotations are in two: one for children
who also occur in training (intra), one for others (inter).
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from lungsound.data.labels import SPRSOUND_SEVEN
from lungsound.data.readers.files import (
    are_copies,
    files_by_stem,
    index_by_stem,
    is_folder,
    list_files,
    missing_reason,
    name_clashes,
    parse_cycles,
    quoted,
    read_content,
    read_tree,
)
from lungsound.data.recordings import Annotation, ReadResult, Recording
from lungsound.errors import DataError

AUDIO_FOLDERS = {"train": "train_wav", "inter": "test_wav", "intra": "test_wav"}
ANNOTATION_FOLDERS = {
    "train": "train_json",
    "inter": "test_json/inter_test_json",
    "intra": "test_json/intra_test_json",
}
PARTS = tuple(AUDIO_FOLDERS)
ALL_FOLDERS = ("train_wav", "train_json", "test_wav", "test_json")
SUFFIXES = (".wav", ".flac")
# Location p1 is left posterior, p2 left lateral, p3 right posterior, p4 right lateral.
NAME = re.compile(r"\d+_\d+(\.\d+)?_[01]_p[1-4]_\d+", re.ASCII)
NAME_FORM = "patient_age_sex_location_number, such as 40638274_9.7_1_p1_1696"
MILLISECONDS = re.compile(r"\d+(\.\d+)?", re.ASCII)
MAX_MS = 1e12  # 31 years
DEVICE = "Yunting"  # all recordings were made with this electronic stethoscope
EVENT_LABELS = dict(zip(SPRSOUND_SEVEN.labels, SPRSOUND_SEVEN.coarser_labels, strict=True))
SOURCE = "https://github.com/SJTU-YONGFU-RESEARCH-GRP/SPRSound"


def read_sprsound(root: Path) -> ReadResult:
    """Read the parts of the database that are present below `root`, with audio and annotations.

    train_wav, train_json, test_wav and test_json are in `root` or in a folder below; a note names
    folders with fewer recordings. Recordings of poor quality have no cycles. A name that occurs in
    several parts is a problem, and the recording of the first part is used. Raises DataError if
    there is no part.
    """
    # Path.expanduser raises if there is no such user.
    folder, problems, notes = _find_folder(Path(os.path.expanduser(root)))
    present = [part for part in PARTS if _has_part(folder, part)]
    recordings: dict[str, Recording] = {}
    for part in present:
        sounds = list_files(folder / AUDIO_FOLDERS[part], *SUFFIXES)
        annotations = list_files(folder / ANNOTATION_FOLDERS[part], ".json")
        audio, clashes = index_by_stem(sounds), name_clashes([*sounds, *annotations])
        for stem, path in index_by_stem(annotations).items():
            if problem := _file_problem(stem, path, part, audio, recordings):
                problems.append(problem)
                continue
            recordings[stem] = _read_recording(audio[stem], path, part, clashes[stem])
            problems += recordings[stem].problems
        notes.append(_part_note(part, [one for one in recordings.values() if one.part == part]))
    if len(present) < len(PARTS):
        missing = ", ".join(part for part in PARTS if part not in present)
        notes.append(f"SPRSound: not there, and not used: {missing}")
    problems += _find_unannotated_audio(folder, present)
    return ReadResult([recordings[name] for name in sorted(recordings)], problems, notes)


def read_events(path: Path) -> tuple[tuple[Annotation, ...], tuple[str, ...], str]:
    """Read the cycles of one annotation file, its problems, and the recording's annotated quality.

    Times are milliseconds, as strings or numbers.
    """
    try:
        data = read_content(path)
    except ValueError as error:
        return (), (f"{path.name}: {error}",), ""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        return (), (f"{path.name}: not JSON: {error}",), ""
    events = content.get("event_annotation") if isinstance(content, dict) else None
    if not isinstance(events, list):
        expected = "an object with a list event_annotation"
        return (), (f"{path.name}: expected {expected}, but got {quoted(content)}",), ""
    cycles, problems = parse_cycles(enumerate(events), _parse_event, f"{path.name}, event")
    return cycles, problems, str(content.get("record_annotation"))


def _parse_event(number: int, event: Any) -> Annotation:
    if not isinstance(event, dict):
        raise ValueError(f"expected an object with start, end and type, but got {quoted(event)}")
    start_seconds = _seconds("start", event)
    end_seconds = _seconds("end", event)
    if end_seconds <= start_seconds:
        raise ValueError(
            f"end {event['end']} is not after start {event['start']}, expected start < end in ms"
        )
    event_type = event.get("type")
    if not isinstance(event_type, str) or event_type not in EVENT_LABELS:
        raise ValueError(f"type is {quoted(event_type)}, expected one of {', '.join(EVENT_LABELS)}")
    return Annotation(number, start_seconds, end_seconds, EVENT_LABELS[event_type], event_type)


def _seconds(field: str, event: dict[str, Any]) -> float:
    text = str(event.get(field)).strip()
    if not MILLISECONDS.fullmatch(text) or float(text) >= MAX_MS:
        value = quoted(event.get(field))
        raise ValueError(f"{field} is {value}, expected milliseconds from 0, such as 1234")
    return float(text) / 1000


def _file_problem(
    stem: str, path: Path, part: str, audio: dict[str, Path], recordings: dict[str, Recording]
) -> str:
    """Return why the annotation `path` is not used, or ""."""
    if not NAME.fullmatch(stem):
        return f"{path.name}: the name is not {NAME_FORM}"
    if stem not in audio:
        expected = f"{stem}.wav or .flac in {AUDIO_FOLDERS[part]}"
        return f"{path.name}: annotation without audio, expected {expected}"
    if stem in recordings:
        first = recordings[stem].part
        return f"{path.name} in {ANNOTATION_FOLDERS[part]}: {first} has that name, too"
    return ""


def _read_recording(audio: Path, annotation: Path, part: str, clashes: list[str]) -> Recording:
    patient, age, sex, location, number = audio.stem.split("_")
    cycles, problems, quality = read_events(annotation)
    return Recording(
        name=audio.stem,
        audio=audio,
        patient=patient,
        recording_index=number,
        location=location,
        mode="",
        device=DEVICE,
        cycles=cycles,
        problems=(*clashes, *problems),
        annotation=annotation.name,
        part=part,
        age=float(age),
        sex="MF"[int(sex)],
        quality=quality,
    )


def _find_unannotated_audio(folder: Path, present: list[str]) -> list[str]:
    """List audio without annotation, in audio folders of which no annotation folder is missing."""
    problems = []
    for audio_folder in dict.fromkeys(AUDIO_FOLDERS.values()):
        parts = [part for part in PARTS if AUDIO_FOLDERS[part] == audio_folder]
        if not set(parts) <= set(present):
            continue
        audio = files_by_stem(folder / audio_folder, *SUFFIXES)
        places = [ANNOTATION_FOLDERS[part] for part in parts]
        annotated = {one.stem for place in places for one in list_files(folder / place, ".json")}
        problems += [
            f"{audio[stem].name}: audio without annotation, expected {stem}.json in "
            f"{' or '.join(places)}"
            for stem in sorted(audio.keys() - annotated)
        ]
    return problems


def _part_note(part: str, recordings: list[Recording]) -> str:
    cycles = sum(len(recording.cycles) for recording in recordings)
    children = len({recording.patient for recording in recordings})
    return f"SPRSound {part}: {len(recordings)} recordings of {children} children, {cycles} events"


def has_all_folders(folder: Path) -> bool:
    """Return whether the folder has all of SPRSound in the layout of its first release."""
    return all(is_folder(folder / name) for name in ALL_FOLDERS)


def _has_part(folder: Path, part: str) -> bool:
    names = (AUDIO_FOLDERS[part], ANNOTATION_FOLDERS[part])
    return all(is_folder(folder / name) for name in names)


def _find_folder(root: Path) -> tuple[Path, list[str], list[str]]:
    """Return the folder with the most annotations, problems, and notes on the other places."""
    tree = read_tree(root, *SUFFIXES, ".json")
    sizes = {}
    for folder in tree.folders:
        parts = [part for part in PARTS if _has_part(folder, part)]
        annotations = [list_files(folder / ANNOTATION_FOLDERS[part], ".json") for part in parts]
        if parts:
            sizes[folder] = sum(map(len, annotations))
    if sizes:
        chosen = max(sizes, key=lambda folder: sizes[folder])
        others = [one for one in sizes if one != chosen]
        names = ", ".join(f"{one} ({sizes[one]})" for one in others)
        note = f"SPRSound in {chosen} ({sizes[chosen]} annotations) is used, not that in {names}"
        sounds = {one: sorted(one.glob("*_wav/*")) for one in sizes}
        ties = [one for one in others if sizes[one] == sizes[chosen]]
        if all(are_copies(sounds[chosen], sounds[one]) for one in ties):
            return chosen, [], [note] * bool(others) + tree.unusable
        return chosen, [f"{note}: keep the folder that you mean"], tree.unusable
    reason = missing_reason(root, "; ".join(["none of them in it", *tree.unusable[:3]]))
    raise DataError(
        f"No SPRSound recordings at {root.absolute()}: {reason}. Expected train_wav with "
        "train_json, or test_wav with test_json/inter_test_json or test_json/intra_test_json, "
        f"there or in a folder below. Get the database from {SOURCE} (or lungsound data get "
        "sprsound DEST) and give its folder as data.root=PATH"
    )
