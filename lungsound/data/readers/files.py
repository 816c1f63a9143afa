"""What the readers share: listing a folder, and parts of messages."""

from pathlib import Path

from lungsound.errors import DataError

MAX_QUOTED_CHARACTERS = 60


def files_by_stem(folder: Path, *suffixes: str) -> dict[str, Path]:
    """Return name without suffix -> file, of a folder's files with one of `suffixes` (lower case).

    Raises DataError if the folder cannot be read.
    """
    try:
        paths = sorted(folder.iterdir())
        # macOS leaves a file with a leading dot beside every file of an unpacked archive.
        return {
            path.stem: path
            for path in paths
            if path.suffix.lower() in suffixes and path.name[0] != "." and path.is_file()
        }
    except OSError as error:
        raise DataError(
            f"The folder {folder.absolute()} cannot be read: {error.strerror} (data.root)"
        ) from error


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
