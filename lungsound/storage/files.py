"""Every file of ours is written and read here: whole or not at all, and never trusted without its
checksum.
"""

import contextlib
import errno
import hashlib
import itertools
import os
import resource
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from lungsound.errors import CorruptFileError, LungsoundError, StorageError

CHECKSUM_HEADER = b"lungsound sha256 "
CHECKSUM_MANIFEST = (
    "SHA256SUMS"  # of a folder whose layout has no room for a checksum beside each file
)
TEMP_SUFFIX = ".part"  # ends the name of a file that is being written
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
QUARANTINE_INFIX = ".damaged-"  # and a number: ends the name of what was found damaged


def write_file(path: Path, content: bytes, embed_checksum: bool = False) -> None:
    """Put `content` at `path` so that a reader sees the old file or the new one, never half of one.

    `embed_checksum` files are read by us alone and carry their checksum in a first line; the others
    keep their own format, with the checksum beside them (`sha256sum -c NAME.sha256` verifies it).
    Raises StorageError where the disk is full or the folder cannot be written to; then the old file
    is still there, and nothing of the new one.
    """
    if embed_checksum:
        seal = CHECKSUM_HEADER + hashlib.sha256(content).hexdigest().encode() + b"\n"
        _write_atomically(path, [seal, content])
    else:
        write_stream(path, [content])


def write_stream(path: Path, blocks: Iterable[bytes], size: int = 0) -> None:
    """`write_file` for a content that need not be in memory as a whole: its pieces, one after the
    other.

    `size`: what all will come to in bytes, about, for an error that comes before their end.
    """
    _write_atomically(path, blocks, checksum_beside=True, size=size)


def write_folder(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write (name, content) of many files below `folder`, and then SHA256SUMS, which makes them a
    whole.
    """
    sums = [f"{_write_atomically(folder / name, [content])}  {name}\n" for name, content in files]
    write_file(folder / CHECKSUM_MANIFEST, "".join(sums).encode())


def is_intact_folder(folder: Path) -> bool:
    """Whether all that `write_folder` put there is there and matches its checksum."""
    try:
        lines = [
            line.partition("  ")
            for line in read_file(folder / CHECKSUM_MANIFEST).decode().splitlines()
        ]
        return all(_sha256(folder / name) == expected for expected, _, name in lines)
    except (OSError, CorruptFileError):
        return False


def read_file(path: Path, sealed: bool = False) -> bytes:
    """The content that `write_file` put there.

    Raises CorruptFileError where it does not match its checksum. A file without one beside it (a
    user's own split, say) is taken as it is.
    """
    with translate_read_errors(path):
        content = path.read_bytes()
    if sealed:
        head, _, content = content.partition(b"\n")
        expected = head.removeprefix(CHECKSUM_HEADER).decode(errors="replace")
    elif checksum_path(path).exists():
        expected = _read_checksum(checksum_path(path))
    else:
        return content
    if hashlib.sha256(content).hexdigest() != expected:
        raise CorruptFileError(
            f"{path} is damaged: its content does not match its checksum. Delete it to make it again."
        )
    return content


def is_intact(path: Path, sealed: bool = False) -> bool:
    """Whether the file is there with its checksum, and matches it."""
    try:
        if sealed:
            read_file(path, sealed)
            return True
        with translate_read_errors(path):
            return path.is_file() and _sha256(path) == _read_checksum(checksum_path(path))
    except (FileNotFoundError, CorruptFileError):
        return False


@contextlib.contextmanager
def translate_read_errors(path: Path) -> Iterator[None]:
    """Inside, a file that is there and cannot be read becomes a StorageError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(
            f"{path}: expected a file that can be read, but got: {error.strerror}. Let this user read it"
        ) from error


def verify_or_quarantine(path: Path, sealed: bool = False) -> bool:
    """`is_intact`; what is there and is not is renamed, so that it can be made again and nothing is
    lost.

    For who holds the lock of its folder: to others a file may look damaged while it is being
    replaced.
    """
    if is_intact(path, sealed):
        return True
    if path.exists():
        quarantine(path)
    return False


def quarantine(path: Path) -> None:
    """Rename a damaged file or folder to NAME.damaged-1 (or the next number that is free), and say
    so.
    """
    names = (
        path.with_name(f"{path.name}{QUARANTINE_INFIX}{number}") for number in itertools.count(1)
    )
    quarantined = next(name for name in names if not name.exists())
    path.rename(quarantined)
    checksum_path(path).unlink(missing_ok=True)
    print(
        f"{path} is damaged: it does not match its checksum. It was put aside as {quarantined.name}; what needs it is "
        "made again.",
        flush=True,
    )


@contextlib.contextmanager
def corrupt_file_on_error(path: Path) -> Iterator[None]:
    """Inside, only what the file at `path` holds is read: whatever goes wrong is its fault, and
    names it.

    A right checksum says that the file is as it was written, not that we wrote it. Raises
    CorruptFileError.
    """
    try:
        yield
    except LungsoundError:
        raise
    except Exception as error:
        raise corrupt_file_error(path, error) from error


def corrupt_file_error(path: Path, error: Exception) -> CorruptFileError:
    """What to say of a file whose content led to `error`."""
    reason = str(error).partition("\n")[0][:200]
    return CorruptFileError(
        f"{path} is not as this version writes it ({type(error).__name__}: {reason}). Delete it to make it again."
    )


def checksum_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def storage_error(path: Path, bytes_needed: int, error: OSError) -> StorageError:
    """What could not be stored there, the bytes `bytes_needed` and the bytes that are free, why,
    and what to do.
    """
    existing_parent = next(folder for folder in path.absolute().parents if folder.exists())
    what = f"{bytes_needed:,} bytes" if bytes_needed else "a file"
    message = f"{path}: expected to store {what} there, but got: {error.strerror or error}"
    hint = "name another place (output_dir=PATH, store_dir=PATH)"
    if error.errno not in DISK_FULL_ERRNOS:
        return StorageError(
            f"{message} ({error.filename or existing_parent}). Let this user write there, or {hint}"
        )
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    limit_note = (
        ""
        if limit == resource.RLIM_INFINITY
        else f", and a file may have {limit:,} bytes (ulimit -f)"
    )
    free = f"{shutil.disk_usage(existing_parent).free:,} bytes are free on its disk{limit_note}"
    return StorageError(
        f"{message} ({free}). Make room there, or {hint}; the same command then goes on"
    )


def _write_atomically(
    path: Path, pieces: Iterable[bytes], checksum_beside: bool = False, size: int = 0
) -> str:
    """Write `pieces` to `path`, all or nothing, also where the power fails; their SHA-256."""
    digest, written, temporary = hashlib.sha256(), 0, None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=TEMP_SUFFIX
        )
        with os.fdopen(handle, "wb") as file:
            for piece in pieces:
                written += len(piece)
                file.write(piece)
                digest.update(piece)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        # The checksum goes first: a death in between leaves a file that `_recover_temp_files` can
        # still put in its place.
        if checksum_beside:
            _write_atomically(
                checksum_path(path), [f"{digest.hexdigest()}  {path.name}\n".encode()]
            )
        os.replace(temporary, path)
    except BaseException as error:
        if temporary and os.path.exists(temporary):
            _commit_or_discard(Path(temporary), path)
        if isinstance(error, OSError):
            raise storage_error(path, max(written, size), error) from error
        raise
    _fsync_folder(path.parent)
    return digest.hexdigest()


def _fsync_folder(folder: Path) -> None:
    """Bring a new name to the disk: what is removed because a newer file is there must not be gone
    before it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(
            OSError
        ):  # not every file system can, and the file is in its place
            os.fsync(handle)
    finally:
        os.close(handle)


def _recover_temp_files(folder: Path) -> None:
    """Finish the writing of a file whose checksum is in place already, and remove what else a death
    left unfinished.
    """
    for unfinished in folder.rglob(f".*{TEMP_SUFFIX}"):
        path = unfinished.with_name(unfinished.name[1:].rsplit(".", 2)[0])
        _commit_or_discard(unfinished, path)


def _commit_or_discard(unfinished: Path, path: Path) -> None:
    """Put it in its place where its checksum is there already: else the file there would look
    damaged. Or it goes.
    """
    beside = checksum_path(path)
    if beside.exists() and _sha256(unfinished) == _read_checksum(beside):
        os.replace(unfinished, path)
    else:
        unfinished.unlink()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_checksum(beside: Path) -> str:
    return beside.read_text(errors="replace").partition(" ")[0]
