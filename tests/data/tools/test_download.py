"""Downloads: whole or not at all, from a small server on this machine and from local files."""

import contextlib
import gzip
import io
import re
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
LATER_SPRSOUND = {
    name.replace("train_", "BioCAS2022/train2022_"): content for name, content in SPRSOUND.items()
}
STALL_SECONDS = 0.2


def names(folder: Path) -> list[str]:
    """What is in the folder beside lock files, which stay."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def packed(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def with_link(target: str) -> bytes:
    buffer = io.BytesIO(packed(ICBHI))
    with zipfile.ZipFile(buffer, "a") as archive:
        link = zipfile.ZipInfo("ICBHI_final_database/link.wav")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, target)
    return buffer.getvalue()


def damaged() -> bytes:
    """A zip archive with one wrong byte in a recording."""
    content = bytearray(packed(ICBHI, zipfile.ZIP_STORED))
    content[content.index(b"RIFF") + 100] ^= 1
    return bytes(content)


def encrypted() -> bytes:
    content = bytearray(packed(ICBHI))
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1
    return bytes(content)


GOOD = packed(ICBHI)
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
    """An answer that announces `length` bytes: by default as many as there are; -1: it does not
    say.
    """

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
    """A server that answers as `server.answer` says; the stalling answers wait for
    `server.release`.
    """
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


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_folder_of_icbhis_recordings(server: SimpleNamespace, tmp_path: Path) -> None:
    folder = download_database("icbhi", tmp_path / "new" / "icbhi", server.url)
    assert folder == tmp_path / "new" / "icbhi" / "ICBHI_final_database"
    assert contents(tmp_path / "new") == {
        f"icbhi/{name}": content for name, content in ICBHI.items()
    }


def test_the_folder_that_holds_sprsounds_parts(server: SimpleNamespace, tmp_path: Path) -> None:
    server.answer = body(packed(SPRSOUND), length=-1)  # GitHub does not say how long its archive is
    assert (
        download_database("sprsound", tmp_path / "sprsound", server.url)
        == tmp_path / "sprsound" / TOP
    )
    assert contents(tmp_path / "sprsound") == SPRSOUND


@pytest.mark.parametrize(
    "above", ["", "Respiratory_Sound_Database/Respiratory_Sound_Database/audio_and_txt_files/"]
)
def test_recordings_at_any_depth(above: str, tmp_path: Path) -> None:
    files = {above + Path(name).name: content for name, content in ICBHI.items()}
    # macOS packs a file of its own beside every one.
    files |= {f"__MACOSX/._{Path(name).name}": b"" for name in ICBHI}
    (tmp_path / "mirror.zip").write_bytes(packed(files))
    assert (
        download_database("icbhi", tmp_path / "icbhi", str(tmp_path / "mirror.zip"))
        == tmp_path / "icbhi" / above
    )


BROKEN: dict[str, tuple[Callable[[Handler], None], str]] = {
    "silent": (silent, f"read timeout={STALL_SECONDS}"),
    "stalls": (stalling, "timed out"),
    "breaks off": (body(GOOD[:200], length=len(GOOD)), "200 bytes"),
    "breaks off unnoticed": (body(GOOD[:-30], length=-1), "expected a whole zip archive, but got"),
    "not found": (body(b"gone", 404), "404"),
    "a page": (body(b"<!DOCTYPE html><title>Sign in</title>"), "begin b'<!DOCTYPE html>"),
    "damaged": (
        body(damaged()),
        "Bad CRC-32 for file 'ICBHI_final_database/101_1b1_Al_sc_Meditron.wav'",
    ),
    "other files": (
        body(packed({"readme.txt": b"", "song.wav": b""})),
        "got 2 files, such as ['readme.txt'",
    ),
    "no annotations": (
        body(packed({name: b"" for name in ICBHI if name.endswith(".wav")})),
        "got 1 files",
    ),
}


@pytest.mark.parametrize(("answer", "told"), BROKEN.values(), ids=BROKEN)
def test_a_broken_download_leaves_nothing_and_the_next_try_succeeds(
    answer: Callable[[Handler], None], told: str, server: SimpleNamespace, tmp_path: Path
) -> None:
    server.answer = answer
    timeout_seconds = STALL_SECONDS if answer in (silent, stalling) else 30
    with pytest.raises(DataError) as caught:
        download_database("icbhi", tmp_path / "icbhi", server.url, timeout_seconds)
    message = str(caught.value)
    assert told in message
    assert server.url in message and SOURCE.page in message and "data.root=PATH" in message
    assert names(tmp_path) == []
    server.answer = body(GOOD)
    download_database("icbhi", tmp_path / "icbhi", server.url)
    assert contents(tmp_path) == {f"icbhi/{name}": content for name, content in ICBHI.items()}


def test_a_server_that_would_compress_on_the_way(server: SimpleNamespace, tmp_path: Path) -> None:
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


def test_a_server_that_is_not_there(server: SimpleNamespace, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        port = other.server_port
    with pytest.raises(DataError, match=r"[Rr]efused"):
        download_database("icbhi", tmp_path / "icbhi", f"http://127.0.0.1:{port}/database.zip")


def test_later_commits_of_sprsound_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "main.zip").write_bytes(packed(LATER_SPRSOUND))
    with pytest.raises(
        DataError, match="expected train_wav, train_json, test_wav, test_json in one folder"
    ) as caught:
        download_database("sprsound", tmp_path / "sprsound", str(tmp_path / "main.zip"))
    assert "commit 45b0d5d" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *(
            (
                packed({**ICBHI, name: b"evil"}),
                f"names below the archive's folder, but got {name!r}",
            )
            for name in (
                "../up.txt",
                "a/../../up.txt",
                "/etc/up.txt",
                "C:\\up.txt",
                "C:up.txt",
                "..\\up.txt",
            )
        ),
        (with_link("/etc/passwd"), "link.wav' is a link"),
        (encrypted(), "cannot be unpacked: "),
    ],
)
def test_unsafe_archives_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    archive = tmp_path / "bad.zip"
    archive.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)):
        download_database("icbhi", tmp_path / "below" / "icbhi", str(archive))
    assert list(contents(tmp_path)) == ["bad.zip"]


@pytest.mark.parametrize(("limit", "free"), [(1000, 10**12), (10**12, 1000)])
def test_more_bytes_than_there_may_be(
    limit: int, free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bomb.zip").write_bytes(GOOD)
    monkeypatch.setattr(module, "MAX_UNPACKED_BYTES", limit)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(DataError, match="unpacked"):
        download_database("icbhi", tmp_path / "icbhi", str(tmp_path / "bomb.zip"))
    assert not (tmp_path / "icbhi").exists()


@pytest.mark.parametrize(
    ("error", "raised"), [(OSError(28, "No space left"), DataError), (KeyboardInterrupt(), None)]
)
def test_an_end_in_the_middle_of_unpacking_leaves_nothing(
    error: BaseException, raised: type | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(archive: zipfile.ZipFile, path: str) -> None:
        archive.extract(archive.namelist()[0], path)
        raise error

    (tmp_path / "icbhi.zip").write_bytes(GOOD)
    with monkeypatch.context() as patch, pytest.raises(raised or type(error)):
        patch.setattr(zipfile.ZipFile, "extractall", half)
        download_database("icbhi", tmp_path / "icbhi", str(tmp_path / "icbhi.zip"))
    assert names(tmp_path) == ["icbhi.zip"]
    download_database("icbhi", tmp_path / "icbhi", str(tmp_path / "icbhi.zip"))
    assert contents(tmp_path / "icbhi") == ICBHI


@pytest.mark.parametrize("form", [str, Path.as_uri])
def test_a_local_archive_stays_where_it_is(form: Callable[[Path], str], tmp_path: Path) -> None:
    archive = tmp_path / "my archive.zip"
    archive.write_bytes(GOOD)
    assert (
        download_database("icbhi", tmp_path / "icbhi", form(archive))
        == tmp_path / "icbhi" / "ICBHI_final_database"
    )
    assert archive.read_bytes() == GOOD
    assert names(tmp_path) == ["icbhi", "my archive.zip"]


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("missing.zip", "no such file"),
        (".", "a folder"),
        ("ftp://127.0.0.1/x.zip", "expected an http, https or file address"),
        ("http://[127.0.0.1/x.zip", "Invalid IPv6"),
        ("http:///x.zip", "No host"),
    ],
)
def test_an_address_that_cannot_be_used(address: str, told: str, tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path), pytest.raises(DataError, match=told) as caught:
        download_database("icbhi", tmp_path / "icbhi", address)
    assert address in str(caught.value)
    assert names(tmp_path) == []


def test_an_unknown_database(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="Expected a database of icbhi, sprsound, but got 'coswara'"
    ):
        download_database("coswara", tmp_path / "data")


def test_a_database_that_is_there_is_left_as_it_is(
    server: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = download_database("icbhi", tmp_path / "icbhi", server.url)
    (first / "notes.md").write_text("mine")
    before = contents(tmp_path)
    assert download_database("icbhi", tmp_path / "icbhi", server.url) == first
    assert "holds ICBHI 2017 already" in capsys.readouterr().out
    assert server.requests == 1 and contents(tmp_path) == before


def test_a_destination_in_use_is_refused(server: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    before = contents(tmp_path)
    for destination, told in (
        ("thesis", "a folder with other things"),
        ("thesis/chapter.txt", "is a file"),
    ):
        with pytest.raises(DataError, match=told):
            download_database("icbhi", tmp_path / destination, server.url)
    download_database("icbhi", tmp_path / "icbhi", server.url)
    with pytest.raises(DataError, match="other things"):  # the other database
        download_database("sprsound", tmp_path / "icbhi", server.url)
    assert server.requests == 1
    assert {
        name: content for name, content in contents(tmp_path).items() if "thesis" in name
    } == before


def test_an_empty_folder_is_filled(server: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "icbhi").mkdir()
    download_database("icbhi", tmp_path / "icbhi", server.url)
    assert contents(tmp_path / "icbhi") == ICBHI


def test_a_published_checksum_holds_for_its_own_address(
    server: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = replace(SOURCE, url=server.url, sha256="0" * 64)
    monkeypatch.setitem(DATABASES, "icbhi", replace(DATABASES["icbhi"], download=source))
    with pytest.raises(DataError, match=f"known hash: expected {'0' * 64} but got"):
        download_database("icbhi", tmp_path / "icbhi")
    assert names(tmp_path) == []
    download_database(
        "icbhi", tmp_path / "icbhi", f"{server.url}?mirror"
    )  # may be packed otherwise


def test_two_at_once_download_once(server: SimpleNamespace, tmp_path: Path) -> None:
    go_on, waiting = threading.Event(), threading.Event()

    def answer(handler: Handler) -> None:
        assert go_on.wait(60)
        body(GOOD)(handler)

    class Told(io.StringIO):
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
    with contextlib.redirect_stdout(Told()):
        for thread in threads:
            thread.start()
        assert waiting.wait(60)
        go_on.set()
        for thread in threads:
            thread.join(60)
    assert folders == [tmp_path / "icbhi" / "ICBHI_final_database"] * 2
    assert server.requests == 1 and names(tmp_path) == ["icbhi"]


def test_what_a_killed_try_left_is_removed_by_the_next(
    server: SimpleNamespace, tmp_path: Path
) -> None:
    server.answer = stalling
    code = (
        "import sys; from lungsound.data.tools.download import download_database; "
        "download_database('icbhi', sys.argv[1], sys.argv[2])"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "icbhi"), server.url])
    assert server.asked.wait(60)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    assert names(tmp_path) == [".icbhi.part"]
    (tmp_path / ".icbhi.part" / "work" / "unpacked").mkdir()  # as if it had come that far
    (tmp_path / ".icbhi.part" / "work" / "unpacked" / "101_1b1_Al_sc_Litt3200.wav").write_bytes(
        b"RI"
    )
    server.answer = body(GOOD)
    download_database("icbhi", tmp_path / "icbhi", server.url)
    assert names(tmp_path) == ["icbhi"] and contents(tmp_path / "icbhi") == ICBHI
