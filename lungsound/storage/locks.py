"""File locks that end with their process, or once its machine no longer touches the lock file."""

import contextlib
import fcntl
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, LeaseCompromise, SoftFileLease, Timeout

from lungsound.storage.files import remove_temp_files, storage_error

LEASE_S = 120.0  # without flock: a holder that has not touched its lock file for so long is dead


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _file_system_lock(path)
        with contextlib.suppress(Timeout):
            lock.acquire(timeout)
    except OSError as error:
        raise storage_error(path, 0, error) from error
    try:
        yield lock.is_locked
    finally:
        lock.release()


def _file_system_lock(path: Path) -> FileLock | SoftFileLease:
    """Return a lock by flock, or one that its holder touches if the file system has no flock."""
    with contextlib.suppress(OSError):  # a folder that is read-only may have the lock file
        if flock_error(path.parent):
            # Another name: what flock leaves behind would be a lock of a holder unknown.
            return SoftFileLease(f"{path}.lease", lease_duration=LEASE_S, on_compromise=_end_work)
    return FileLock(path, fallback_to_soft=False)


def _end_work(loss: LeaseCompromise) -> None:
    """End this process's work, as SIGTERM does, once another one may have taken its lock."""
    print(
        f"{loss.lock_file}: expected to keep this lock, but its file could not be touched for "
        f"{LEASE_S:.0f} seconds ({loss.reason}): another process may be at work there. This one "
        "ends; the same command goes on",
        flush=True,
    )
    os.kill(os.getpid(), signal.SIGTERM)


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
