"""What the readers share: folders and files below a root, their content, parts of messages."""

import codecs
import contextlib
import filecmp
import math
import os
import re
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from lungsound.data.recordings import Annotation
from lungsound.errors import DataError

SYNTHETIC_MARKER = "SYNTHETIC.txt"  # in the folder of synthetic recordings, or in its parent
# How files begin that a tool put in the place of the real ones, and how to get those.
POINTERS = {
    b"version https://git-lfs.github.com/": "a Git LFS pointer, not the file: run git lfs pull",
    b"/annex/objects/": "a git-annex pointer, not the file: run git annex get",
}
# What DVC and iCloud leave where a file is not fetched yet.
PLACEHOLDER = re.compile(r"^[.]?(?P<name>.+)[.](dvc|icloud)$")
FETCH = "fetch it (git annex get, dvc pull), or mount its disk"
PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zip", ".crdownload", ".part", ".partial", ".download")
ANNOTATION_SUFFIXES = (".txt", ".json")
MAX_QUOTED_CHARACTERS = 60
# float() alone would also take "nan", "1_0" and digits of other scripts.
DECIMAL_PATTERN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
Entry = TypeVar("Entry")


class Tree(NamedTuple):
    """The folders at and below a root, uppermost first, with their files; unusable places."""

    folders: dict[Path, list[Path]]
    unusable: list[str]


def read_tree(root: Path, *suffixes: str) -> Tree:
    """Find all folders at and below `root`, and their files with one of `suffixes` (lower case).

    Links are followed. Hidden folders, macOS's `__MACOSX` and synthetic databases below `root` are
    skipped. Raises DataError if `root` cannot be read.
    """
    files: dict[Path, list[Path]] = {}
    unusable: list[str] = []
    visited = set()

    def report(error: OSError) -> None:
        if error.filename == str(root):
            raise _unreadable_folder(root, error) from error
        unusable.append(f"{error.filename}: cannot be read: {error.strerror}")

    places = os.walk(root, onerror=report, followlinks=True) if is_folder(root) else ()
    for place, folders, names in places:
        target = os.path.realpath(place)
        is_synthetic = SYNTHETIC_MARKER in names and place != str(root)
        if is_synthetic:
            unusable.append(f"{place}: synthetic recordings, which are not used with others")
        if is_synthetic or target in visited:
            folders.clear()
            continue
        visited.add(target)
        folders[:] = sorted(name for name in folders if name[0] != "." and name != "__MACOSX")
        files[Path(place)] = _select_files(Path(place), names, suffixes)
        for path in _visible(Path(place), names):  # folders, too
            if path.suffix.lower() not in suffixes and (absence := _absence(path)):
                unusable.append(f"{path}: {absence}")
        if packed := sorted(name for name in names if _is_packed(Path(name), suffixes)):
            example = f"{len(packed)} packed or half downloaded, such as {packed[0]}"
            unusable.append(f"{place}: not used: {example}")
    order = sorted(files, key=lambda folder: (len(folder.parts), folder))
    return Tree({folder: files[folder] for folder in order}, unusable)


def is_folder(path: Path) -> bool:
    """Return whether `path` is a folder; False, too, if the folder above may not be read."""
    return os.path.isdir(path)  # noqa: PTH112 (Path.is_dir would raise)


def list_files(folder: Path, *suffixes: str) -> list[Path]:
    """Return a folder's files with one of `suffixes` (lower case), sorted.

    Links that lead nowhere are among them, and files that are not fetched yet. Raises DataError if
    the folder cannot be read.
    """
    try:
        return _select_files(folder, os.listdir(folder), suffixes)  # noqa: PTH208
    except OSError as error:
        raise _unreadable_folder(folder, error) from error


def files_by_stem(folder: Path, *suffixes: str) -> dict[str, Path]:
    """Return name without suffix -> file, of `list_files`."""
    return index_by_stem(list_files(folder, *suffixes))


def index_by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Return name without suffix -> file; the first of several with that name."""
    by_stem: dict[str, Path] = {}
    for path in paths:
        by_stem.setdefault(path.stem, path)
    return by_stem


def name_clashes(paths: Iterable[Path]) -> dict[str, list[str]]:
    """Return name without suffix -> problems: names that differ in case, or sounds in suffix."""
    groups: dict[tuple[str, bool], list[Path]] = defaultdict(list)
    for path in paths:
        groups[path.stem.casefold(), path.suffix.lower() in ANNOTATION_SUFFIXES].append(path)
    clashes: dict[str, list[str]] = defaultdict(list)
    for group in groups.values():
        names = " and ".join(path.name for path in group)
        places = " and ".join(dict.fromkeys(path.parent.name for path in group))
        for stem in {path.stem for path in group if len(group) > 1}:
            clashes[stem].append(
                f"{names}: {len(group)} files for one name in {places}, expected one"
            )
    return clashes


def are_copies(files: Sequence[Path], others: Sequence[Path]) -> bool:
    """Return whether the files have the same names, and the first three of them the same bytes."""
    names = [[path.name for path in paths] for paths in (files, others)]
    with contextlib.suppress(OSError):  # one of them cannot be read
        pairs = list(zip(files, others, strict=False))[:3]
        return names[0] == names[1] and all(filecmp.cmp(*pair, shallow=False) for pair in pairs)
    return False


def _select_files(folder: Path, names: Iterable[str], suffixes: Iterable[str]) -> list[Path]:
    paths = _visible(folder, names)
    return [path for path in paths if path.suffix.lower() in suffixes and _is_file(path)]


def _visible(folder: Path, names: Iterable[str]) -> list[Path]:
    """Return the paths of `names`, sorted, and those that they are placeholders of."""
    fetched = {PLACEHOLDER.sub(r"\g<name>", name) for name in names}
    # macOS leaves a file with a leading dot beside every file of an unpacked archive.
    return [folder / name for name in sorted(fetched) if name[0] != "."]


def _is_packed(path: Path, suffixes: Iterable[str]) -> bool:
    return path.suffix.lower() in PACKED_SUFFIXES and Path(path.stem).suffix.lower() in suffixes


def _is_file(path: Path) -> bool:
    """Return whether `path` is a file, or not there: then reading it gives the reason."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        if isinstance(error, PermissionError) and not os.path.islink(path):  # noqa: PTH114
            raise _unreadable_folder(path.parent, error) from error
        return True


def _absence(path: Path) -> str:
    """Return what is there in place of a file or folder that is not, or ""."""
    if os.path.exists(path):  # noqa: PTH110 (never raises)
        return ""
    if os.path.islink(path):  # noqa: PTH114
        return f"a link to {os.readlink(path)}, which is not there: {FETCH}"  # noqa: PTH115
    placeholders = (path.with_name(f"{path.name}.dvc"), path.with_name(f".{path.name}.icloud"))
    found = [one.name for one in placeholders if os.path.exists(one)]  # noqa: PTH110
    return f"only {found[0]} is there: {FETCH}" if found else ""


def _unreadable_folder(folder: Path, error: OSError) -> DataError:
    return DataError(f"The folder {folder.absolute()} cannot be read: {error.strerror} (data.root)")


def read_content(path: Path) -> bytes:
    """Return a file's bytes. Raises ValueError with the fault if they are not there."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {_absence(path) or error.strerror}") from error
    for start, fault in POINTERS.items():
        if content.startswith(start):
            raise ValueError(fault)
    return content


def decode_text(content: bytes, errors: str = "strict") -> str:
    """Return UTF-8 or UTF-16 as text, without its byte-order mark, lines ending alike.

    Raises UnicodeDecodeError.
    """
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if is_utf_16 else "utf-8-sig", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a text file that are not blank, with their numbers from 0.

    Raises ValueError if it cannot be read.
    """
    try:
        text = decode_text(read_content(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"not a text file: {error.reason} at byte {error.start}") from error
    # Not str.splitlines: it also splits at form feeds, so that line numbers would differ from
    # an editor's.
    return [(number, line) for number, line in enumerate(text.split("\n")) if line.strip()]


def parse_number(field: str, value: str, unit: str = "seconds") -> float:
    """Return a number from 0. Raises ValueError with the field for another value."""
    if DECIMAL_PATTERN.fullmatch(value) and 0 <= float(value) < math.inf:
        return float(value)
    point = value.replace(",", ".")
    expected = f"{unit} from 0, such as 1.234"
    if value.count(",") == 1 and DECIMAL_PATTERN.fullmatch(point):
        expected = f"a decimal point in place of the comma: {point}"
    raise ValueError(f"{field} is {quoted(value)}, expected {expected}")


def split_cells(line: str) -> list[str]:
    """Split a line of a table at its tabs, else semicolons, commas or spaces; keep blank cells.

    A comma that does not follow the first cell is a decimal one.
    """
    text = line.strip()
    comma = "," if re.match(r'"?\w*"?\s*,', text) else None
    separator = next((mark for mark in "\t;" if mark in text), comma)
    return [cell.strip(' \t"') for cell in line.split(separator)]


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
    if not os.path.exists(root):  # noqa: PTH110 (Path.exists may raise)
        return _absence(root) or "no such folder"
    return otherwise if is_folder(root) else "not a folder"


def quoted(value: object) -> str:
    """Return repr(value), cut to a length that fits into a message."""
    text = repr(value)
    if len(text) <= MAX_QUOTED_CHARACTERS:
        return text
    return text[: MAX_QUOTED_CHARACTERS - 3] + "..."
