"""What the readers share: listing a folder, parsing entry by entry, and parts of messages."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from lungsound.data.recordings import Annotation
from lungsound.errors import DataError

MAX_QUOTED_CHARACTERS = 60
Entry = TypeVar("Entry")


def list_folder(folder: Path) -> list[Path]:
    """Return a folder's files and folders, sorted. Raises DataError if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise _unreadable_folder(folder, error) from error


def is_folder(path: Path) -> bool:
    """Return whether `path` is a folder; False, too, if the folder above may not be read."""
    return os.path.isdir(path)  # noqa: PTH112 (Path.is_dir would raise)


def files_by_stem(folder: Path, *suffixes: str) -> dict[str, Path]:
    """Return name without suffix -> file, of a folder's files with one of `suffixes` (lower case).

    Raises DataError if the folder cannot be read.
    """
    # macOS leaves a file with a leading dot beside every file of an unpacked archive.
    try:
        return {
            path.stem: path
            for path in list_folder(folder)
            if path.suffix.lower() in suffixes and path.name[0] != "." and path.is_file()
        }
    except OSError as error:  # a folder that may be listed, but not searched
        raise _unreadable_folder(folder, error) from error


def _unreadable_folder(folder: Path, error: OSError) -> DataError:
    return DataError(f"The folder {folder.absolute()} cannot be read: {error.strerror} (data.root)")


def parse_cycles(
    entries: Iterable[tuple[int, Entry]], parse: Callable[[int, Entry], Annotation], unit: str
) -> tuple[tuple[Annotation, ...], tuple[str, ...]]:
    """Return the parsed `entries` (number from 0, content), and a problem per ValueError.

    `unit` begins each problem: the file's name and what its entries are, such as a line.
    """
    cycles, problems = [], []
    for number, entry in entries:
        try:
            cycles.append(parse(number, entry))
        except ValueError as error:
            problems.append(f"{unit} {number + 1}: {error}")
    return tuple(cycles), tuple(problems)


def missing_reason(root: Path, otherwise: str) -> str:
    """Return why no database was found at `root`; `otherwise` if it is a folder."""
    if not root.exists():
        return "no such folder"
    return otherwise if root.is_dir() else "not a folder"


def quoted(value: object) -> str:
    """Return repr(value), cut to a length that fits into a message."""
    text = repr(value)
    if len(text) <= MAX_QUOTED_CHARACTERS:
        return text
    return text[: MAX_QUOTED_CHARACTERS - 3] + "..."
