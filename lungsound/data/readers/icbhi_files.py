"""The files of an ICBHI 2017 database, in the layouts that its copies have."""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lungsound.data.readers.files import (
    are_copies,
    files_by_stem,
    index_by_stem,
    missing_reason,
    read_tree,
)
from lungsound.errors import DataError

# Field of a recording's name -> its pattern, and that in words.
NAME_FIELDS = {
    "patient": ("[0-9]+", "digits"),
    "recording_index": ("[0-9A-Za-z-]+", "letters and digits"),
    "location": ("Tc|Al|Ar|Pl|Pr|Ll|Lr", "one of Tc, Al, Ar, Pl, Pr, Ll, Lr"),
    "mode": ("sc|mc", "sc or mc"),
    "device": ("[0-9A-Za-z-]+", "letters and digits"),
}
AUDIO_SUFFIXES = (".wav", ".flac")
SOURCE = "https://bhichallenge.med.auth.gr/ICBHI_2017_Challenge"
# The database has other .txt files, whose names do not match.
NAME_PATTERN = re.compile(r"\d+(_[^_]+){4}", re.ASCII)
FULL_NAME_PATTERN = re.compile("_".join(f"({pattern})" for pattern, _ in NAME_FIELDS.values()))


class IcbhiFiles(NamedTuple):
    """The files of a database, sorted by name, and the folders of its audio, the fullest first."""

    folders: list[Path]
    audio: list[Path]
    annotations: list[Path]
    problems: list[str]
    notes: list[str]


def find_icbhi_files(root: Path) -> IcbhiFiles:
    """Find the recordings at and below `root`, and their annotations.

    The fullest folder is used, and every other one that has none of its recordings, such as those
    of a train and a test folder. An annotation that is not beside its audio may be in a folder
    without audio. Raises DataError if there is no audio.
    """
    tree = read_tree(root, *AUDIO_SUFFIXES, ".txt")
    audio: dict[Path, list[Path]] = defaultdict(list)
    texts: dict[Path, list[Path]] = defaultdict(list)
    for folder, paths in tree.folders.items():
        for path in paths:
            if path.suffix.lower() in AUDIO_SUFFIXES:
                audio[folder].append(path)
            elif NAME_PATTERN.fullmatch(path.stem):
                texts[folder].append(path)
    if not audio:
        raise _no_recordings(root, tree.unusable)
    chosen, problems, notes = _choose_folders(root, audio)
    sounds = sorted((path for folder in chosen for path in audio[folder]), key=lambda x: x.stem)
    annotations = [path for folder in chosen for path in texts[folder]]
    used = index_by_stem(annotations)
    lacking = {path.stem for path in sounds} - used.keys()
    for folder in sorted(texts.keys() - set(chosen)):
        again = [path for path in texts[folder] if path.stem in used]
        if others := [path for path in again if not are_copies([used[path.stem]], [path])]:
            first = f"{others[0]} of {used[others[0].stem]}"
            notes.append(f"{len(others)} other annotations are not used, such as {first}")
        if folder not in audio:
            annotations += [path for path in texts[folder] if path.stem in lacking]
    return IcbhiFiles(chosen, sounds, sorted(annotations), problems, notes + tree.unusable)


def _choose_folders(
    root: Path, audio: Mapping[Path, Sequence[Path]]
) -> tuple[list[Path], list[str], list[str]]:
    """Return the folders to use, the fullest first, problems, and notes on the others."""
    names = {
        folder: {path.stem for path in paths if FULL_NAME_PATTERN.fullmatch(path.stem)}
        for folder, paths in audio.items()
    }
    titles = {folder: os.path.relpath(folder, root.absolute().parent) for folder in audio}
    chosen: list[Path] = []
    used: set[str] = set()
    problems: list[str] = []
    notes: list[str] = []
    for folder in sorted(audio, key=lambda folder: (-len(names[folder]), -len(audio[folder]))):
        again = len(names[folder] & used)
        if not chosen or (names[folder] and not again):
            chosen.append(folder)
            used |= names[folder]
            continue
        line = f"{titles[folder]} is not used: {again} of its {len(names[folder])} recordings are "
        line += f"also in {' or '.join(titles[one] for one in chosen[:2])}"
        if not names[folder]:
            notes.append(f"{titles[folder]} is not used: none of its files has a recording's name")
        elif again == len(names[folder]) and not any(
            names[folder] == names[one] and not are_copies(audio[folder], audio[one])
            for one in chosen
        ):
            notes.append(line)
        else:
            problems.append(f"{line}: keep the folder that you mean, or give it as data.root=PATH")
    if len(chosen) > 1:
        places = ", ".join(f"{titles[one]} ({len(names[one])})" for one in chosen[:3])
        more = " ..." * (len(chosen) > 3)
        notes.insert(0, f"recordings of {len(chosen)} folders are used together: {places}{more}")
    return chosen, problems, notes


def _no_recordings(root: Path, unusable: Sequence[str]) -> DataError:
    reason = missing_reason(root, "; ".join(["no .wav or .flac file in it", *unusable[:3]]))
    return DataError(
        f"No ICBHI recordings at {root.absolute()}: {reason}. Looked there and in all folders "
        "below; expected files such as 101_1b1_Al_sc_Meditron.wav and .txt. "
        f"Get the database from {SOURCE}, unpack it and give its folder as data.root=PATH, or take "
        "data=demo."
    )


def has_icbhi_recordings(folder: Path) -> bool:
    """Return whether the folder itself has an ICBHI recording with its annotation."""
    sounds = files_by_stem(folder, *AUDIO_SUFFIXES).keys()
    texts = files_by_stem(folder, ".txt").keys()
    return any(NAME_PATTERN.fullmatch(stem) for stem in sounds & texts)
