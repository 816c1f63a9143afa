"""File locks that the system releases if their process dies."""

import contextlib
import errno
import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from lungsound.errors import StorageError
from lungsound.storage.files import remove_temp_files, storage_error

NO_LOCKS_ERRNOS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
NO_LOCKS_HINT = "Its file system has no locks (flock)"


@contextlib.contextmanager
def file_lock(path: Path, folder: Path | None = None) -> Iterator[None]:
    """Hold the lock file `path`; wait, with a message, while another process holds it.

    `folder`: what the lock protects; half-written files of killed processes are removed from it.
    Raises StorageError if the lock file cannot be created.
    """
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(try_lock(path)):
            print(f"waiting for another process, which holds the lock {path}", flush=True)
            stack.enter_context(try_lock(path, timeout=-1))
        if folder is not None:
            remove_temp_files(folder)
        yield


@contextlib.contextmanager
def try_lock(path: Path, timeout: float = 0) -> Iterator[bool]:
    """Hold the lock file `path` if no other process does; yield whether it is held.

    `timeout`: seconds to wait; -1 waits without limit.
    """
    lock = FileLock(path, fallback_to_soft=False)  # a soft lock would outlive its process
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(Timeout):
            lock.acquire(timeout)
        refusal = None if lock.is_locked else flock_error(path.parent)
        if refusal is not None:  # it was no other process
            raise _no_locks(path, refusal)
    except OSError as error:
        if error.errno in NO_LOCKS_ERRNOS:
            raise _no_locks(path, error) from error
        raise storage_error(path, 0, error) from error
    try:
        yield lock.is_locked
    finally:
        lock.release()


def flock_error(folder: Path, *, posix: bool = False) -> OSError | None:
    """Return why a new file in the folder, which nobody else has, cannot be locked; None if it can.

    `posix`: by lockf, as sqlite does. Raises OSError if the file cannot be made.
    """
    lock = fcntl.lockf if posix else fcntl.flock
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error
    return None


def _no_locks(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path}: expected to lock this file, but got: {error.strerror}. {NO_LOCKS_HINT}: move the "
        "folder to another disk (output_dir, store_dir)"
    )
