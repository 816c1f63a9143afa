"""Download a database. The destination folder appears only when it is complete."""

import contextlib
import lzma
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pooch  # type: ignore[import-untyped]

from lungsound.data.registry import DATABASES, DownloadSource
from lungsound.errors import DataError, StorageError
from lungsound.storage.keys import content_key
from lungsound.storage.locks import file_lock

GIGABYTE = 10**9
# ICBHI: 5.5 hours at 44.1 kHz and 24 bits would be 2.6 GB; SPRSound is smaller.
MAX_UNPACKED_BYTES = 20 * GIGABYTE
# RuntimeError: encrypted, or of an unknown compression method.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


def download_database(
    name: str, destination: Path, url: str | None = None, timeout_seconds: float = 30.0
) -> Path:
    """Download the database `name` to `destination`; return the folder to use as data.root.

    `url` is a mirror (http or https) or the path of an archive. `timeout_seconds` is how long a
    server may be silent. A destination that already has the database stays as it is. Raises
    DataError if it has other content, or if the archive is incomplete, has other content or cannot
    be unpacked; then nothing is left behind.
    """
    sources = {spec.name: spec.download for spec in DATABASES.values() if spec.download}
    if name not in sources:
        raise DataError(f"Expected a database of {', '.join(sources)}, but got {name!r}")
    source, title = sources[name], DATABASES[name].title
    destination = Path(os.path.expanduser(destination)).resolve()
    if folder := _existing_folder(destination, source, title):
        return folder
    location = url or source.url
    with _working_folder(destination) as work:
        # Another process may have finished while this one waited for the lock.
        if folder := _existing_folder(destination, source, title):
            return folder
        try:
            work.mkdir(parents=True)
            archive = _fetch(location, None if url else source.sha256, work, timeout_seconds)
            unpacked = work / "unpacked"
            _unpack(archive, unpacked)
            folder = _find_folder(unpacked, source)
            unpacked.replace(destination)
        except (DataError, OSError, ValueError) as error:
            raise DataError(
                f"{title} could not be obtained from {location}: {error}. Nothing was kept. Try "
                f"again, or download the archive yourself from {source.page}, unpack it and give "
                "its folder as data.root=PATH"
            ) from error
    return destination / folder.relative_to(unpacked)


def _existing_folder(destination: Path, source: DownloadSource, title: str) -> Path | None:
    """Return the database's folder in `destination`; None if that is missing or empty.

    Raises DataError if it has other content.
    """
    if not destination.exists() or (destination.is_dir() and not any(destination.iterdir())):
        return None
    try:
        folder = _find_folder(destination, source)
    except DataError as error:
        raise DataError(
            f"{destination}: expected a new or empty folder, or one with the database: {error}. "
            "Nothing was changed: give another folder."
        ) from error
    print(f"{destination} holds {title} already: nothing to do")
    return folder


def _find_folder(root: Path, source: DownloadSource) -> Path:
    """Return the uppermost folder at or below `root` with the database. Raises DataError."""
    paths = sorted(root.rglob("*"), key=lambda path: (len(path.parts), path))
    for folder in [root, *paths]:
        if folder.is_dir() and source.is_database(folder):
            return folder
    names = sorted(path.name for path in paths if path.is_file())
    found = f"{len(names)} files, such as {names[:3]}" if root.is_dir() else "a file"
    raise DataError(f"expected {source.expected}, but got {found}")


@contextlib.contextmanager
def _working_folder(destination: Path) -> Iterator[Path]:
    """Yield a new folder beside `destination`, for one process at a time; delete it at the end.

    It is deleted at the beginning, too, if a killed process left it. Raises DataError if the lock
    file cannot be written.
    """
    folder = destination.with_name(f".{destination.name}.part")
    key = content_key(str(destination))
    lock = Path(tempfile.gettempdir()) / f"lungsound-{key}.lock"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(lock))
        except StorageError as error:
            raise DataError(
                f"{lock}: expected a lock file that this user may write, but got: "
                f"{error.__cause__}. Delete it, or give another folder for it: TMPDIR=PATH"
            ) from error
        shutil.rmtree(folder, ignore_errors=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _fetch(location: str, sha256: str | None, folder: Path, timeout_seconds: float) -> Path:
    """Return the archive at the path `location`, or download it into `folder`. Raises DataError."""
    if not location.lower().startswith(("http://", "https://")):
        path = Path(os.path.expanduser(location))
        if not path.is_file():
            found = "a folder" if path.is_dir() else "no such file"
            raise DataError(f"expected an http or https address or a zip archive, but got {found}")
        return path
    pooch.get_logger().setLevel("WARNING")  # its advice on checksums does not concern users
    downloader = pooch.HTTPDownloader(
        progressbar=True,
        chunk_size=2**18,  # pooch's own 1 KiB is slow
        timeout=timeout_seconds,
        headers={"Accept-Encoding": "identity"},  # else the progress bar counts compressed bytes
    )
    try:
        return Path(pooch.retrieve(location, sha256, "archive.zip", folder, downloader=downloader))
    except (OSError, ValueError) as error:  # the errors of requests are OSErrors
        raise DataError(
            f"expected a zip archive, but got: {error} (timeout {timeout_seconds:g} s)"
        ) from error


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive. Raises DataError.

    zipfile writes nothing outside `folder`: it drops roots, drives and `..` from the members'
    names, and writes links and special files as ordinary files.
    """
    if not zipfile.is_zipfile(archive):
        with archive.open("rb") as file:
            start = file.read(60)
        size = archive.stat().st_size
        raise DataError(f"expected a whole zip archive, but got {size} bytes that begin {start!r}")
    try:
        with zipfile.ZipFile(archive) as content:
            # zipfile never writes more of a member than this declared size.
            _check_size(sum(member.file_size for member in content.infolist()), folder.parent)
            content.extractall(folder)
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise DataError(
            "expected files in folders, but the archive has a file in a folder's place "
            "(a name such as `..`, or one name of both)"
        ) from error
    except ZIP_ERRORS as error:
        message = "expected a whole zip archive, but it cannot be unpacked"
        raise DataError(f"{message}: {error}") from error


def _check_size(size: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    limit = min(MAX_UNPACKED_BYTES, free)
    if size > limit:
        raise DataError(
            f"expected at most {limit / GIGABYTE:.1f} GB unpacked ({free / GIGABYTE:.1f} GB are "
            f"free), but the archive holds {size / GIGABYTE:.1f} GB"
        )
