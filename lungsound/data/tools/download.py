"""Downloads of the databases. An archive is taken whole or not at all: a destination that is there
is complete.
"""

import contextlib
import lzma
import re
import shutil
import stat
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import pooch  # type: ignore[import-untyped]
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from lungsound.data.readers import icbhi, sprsound
from lungsound.errors import DataError
from lungsound.storage.locks import file_lock

GIGABYTE = 10**9
MAX_UNPACKED_BYTES = (
    20 * GIGABYTE
)  # ICBHI: 5.5 hours at 44.1 kHz and 24 bits would be 2.6 GB; SPRSound is smaller
CHUNK_BYTES = 2**18
SPRSOUND_FOLDERS = ("train_wav", "train_json", "test_wav", "test_json")
# The repository's later commits keep the same recordings under other names:
# BioCAS2022/train2022_wav and so on.
SPRSOUND_COMMIT = "45b0d5d435ff320c46585762fa1090afd0ebb318"


@dataclass(frozen=True)
class Source:
    """Where a database comes from. `sha256` is that of the archive at `url`, None where none was
    published.
    """

    title: str
    url: str
    sha256: str | None
    expected: str
    manual_url: str


SOURCES = {
    "icbhi": Source(
        "ICBHI 2017",
        "https://bhichallenge.med.auth.gr/sites/default/files/ICBHI_final_database/ICBHI_final_database.zip",
        None,
        "recordings such as 101_1b1_Al_sc_Meditron.wav, each with its .txt beside it",
        icbhi.SOURCE,
    ),
    "sprsound": Source(
        "SPRSound",
        f"{sprsound.SOURCE}/archive/{SPRSOUND_COMMIT}.zip",
        None,  # GitHub packs such an archive on demand and does not promise the same bytes
        f"{', '.join(SPRSOUND_FOLDERS)} in one folder",
        f"{sprsound.SOURCE} (commit {SPRSOUND_COMMIT[:7]}; later ones name its folders otherwise)",
    ),
}


def download_database(
    name: str, destination: Path, url: str | None = None, timeout_seconds: float = 30.0
) -> Path:
    """Put the database `name` (icbhi or sprsound) at `destination`; the folder below it to give as
    data.root.

    `url` is a mirror (http or https) or a local archive (a path or file://). `timeout_seconds` is
    how long a server may be silent. A destination that holds the database already is left as it is.
    Raises DataError where it holds other things, or where the archive does not come whole, is not
    what was expected or cannot be unpacked; then nothing is left behind.
    """
    if name not in SOURCES:
        raise DataError(f"Expected a database of {', '.join(SOURCES)}, but got {name!r}")
    source, destination = SOURCES[name], Path(destination).expanduser().resolve()
    if (existing := _find_existing(name, destination)) is not None:
        return existing
    location = url or source.url
    try:
        with _working_folder(destination) as work:
            if (existing := _find_existing(name, destination)) is not None:  # by whom we waited for
                return existing
            archive = _local_archive(location) or _download(
                location, work / "archive.zip", timeout_seconds
            )
            if url is None:
                _check_sha256(archive, source.sha256)
            folder = _unpack(name, archive, work / "unpacked")
            (work / "unpacked").replace(destination)
    except (DataError, OSError, ValueError) as error:
        raise DataError(
            f"{source.title} could not be had from {location}: {error}. Nothing was kept. Try again, or get the archive "
            f"by hand from {source.manual_url}, unpack it and give its folder as data.root=PATH"
        ) from error
    return destination / folder


def _find_existing(name: str, destination: Path) -> Path | None:
    """The database's folder in `destination`; None where that is empty or missing. DataError where
    it is in use.
    """
    if not destination.exists():
        return None
    names = [path.relative_to(destination).as_posix() for path in destination.rglob("*")]
    if destination.is_dir() and not names:
        return None
    if (folder := _find_database_folder(name, names)) is not None:
        print(f"{destination} holds {SOURCES[name].title} already: nothing to do")
        return destination / folder
    found = "a folder with other things in it" if destination.is_dir() else "a file"
    raise DataError(
        f"{destination} is {found}: expected a new or empty folder, or one with {SOURCES[name].expected}. "
        "Nothing was changed: give another folder."
    )


@contextlib.contextmanager
def _working_folder(destination: Path) -> Iterator[Path]:
    """An empty folder on the destination's disk, for one process at a time; what a killed one left
    in it is deleted.
    """
    folder = destination.with_name(f".{destination.name}.part")
    with file_lock(folder / "lock"):
        try:
            work = folder / "work"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            yield work
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _local_archive(address: str) -> Path | None:
    """The file that `address` names; None where it is to be downloaded."""
    scheme = urlsplit(address).scheme if "://" in address else ""
    if scheme in ("http", "https"):
        return None
    if scheme not in ("", "file"):
        raise DataError("expected an http, https or file address, or a path")
    path = Path(unquote(urlsplit(address).path)) if scheme else Path(address).expanduser()
    if not path.is_file():
        raise DataError(
            f"expected a zip archive, but got {'a folder' if path.is_dir() else 'no such file'}"
        )
    return path


def _download(url: str, archive: Path, timeout_seconds: float) -> Path:
    # A server that compresses on the way would announce another length than that of the file.
    headers = {"Accept-Encoding": "identity"}
    with contextlib.closing(_DownloadProgress()) as bar:
        downloader = pooch.HTTPDownloader(
            bar, CHUNK_BYTES, timeout=timeout_seconds, headers=headers
        )
        try:
            downloader(url, str(archive), None)
        except (OSError, ValueError) as error:  # the errors of requests are OSErrors
            raise DataError(
                f"expected a zip archive, but got: {error} (timeout {timeout_seconds:g} s)"
            ) from error
    length = archive.stat().st_size
    # requests takes a body that ends early as whole, unless the urllib3 below it is a recent one.
    if bar.total and length != bar.total:
        raise DataError(f"expected {bar.total} bytes, but got {length}: the connection broke off")
    return archive


class _DownloadProgress:
    """The progress bar that pooch asks for, on stderr. `total` is the length that the server
    announced, or 0.
    """

    total = 0

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("downloading"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self.bar = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self.task = self.bar.add_task("")
        self.bar.start()

    def update(self, size: int) -> None:
        self.bar.update(self.task, advance=size, total=self.total or None)

    def reset(self) -> None:
        self.bar.reset(self.task)

    def close(self) -> None:
        if self.bar.live.is_started:  # pooch closes it too, but only where all went well
            self.bar.stop()


def _check_sha256(archive: Path, expected: str | None) -> None:
    if expected is not None and (found := pooch.file_hash(str(archive), alg="sha256")) != expected:
        raise DataError(f"expected the archive with SHA-256 {expected}, but got one with {found}")


def _unpack(name: str, archive: Path, folder: Path) -> PurePosixPath:
    """Unpack the whole archive into `folder`; the database's folder in it."""
    if not zipfile.is_zipfile(archive):
        with archive.open("rb") as file:
            start = file.read(60)
        raise DataError(
            f"expected a whole zip archive, but got {archive.stat().st_size} bytes that begin {start!r}"
        )
    try:
        with zipfile.ZipFile(archive) as content:
            _check_archive_members(
                content.infolist(), archive, shutil.disk_usage(folder.parent).free
            )
            names = [member.filename for member in content.infolist() if not member.is_dir()]
            if (found := _find_database_folder(name, names)) is None:
                raise DataError(
                    f"expected {SOURCES[name].expected}, but got {len(names)} files, such as {names[:3]}"
                )
            if (damaged := content.testzip()) is not None:
                raise DataError(f"expected a whole zip archive, but {damaged} in it is damaged")
            content.extractall(folder)
    # RuntimeError: encrypted, or packed in a way that Python does not know.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise DataError(
            f"expected a whole zip archive, but it cannot be unpacked: {error}"
        ) from error
    return found


def _check_archive_members(members: list[zipfile.ZipInfo], archive: Path, free_bytes: int) -> None:
    """Raises DataError for a name that leads out of the folder, a link, or more bytes than there
    may be.
    """
    for member in members:
        parts = re.split(r"[/\\]", member.orig_filename)
        # The upper half of the attributes is the Unix mode, 0 where another system packed.
        kind = stat.S_IFMT(member.external_attr >> 16)
        if not parts[0] or ".." in parts or re.match("[A-Za-z]:", parts[0]):
            raise DataError(
                f"expected names below the archive's folder, but got {member.orig_filename!r}: refused"
            )
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(
                f"expected files and folders, but {member.orig_filename!r} is a link or a device: refused"
            )
    # zipfile writes no more of a member than the size that is summed here.
    needed, limit = sum(member.file_size for member in members), min(MAX_UNPACKED_BYTES, free_bytes)
    if needed > limit:
        raise DataError(
            f"expected at most {limit / GIGABYTE:.1f} GB unpacked ({free_bytes / GIGABYTE:.1f} GB are free), but "
            f"{archive.name} holds {needed / GIGABYTE:.1f} GB"
        )


def _find_database_folder(name: str, names: Iterable[str]) -> PurePosixPath | None:
    """The uppermost folder that holds the database, from the names of all files in and below it."""
    children: dict[PurePosixPath, set[str]] = defaultdict(set)
    for path in map(PurePosixPath, names):
        for child in (path, *path.parents[:-1]):
            children[child.parent].add(child.name)
    if name == "sprsound":
        candidates = [
            each
            for each in children
            if all(each / folder in children for folder in SPRSOUND_FOLDERS)
        ]
    else:
        candidates = [folder for folder, files in children.items() if _has_recordings(files)]
    return min(candidates, key=lambda folder: (len(folder.parts), folder), default=None)


def _has_recordings(files: set[str]) -> bool:
    audio, annotations = (
        {PurePosixPath(file).stem for file in files if file.lower().endswith(suffix)}
        for suffix in (".wav", ".txt")
    )
    return any(icbhi.NAME_PATTERN.fullmatch(stem) for stem in audio & annotations)
