"""Every file of ours is written and read here: whole or not at all, and never trusted without its checksum."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lungsound.errors import DamagedFileError, LungsoundError, StorageError

SEAL = b"lungsound sha256 "
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_file(path: Path, content: bytes, sealed: bool = False) -> None:
    """Put `content` at `path` so that a reader sees the old file or the new one, never half of one.

    `sealed` files are read by us alone and carry their checksum in a first line; the others keep their own
    format, with the checksum beside them (`sha256sum -c NAME.sha256` verifies it). Raises StorageError where the
    disk is full or the folder cannot be written to; then the old file is still there, and nothing of the new one.
    """
    digest = hashlib.sha256(content).hexdigest()
    with storing(path, len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        if sealed:
            _replace({path: SEAL + digest.encode() + b"\n" + content})
        else:
            # The checksum goes first: a death in between leaves a file that is noticed and made again, not one
            # without check.
            _replace({checksum_path(path): f"{digest}  {path.name}\n".encode(), path: content})


def read_file(path: Path, sealed: bool = False) -> bytes:
    """The content that `write_file` put there.

    Raises DamagedFileError where it does not match its checksum. A file without one beside it (a user's own
    split, say) is taken as it is.
    """
    content = path.read_bytes()
    if sealed:
        head, _, content = content.partition(b"\n")
        expected = head.removeprefix(SEAL).decode(errors="replace")
    elif checksum_path(path).exists():
        expected = checksum_path(path).read_text().partition(" ")[0]
    else:
        return content
    if hashlib.sha256(content).hexdigest() != expected:
        raise DamagedFileError(
            f"{path} is damaged: its content does not match its checksum. Delete it to make it again."
        )
    return content


def is_whole(path: Path, sealed: bool = False) -> bool:
    """Whether the file is there and matches its checksum."""
    try:
        read_file(path, sealed)
    except (FileNotFoundError, DamagedFileError):
        return False
    return True


@contextlib.contextmanager
def understood(path: Path) -> Iterator[None]:
    """Inside, only what the file at `path` holds is read: whatever goes wrong is its fault, and names it.

    A right checksum says that the file is as it was written, not that we wrote it. Raises DamagedFileError.
    """
    try:
        yield
    except LungsoundError:
        raise
    except Exception as error:
        raise not_ours(path, error) from error


def not_ours(path: Path, error: Exception) -> DamagedFileError:
    """What to say of a file whose content led to `error`."""
    said = str(error).partition("\n")[0][:200]
    return DamagedFileError(
        f"{path} is not as this version writes it ({type(error).__name__}: {said}). Delete it to make it again."
    )


def checksum_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def key_of(value: Any) -> str:
    """16 hex digits that name a value: equal values, equal keys."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:16]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; waits, and says so, for whoever has it. The kernel frees it when its process dies."""
    with storing(path, 0):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process, which works on the same ({path})", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def storing(path: Path, needed: int) -> Iterator[None]:
    """Inside, what the operating system refuses becomes a StorageError."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, needed, error) from error


def storage_error(path: Path, needed: int, error: OSError) -> StorageError:
    """What could not be stored there, the bytes `needed` and the bytes that are free, why, and what to do."""
    there = next(folder for folder in path.absolute().parents if folder.exists())
    told = f"{path}: expected to store {needed:,} bytes there, but got: {error.strerror or error}"
    elsewhere = "name another place (output_dir=PATH, store_dir=PATH)"
    if error.errno not in FULL:
        return StorageError(f"{told} ({error.filename or there}). Let this user write there, or {elsewhere}")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    limited = "" if limit == resource.RLIM_INFINITY else f", and a file may have {limit:,} bytes (ulimit -f)"
    free = f"{shutil.disk_usage(there).free:,} bytes are free on its disk{limited}"
    return StorageError(f"{told} ({free}). Make room there, or {elsewhere}; the same command then goes on")


def _replace(files: dict[Path, bytes]) -> None:
    """Put every content at its path, in this order; on a full disk none: all are written before the first is moved."""
    written: list[str] = []
    try:
        for path, content in files.items():
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            written.append(temporary)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
        for path, temporary in zip(files, written, strict=True):
            os.replace(temporary, path)
    except BaseException:
        for temporary in written:
            Path(temporary).unlink(missing_ok=True)
        raise
