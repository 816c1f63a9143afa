"""File locks that die with their process."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from lungsound.storage.files import _recover_temp_files, storage_error


@contextlib.contextmanager
def file_lock(path: Path, folder: Path | None = None) -> Iterator[None]:
    """Hold the lock file `path`; waits, and says so, for whoever has it. The kernel frees it when
    its process dies.

    What such a death left half written in `folder`, which the lock is for, is cleared away.
    """
    with open_lock_file(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process, which works on the same ({path})", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder is not None:
            _recover_temp_files(folder)
        yield


def open_lock_file(path: Path) -> TextIO:
    """A lock file, for flock. Raises StorageError where it cannot be made or written to."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")
    except OSError as error:
        raise storage_error(path, 0, error) from error
