"""Downloads: whole or not at all, from a small server on this machine and from local files."""

import contextlib
import gzip
import io
import signal
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pooch
import pytest

from lungsound.data.registry import DATABASES
from lungsound.data.tools import download as module
from lungsound.data.tools.download import download_database
from lungsound.errors import DataError

ICBHI = {
    "ICBHI_final_database/101_1b1_Al_sc_Meditron.wav": b"RIFF" + bytes(range(256)) * 8,
    "ICBHI_final_database/101_1b1_Al_sc_Meditron.txt": b"0.0\t1.5\t0\t1\n",
    "ICBHI_final_database/filename_differences.txt": b"",
}
TOP = "SPRSound-45b0d5d"  # as GitHub packs it
SPRSOUND = {
    f"{TOP}/README.md": b"# SPRSound",
    f"{TOP}/train_wav/40638274_9.7_1_p1_1696.wav": b"RIFF1",
    f"{TOP}/train_json/40638274_9.7_1_p1_1696.json": b"{}",
    f"{TOP}/test_wav/40512331_8.1_1_p1_3548.wav": b"RIFF2",
    f"{TOP}/test_json/inter_test_json/40512331_8.1_1_p1_3548.json": b"{}",
}
STALL_SECONDS = 0.2


def file_names(folder: Path) -> list[str]:
    """The names in a folder, without lock files, which stay."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def pack(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive; its bytes hold the time of day, so two calls can differ."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def pack_with_link(target: str) -> bytes:
    buffer = io.BytesIO(pack(ICBHI))
    with zipfile.ZipFile(buffer, "a") as archive:
        link = zipfile.ZipInfo("ICBHI_final_database/link.wav")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, target)
    return buffer.getvalue()


def pack_damaged() -> bytes:
    """A zip archive with one wrong byte in a recording."""
    content = bytearray(pack(ICBHI, zipfile.ZIP_STORED))
    content[content.index(b"RIFF") + 100] ^= 1
    return bytes(content)


def pack_encrypted() -> bytes:
    content = bytearray(pack(ICBHI))
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1
    return bytes(content)


GOOD = pack(ICBHI)
SOURCE = DATABASES["icbhi"].download
assert SOURCE


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.requests += 1
        self.server.asked.set()
        with contextlib.suppress(ConnectionError):  # the client may have given up
            self.server.answer(self)

    def log_message(self, *arguments: object) -> None:
        pass


def body(content: bytes, status: int = 200, length: int | None = None) -> Callable[[Handler], None]:
    """An answer that announces `length` bytes: by default as many as there are, none if -1."""

    def answer(handler: Handler) -> None:
        handler.send_response(status)
        if length != -1:
            handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def silent(handler: Handler) -> None:
    handler.server.release.wait(60)


def stalling(handler: Handler) -> None:
    body(GOOD[:200], length=len(GOOD))(handler)
    handler.wfile.flush()
    handler.server.release.wait(60)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A server that calls `server.answer`; stalling answers wait for `server.release`."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.answer, http.requests = body(GOOD), 0
        http.asked, http.release = threading.Event(), threading.Event()
        http.url = f"http://127.0.0.1:{http.server_port}/database.zip"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield http
        finally:
            http.release.set()
            http.shutdown()
            thread.join(60)


def test_folder_of_icbhi(server: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "icbhi").mkdir()  # an empty folder is filled
    for name in ("new", "icbhi"):
        folder = download_database("icbhi", tmp_path / name, server.url)
        assert folder == tmp_path / name / "ICBHI_final_database"
        assert contents(tmp_path / name) == ICBHI


def test_folder_of_sprsound(server: SimpleNamespace, tmp_path: Path) -> None:
    server.answer = body(pack(SPRSOUND), length=-1)  # as GitHub's archives
    folder = download_database("sprsound", tmp_path / "sprsound", server.url)
    assert folder == tmp_path / "sprsound" / TOP
    assert contents(tmp_path / "sprsound") == SPRSOUND


@pytest.mark.parametrize("above", ["", "Respiratory_Sound_Database/audio_and_txt_files/"])
def test_recordings_at_any_depth_of_a_local_archive(above: str, tmp_path: Path) -> None:
    files = {above + Path(name).name: content for name, content in ICBHI.items()}
    # macOS packs a file of its own beside every one.
    files |= {f"__MACOSX/._{Path(name).name}": b"" for name in ICBHI}
    archive = tmp_path / "my mirror.zip"
    archive.write_bytes(packed := pack(files))
    folder = download_database("icbhi", tmp_path / "icbhi", str(archive))
    assert folder == tmp_path / "icbhi" / above
    assert archive.read_bytes() == packed
    assert file_names(tmp_path) == ["icbhi", "my mirror.zip"]


SOUNDS = {name: b"" for name in ICBHI if name.endswith(".wav")}
BROKEN: dict[str, tuple[Callable[[Handler], None], str]] = {
    "silent": (silent, f"read timeout={STALL_SECONDS}"),
    "stalls": (stalling, "timed out"),
    "breaks off": (body(GOOD[:200], length=len(GOOD)), "200 bytes"),
    "breaks off unnoticed": (body(GOOD[:-30], length=-1), "expected a whole zip archive, but got"),
    "not found": (body(b"gone", 404), "404"),
    "a page": (body(b"<!DOCTYPE html><title>Sign in</title>"), "begin b'<!DOCTYPE html>"),
    "damaged": (body(pack_damaged()), "Bad CRC-32 for file 'ICBHI_final_database/101_1b1_Al"),
    "encrypted": (body(pack_encrypted()), "cannot be unpacked: "),
    "other files": (body(pack({"a.txt": b"", "b.wav": b""})), "got 2 files, such as ['a.txt'"),
    "no annotations": (body(pack(SOUNDS)), "got 1 files"),
}


@pytest.mark.parametrize(("answer", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_download_leaves_nothing_and_the_next_one_succeeds(
    answer: Callable[[Handler], None], message: str, server: SimpleNamespace, tmp_path: Path
) -> None:
    server.answer = answer
    timeout_seconds = STALL_SECONDS if answer in (silent, stalling) else 30
    with pytest.raises(DataError) as error:
        download_database("icbhi", tmp_path / "icbhi", server.url, timeout_seconds)
    parts = (message, server.url, SOURCE.page, "data.root=PATH")
    assert all(part in str(error.value) for part in parts)
    assert file_names(tmp_path) == []
    server.answer = body(GOOD)
    download_database("icbhi", tmp_path / "icbhi", server.url)
    assert contents(tmp_path) == {f"icbhi/{name}": content for name, content in ICBHI.items()}


def test_download_is_written_in_large_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def retrieve(*_: object, downloader: pooch.HTTPDownloader) -> None:
        sizes.append(downloader.chunk_size)
        raise OSError

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(DataError):
        download_database("icbhi", tmp_path / "icbhi")
    assert sizes == [2**18]


def test_download_is_not_compressed_on_the_way(server: SimpleNamespace, tmp_path: Path) -> None:
    def answer(handler: Handler) -> None:
        compress = "gzip" in handler.headers["Accept-Encoding"]
        content = gzip.compress(GOOD) if compress else GOOD
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        if compress:
            handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(content)

    server.answer = answer
    download_database("icbhi", tmp_path / "icbhi", server.url)
    assert contents(tmp_path / "icbhi") == ICBHI


def test_later_commits_of_sprsound_are_refused(tmp_path: Path) -> None:
    later = {name.replace("train_", "BioCAS2022/train2022_"): b"" for name in SPRSOUND}
    (tmp_path / "main.zip").write_bytes(pack(later))
    message = "expected train_wav, train_json, test_wav, test_json in one folder.*commit 45b0d5d"
    with pytest.raises(DataError, match=message):
        download_database("sprsound", tmp_path / "sprsound", str(tmp_path / "main.zip"))


NAMES = ("../up.txt", "a/../../up.txt", "/etc/up.txt", "C:\\up.txt", "C:up.txt", "..\\up.txt")


@pytest.mark.parametrize(
    "archive", [*(pack({**ICBHI, name: b"evil"}) for name in NAMES), pack_with_link("/etc/passwd")]
)
def test_archive_writes_no_file_or_link_outside_its_folder(archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(archive)
    folder = tmp_path / "below" / "icbhi"
    download_database("icbhi", folder, str(tmp_path / "bad.zip"))
    outside = set(contents(tmp_path)) - {f"below/icbhi/{name}" for name in contents(folder)}
    assert outside == {"bad.zip"}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
    assert contents(folder).items() >= ICBHI.items()


@pytest.mark.parametrize("name", ["..", "ICBHI_final_database"])
def test_archive_with_a_file_in_a_folders_place_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(pack({**ICBHI, name: b""}))
    with pytest.raises(DataError, match="has a file in a folder's place"):
        download_database("icbhi", tmp_path / "icbhi", str(tmp_path / "bad.zip"))
    assert file_names(tmp_path) == ["bad.zip"]


@pytest.mark.parametrize(("limit", "free"), [(1000, 10**12), (10**12, 1000)])
def test_archive_larger_than_limit_or_disk_is_refused(
    limit: int, free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bomb.zip").write_bytes(GOOD)
    monkeypatch.setattr(module, "MAX_UNPACKED_BYTES", limit)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(DataError, match="unpacked"):
        download_database("icbhi", tmp_path / "icbhi", str(tmp_path / "bomb.zip"))
    assert file_names(tmp_path) == ["bomb.zip"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(28, "No space left"), DataError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_failure_while_unpacking_leaves_nothing(
    error: BaseException,
    raised: type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def extract_one(archive: zipfile.ZipFile, path: str) -> None:
        archive.extract(archive.namelist()[0], path)
        raise error

    (tmp_path / "icbhi.zip").write_bytes(GOOD)
    monkeypatch.setattr(zipfile.ZipFile, "extractall", extract_one)
    with pytest.raises(raised):
        download_database("icbhi", tmp_path / "icbhi", str(tmp_path / "icbhi.zip"))
    assert file_names(tmp_path) == ["icbhi.zip"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("missing.zip", "but got no such file"),
        ("~nouser/x.zip", "but got no such file"),
        (".", "but got a folder"),
        ("ftp://127.0.0.1/x.zip", "expected an http or https address or a zip archive"),
        ("http://[127.0.0.1/x.zip", "not a valid host"),
        ("http:///x.zip", "No host"),
        ("HTTP://127.0.0.1:1/x.zip", "[Rr]efused"),
        ("http://127.0.0.1:1/x.zip", "[Rr]efused"),
    ],
)
def test_unusable_address(
    address: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with contextlib.chdir(tmp_path), pytest.raises(DataError, match=message) as error:
        download_database("icbhi", tmp_path / "icbhi", address)
    assert address in str(error.value)
    assert file_names(tmp_path) == []


def test_unknown_database(tmp_path: Path) -> None:
    message = "Expected a database of icbhi, sprsound, but got 'coswara'"
    with pytest.raises(DataError, match=message):
        download_database("coswara", tmp_path / "data")


def test_existing_database_is_not_touched(
    server: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = download_database("icbhi", tmp_path / "icbhi", server.url)
    (first / "notes.md").write_text("mine")
    before = contents(tmp_path)
    assert download_database("icbhi", tmp_path / "icbhi", server.url) == first
    assert "holds ICBHI 2017 already" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"expected a new or empty folder.*but got 4 files"):
        download_database("sprsound", tmp_path / "icbhi", server.url)
    with pytest.raises(DataError, match=r"expected a new or empty folder.*but got a file"):
        download_database("icbhi", first / "notes.md", server.url)
    assert server.requests == 1
    assert contents(tmp_path) == before


def test_lock_that_cannot_be_written_matters_to_a_download_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "icbhi.zip"
    archive.write_bytes(GOOD)
    folder = download_database("icbhi", tmp_path / "icbhi", str(archive))
    monkeypatch.setattr(module.tempfile, "tempdir", str(archive / "tmp"))
    assert download_database("icbhi", tmp_path / "icbhi", str(archive)) == folder
    with pytest.raises(DataError, match=r"expected a lock file.*TMPDIR=PATH") as error:
        download_database("icbhi", tmp_path / "new", str(archive))
    assert "output_dir" not in str(error.value)
    assert file_names(tmp_path) == ["icbhi", "icbhi.zip"]


def test_published_checksum_is_of_its_own_address_alone(
    server: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = replace(SOURCE, url=server.url, sha256="0" * 64)
    monkeypatch.setitem(DATABASES, "icbhi", replace(DATABASES["icbhi"], download=source))
    with pytest.raises(DataError, match=f"known hash: expected {'0' * 64} but got"):
        download_database("icbhi", tmp_path / "icbhi")
    assert file_names(tmp_path) == []
    # A mirror may pack the files in another way.
    download_database("icbhi", tmp_path / "icbhi", f"{server.url}?mirror")


def test_simultaneous_calls_download_once(server: SimpleNamespace, tmp_path: Path) -> None:
    go_on, waiting = threading.Event(), threading.Event()

    def answer(handler: Handler) -> None:
        assert go_on.wait(60)
        body(GOOD)(handler)

    class Output(io.StringIO):
        def write(self, text: str) -> int:
            if "waiting for another process" in text:
                waiting.set()
            return super().write(text)

    server.answer = answer
    folders: list[Path] = []
    threads = [
        threading.Thread(
            target=lambda: folders.append(
                download_database("icbhi", tmp_path / "icbhi", server.url)
            )
        )
        for _ in range(2)
    ]
    with contextlib.redirect_stdout(Output()):
        for thread in threads:
            thread.start()
        assert waiting.wait(60)
        go_on.set()
        for thread in threads:
            thread.join(60)
    assert folders == [tmp_path / "icbhi" / "ICBHI_final_database"] * 2
    assert server.requests == 1
    assert file_names(tmp_path) == ["icbhi"]


def test_files_of_a_killed_download_are_removed(server: SimpleNamespace, tmp_path: Path) -> None:
    server.answer = stalling
    code = (
        "import sys; from lungsound.data.tools.download import download_database; "
        "download_database('icbhi', sys.argv[1], sys.argv[2])"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "icbhi"), server.url])
    assert server.asked.wait(60)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    assert file_names(tmp_path) == [".icbhi.part"]
    unpacked = tmp_path / ".icbhi.part" / "unpacked"  # as if it had come that far
    unpacked.mkdir()
    (unpacked / "101_1b1_Al_sc_Litt3200.wav").write_bytes(b"RI")
    server.answer = body(GOOD)
    download_database("icbhi", tmp_path / "icbhi", server.url)
    assert file_names(tmp_path) == ["icbhi"]
    assert contents(tmp_path / "icbhi") == ICBHI
