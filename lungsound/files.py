"""Every file of ours is written and read here: whole or not at all, and never trusted without its checksum."""

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lungsound.errors import DamagedFileError, LungsoundError

SEAL = b"lungsound sha256 "


def write_file(path: Path, content: bytes, sealed: bool = False) -> None:
    """Put `content` at `path` so that a reader sees the old file or the new one, never half of one.

    `sealed` files are read by us alone and carry their checksum in a first line; the others keep their own
    format, with the checksum beside them (`sha256sum -c NAME.sha256` verifies it).
    """
    digest = hashlib.sha256(content).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    if sealed:
        _replace(path, SEAL + digest.encode() + b"\n" + content)
        return
    # The checksum goes first: a death in between leaves a file that is noticed and made again, not one without check.
    _replace(checksum_path(path), f"{digest}  {path.name}\n".encode())
    _replace(path, content)


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
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process, which works on the same ({path})", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
