"""The names of a trajectory's files, and its lock, for commands that need no torch."""

from contextlib import AbstractContextManager
from pathlib import Path

from lungsound.storage.locks import file_lock

RESUME = "resume-*.ckpt"  # * is the epoch


def lock(folder: Path) -> AbstractContextManager[None]:
    """Lock a trajectory's folder, to train there or to remove it."""
    return file_lock(lock_path(folder), folder)


def lock_path(folder: Path) -> Path:
    """Return the lock file of a trajectory's folder."""
    return folder.with_name(f"{folder.name}.lock")


def files_by_epoch(folder: Path, pattern: str) -> dict[int, Path]:
    """Return epoch -> file, of the files that match `pattern` with a number for its *."""
    before, after = pattern.split("*")
    files = {}
    for path in folder.glob(pattern):
        number = path.name.removeprefix(before).removesuffix(after)
        if number.isascii() and number.isdigit():  # skip names such as a user's own copies
            files[int(number)] = path
    return files
