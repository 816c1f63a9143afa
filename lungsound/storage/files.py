"""Atomic writes; checksums in a folder's SHA256SUMS, or in the first line of an internal file."""

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lungsound.errors import CorruptFileError, LungsoundError, StorageError

CHECKSUM_HEADER = b"lungsound sha256 "
CHECKSUM_MANIFEST = "SHA256SUMS"  # verify with: sha256sum -c SHA256SUMS
TEMP_SUFFIX = ".part"  # of the name of a file that is being written
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
QUARANTINE_INFIX = ".damaged-"  # followed by a number, in the name of a corrupt file


def write_file(path: Path, content: bytes, embed_checksum: bool = False) -> None:
    """Write `content` so that a reader sees the whole old file or the whole new one.

    `embed_checksum` puts the SHA-256 into a first line, for files that only this module reads.
    Raises StorageError if the disk is full or the folder cannot be written to; the old file stays.
    """
    header = _checksum_line(content) if embed_checksum else b""
    write_stream(path, [header + content])


def write_user_file(path: Path, content: bytes, option: str = "--to") -> None:
    """Write a file that a command line names. Raises StorageError that names its option."""
    try:
        write_file(path, content)
    except StorageError as error:
        raise StorageError(f"{path} cannot be written: {error.__cause__} ({option})") from error


def write_stream(path: Path, blocks: Iterable[bytes], size: int = 0) -> str:
    """Write `blocks` to `path`, all or nothing, even if the power fails; return their SHA-256.

    `size`: an estimate in bytes, for the error message if the disk is too small.
    """
    digest, written, temporary = hashlib.sha256(), 0, ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(TEMP_SUFFIX, f".{path.name}.", path.parent)
        with os.fdopen(handle, "wb") as file:
            for block in blocks:
                written += len(block)
                file.write(block)
                digest.update(block)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101
        os.replace(temporary, path)  # noqa: PTH105  # tests kill at each of these calls of `os`
    except BaseException as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise storage_error(path, max(written, size), error) from error
        raise
    _fsync_folder(path.parent)
    return digest.hexdigest()


def _fsync_folder(folder: Path) -> None:
    """Flush a rename to the disk, so that files it replaces can then be removed safely."""
    with contextlib.suppress(OSError):  # not possible on every system
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy if the file system has no links."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        os.link(source, target)
    except OSError:
        write_file(target, read_file(source))


def remove_temp_files(folder: Path) -> None:
    """Remove half-written files of killed processes. Call it only under the folder's lock."""
    for unfinished in folder.rglob(f".*{TEMP_SUFFIX}"):
        unfinished.unlink()


def write_folder(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write files, given as (name, content), below `folder`, and SHA256SUMS last."""
    write_checksums(folder, {name: write_stream(folder / name, [data]) for name, data in files})


def write_checksums(folder: Path, digests: Mapping[str, str]) -> None:
    """Write SHA256SUMS, which makes the folder complete; `digests`: file name -> SHA-256."""
    lines = [f"{digest}  {name}\n" for name, digest in digests.items()]
    write_file(folder / CHECKSUM_MANIFEST, "".join(lines).encode())


def read_checksums(folder: Path) -> dict[str, str]:
    """Return file name -> SHA-256; empty if SHA256SUMS is missing or names files elsewhere."""
    try:
        text = read_file(folder / CHECKSUM_MANIFEST).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    digests = {}
    for line in text.removesuffix("\n").split("\n"):
        digest, _, name = line.partition("  ")
        if not name or "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
            return {}
        digests[name] = digest
    return digests


def is_intact_folder(folder: Path) -> bool:
    """Return whether the folder has a SHA256SUMS, and every file in it matches."""
    digests = read_checksums(folder)
    return bool(digests) and not _mismatched(folder, digests)


def quarantine_mismatched(folder: Path) -> None:
    """Quarantine the files that do not match SHA256SUMS, and remove SHA256SUMS if there are any."""
    digests = read_checksums(folder)
    mismatched = _mismatched(folder, digests)
    for path in mismatched:
        if path.exists():
            quarantine(path)
    if mismatched or not digests:
        (folder / CHECKSUM_MANIFEST).unlink(missing_ok=True)


def _mismatched(folder: Path, digests: Mapping[str, str]) -> list[Path]:
    paths = {folder / name: digest for name, digest in digests.items()}
    return [p for p, digest in paths.items() if not p.is_file() or file_sha256(p) != digest]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, as hex digits."""
    with _translate_read_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_file(path: Path, embedded_checksum: bool = False) -> bytes:
    """Return the content that `write_file` wrote; FileNotFoundError if there is none.

    Raises CorruptFileError if it does not match its embedded checksum, StorageError if it cannot
    be read.
    """
    with _translate_read_errors(path):
        content = path.read_bytes()
    if embedded_checksum:
        header, newline, content = content.partition(b"\n")
        if header + newline != _checksum_line(content):
            raise checksum_error(path)
    return content


def _checksum_line(content: bytes) -> bytes:
    return CHECKSUM_HEADER + hashlib.sha256(content).hexdigest().encode() + b"\n"


@contextlib.contextmanager
def _translate_read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise StorageError(
            f"{path}: expected a file that can be read, but got: {error.strerror}. "
            "Let this user read it"
        ) from error


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it. Raises StorageError."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        raise StorageError(
            f"{path}: expected to remove it, but got: {error}. Let this user write there"
        ) from error


def quarantine(path: Path) -> None:
    """Rename a corrupt file or folder to NAME.damaged-1 (or the next free number), with a message.

    Call it only under the lock of its folder: another process may be replacing the file.
    """
    names = (path.with_name(f"{path.name}{QUARANTINE_INFIX}{n}") for n in itertools.count(1))
    quarantined = next(name for name in names if not name.exists())
    path.rename(quarantined)
    message = "its content is not what was written. It was renamed to"
    print(f"{path} is damaged: {message} {quarantined.name}, and is made again.", flush=True)


def checksum_error(path: Path) -> CorruptFileError:
    """Return the error for a file whose content does not match its checksum."""
    return CorruptFileError(
        f"{path} is damaged: its content does not match its checksum. Delete it to make it again."
    )


def corrupt_file_error(path: Path, error: Exception) -> CorruptFileError:
    """Return the error for a file whose content raised `error`."""
    reason = str(error).partition("\n")[0][:200]
    return CorruptFileError(
        f"{path} is not as this version writes it ({type(error).__name__}: {reason}). "
        "Delete it to make it again."
    )


@contextlib.contextmanager
def corrupt_file_on_error(path: Path) -> Iterator[None]:
    """Convert any exception in the block, which parses the content of `path`, to CorruptFileError.

    Needed even if the checksum matches: another program may have written the file.
    """
    try:
        yield
    except LungsoundError:
        raise
    except Exception as error:
        raise corrupt_file_error(path, error) from error


def storage_error(path: Path, bytes_needed: int, error: OSError) -> StorageError:
    """Return an error with path, bytes needed and free, reason and advice."""
    existing_parent = next(folder for folder in path.absolute().parents if folder.exists())
    content = f"{bytes_needed:,} bytes" if bytes_needed else "a file"
    message = f"{path}: expected to store {content} there, but got: {error.strerror or error}"
    hint = "name another place (output_dir=PATH, store_dir=PATH)"
    if error.errno not in DISK_FULL_ERRNOS:
        place = error.filename or existing_parent
        return StorageError(f"{message} ({place}). Let this user write there, or {hint}")
    free = f"{shutil.disk_usage(existing_parent).free:,} bytes are free on its disk"
    limit = " or its limit on a file's size is reached (ulimit -f)" * (error.errno == errno.EFBIG)
    return StorageError(
        f"{message} ({free}{limit}). Make room there, or {hint}; the same command then goes on"
    )
