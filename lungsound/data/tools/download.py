"""Download a database. The destination folder appears only when it is complete."""

import contextlib
import lzma
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pooch  # type: ignore[import-untyped]

from lungsound.data.registry import DATABASES, DownloadSource
from lungsound.errors import DataError
from lungsound.storage.keys import content_key
from lungsound.storage.locks import file_lock

GIGABYTE = 10**9
# ICBHI: 5.5 hours at 44.1 kHz and 24 bits would be 2.6 GB; SPRSound is smaller.
MAX_UNPACKED_BYTES = 20 * GIGABYTE
CHUNK_BYTES = 2**18


def download_database(
    name: str, destination: Path, url: str | None = None, timeout_seconds: float = 30.0
) -> Path:
    """Download the database `name` to `destination`; return the folder to use as data.root.

    `url` is a mirror (http or https) or a local archive (a path or file://). `timeout_seconds` is
    how long a server may be silent. A destination that already has the database stays as it is.
    Raises DataError if it has other content, or if the archive is incomplete, has other content or
    cannot be unpacked; then nothing is left behind.
    """
    sources = {spec.name: spec.download for spec in DATABASES.values() if spec.download}
    if name not in sources:
        raise DataError(f"Expected a database of {', '.join(sources)}, but got {name!r}")
    source, title = sources[name], DATABASES[name].title
    destination = Path(destination).expanduser().resolve()
    if folder := _existing_folder(destination, source, title):
        return folder
    location = url or source.url
    try:
        with _working_folder(destination) as work:
            # Another process may have finished while this one waited for the folder.
            if folder := _existing_folder(destination, source, title):
                return folder
            sha256 = source.sha256 if url is None else None
            archive = _local_archive(location) or _download(location, sha256, work, timeout_seconds)
            unpacked = work / "unpacked"
            _unpack(archive, unpacked)
            folder = _find_folder(unpacked, source)
            if folder is None:
                names = sorted(path.name for path in unpacked.rglob("*") if path.is_file())
                found = f"{len(names)} files, such as {names[:3]}"
                raise DataError(f"expected {source.expected}, but got {found}")
            unpacked.replace(destination)
    except (DataError, OSError, ValueError) as error:
        raise DataError(
            f"{title} could not be obtained from {location}: {error}. Nothing was kept. Try again, "
            f"or download the archive yourself from {source.page}, unpack it and give its folder "
            "as data.root=PATH"
        ) from error
    return destination / folder.relative_to(unpacked)


def _existing_folder(destination: Path, source: DownloadSource, title: str) -> Path | None:
    """Return the database's folder in `destination`; None if that is missing or empty.

    Raises DataError if it has other content.
    """
    is_folder = destination.is_dir()
    if not destination.exists() or (is_folder and not any(destination.iterdir())):
        return None
    folder = _find_folder(destination, source) if is_folder else None
    if folder:
        print(f"{destination} holds {title} already: nothing to do")
        return folder
    found = "a folder with other things in it" if is_folder else "a file"
    raise DataError(
        f"{destination} is {found}: expected a new or empty folder, or one with {source.expected}. "
        "Nothing was changed: give another folder."
    )


def _find_folder(root: Path, source: DownloadSource) -> Path | None:
    """Return the uppermost folder at or below `root` that holds the database."""
    below = [path for path in root.rglob("*") if path.is_dir()]
    folders = [root, *sorted(below, key=lambda path: (len(path.parts), path))]
    return next((folder for folder in folders if source.is_database(folder)), None)


@contextlib.contextmanager
def _working_folder(destination: Path) -> Iterator[Path]:
    """Create an empty folder beside `destination`, for one process at a time; delete it at the end.

    Files that a killed process left in it are deleted too.
    """
    folder = destination.with_name(f".{destination.name}.part")
    key = content_key(str(destination.absolute()))
    with file_lock(Path(tempfile.gettempdir()) / f"lungsound-{key}.lock"):
        try:
            work = folder / "work"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            yield work
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _local_archive(address: str) -> Path | None:
    """Return the file that `address` names; None if it is an http or https address."""
    scheme = urlsplit(address).scheme if "://" in address else ""
    if scheme in ("http", "https"):
        return None
    if scheme not in ("", "file"):
        raise DataError("expected an http, https or file address, or a path")
    path = Path(unquote(urlsplit(address).path)) if scheme else Path(address).expanduser()
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise DataError(f"expected a zip archive, but got {found}")
    return path


def _download(url: str, sha256: str | None, folder: Path, timeout_seconds: float) -> Path:
    """Download the archive at `url` into `folder`. Raises DataError."""
    pooch.get_logger().setLevel("WARNING")  # its advice on checksums does not concern users
    downloader = pooch.HTTPDownloader(
        progressbar=True,
        chunk_size=CHUNK_BYTES,
        timeout=timeout_seconds,
        headers={"Accept-Encoding": "identity"},  # else the progress bar counts compressed bytes
    )
    try:
        path: str = pooch.retrieve(url, sha256, "archive.zip", folder, downloader=downloader)
    except (OSError, ValueError) as error:  # the errors of requests are OSErrors
        raise DataError(
            f"expected a zip archive, but got: {error} (timeout {timeout_seconds:g} s)"
        ) from error
    return Path(path)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive. Raises DataError if its names, types or sizes are unsafe."""
    if not zipfile.is_zipfile(archive):
        with archive.open("rb") as file:
            start = file.read(60)
        size = archive.stat().st_size
        raise DataError(f"expected a whole zip archive, but got {size} bytes that begin {start!r}")
    try:
        with zipfile.ZipFile(archive) as content:
            _check_members(content.infolist(), archive, shutil.disk_usage(folder.parent).free)
        pooch.Unzip(extract_dir=str(folder))(str(archive), "download", None)
    # RuntimeError: encrypted, or of an unknown compression method.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise DataError(
            f"expected a whole zip archive, but it cannot be unpacked: {error}"
        ) from error


def _check_members(members: list[zipfile.ZipInfo], archive: Path, free_bytes: int) -> None:
    """Raise DataError for a name outside the folder, a link, or too many bytes."""
    for member in members:
        parts = re.split(r"[/\\]", member.orig_filename)
        if not parts[0] or ".." in parts or re.match("[A-Za-z]:", parts[0]):
            raise DataError(
                f"expected names below the archive's folder, but got {member.orig_filename!r}: "
                "refused"
            )
        # The upper 16 bits are the Unix mode, 0 if packed on another system.
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(
                f"expected files and folders, but {member.orig_filename!r} is a link or a device: "
                "refused"
            )
    # zipfile never writes more of a member than this declared size.
    needed = sum(member.file_size for member in members)
    limit = min(MAX_UNPACKED_BYTES, free_bytes)
    if needed > limit:
        raise DataError(
            f"expected at most {limit / GIGABYTE:.1f} GB unpacked ({free_bytes / GIGABYTE:.1f} GB "
            f"are free), but {archive.name} holds {needed / GIGABYTE:.1f} GB"
        )
