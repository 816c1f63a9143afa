"""The writing function: whole or not, damage noticed by a checksum; and the signals that stop a
command.
"""

import os
import pickle
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support.files import flip_bit

from lungsound.cli.command import cli_command
from lungsound.errors import CorruptFileError, Interrupted, StorageError
from lungsound.storage.files import (
    checksum_path,
    is_intact,
    is_intact_folder,
    read_file,
    verify_or_quarantine,
    write_file,
    write_folder,
    write_stream,
)
from lungsound.storage.locks import file_lock
from lungsound.storage.signals import SIGNALS, allow_signals, defer_signals, interruptible

CONTENT = bytes(range(256)) * 3


@pytest.mark.parametrize("sealed", [True, False])
def test_what_is_written_is_read(tmp_path: Path, sealed: bool) -> None:
    path = tmp_path / "new" / "file"
    for content in (CONTENT, b"", b"\n"):
        write_file(path, content, sealed)
        assert read_file(path, sealed) == content
        assert is_intact(path, sealed)
    write_stream(path, (CONTENT[start : start + 100] for start in range(0, len(CONTENT), 100)))
    assert read_file(path) == CONTENT


@pytest.mark.parametrize("sealed", [True, False])
def test_every_damage_is_noticed_named_and_put_aside(
    tmp_path: Path, sealed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file"
    write_file(path, CONTENT, sealed)
    whole, rng = path.read_bytes(), random.Random(0)
    damages = [whole[:place] for place in (0, *rng.sample(range(1, len(whole)), 50))]
    damages += [flip_bit(whole, rng.randrange(len(whole))) for _ in range(100)] + [whole + b"\0"]
    for number, damaged in enumerate(damages, start=1):
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match="file is damaged"):
            read_file(path, sealed)
        assert not verify_or_quarantine(path, sealed)
        assert not path.exists()
        assert (tmp_path / f"file.damaged-{number}").read_bytes() == damaged
        assert f"{path} is damaged" in capsys.readouterr().out
        write_file(path, CONTENT, sealed)
        assert verify_or_quarantine(path, sealed)
    assert capsys.readouterr().out == ""


def test_a_folder_is_whole_with_its_sums_or_not(tmp_path: Path) -> None:
    files = [("a.txt", b"1"), ("below/b.txt", b"22")]
    write_folder(tmp_path, files)
    assert is_intact_folder(tmp_path)
    for name in ("a.txt", "below/b.txt", "SHA256SUMS"):
        content = (tmp_path / name).read_bytes()
        for damaged in (flip_bit(content, 0), content[:-1], b"", None):
            (tmp_path / name).unlink() if damaged is None else (tmp_path / name).write_bytes(
                damaged
            )
            assert not is_intact_folder(tmp_path)
            write_folder(tmp_path, files)
        assert is_intact_folder(tmp_path)


def test_the_lock_clears_what_a_death_left(tmp_path: Path) -> None:
    """A file whose checksum is in place is put there, too; what is less finished goes."""
    folder, unfinished = tmp_path / "folder", "1a2b3c_4.part"
    write_file(folder / "some.name.json", b"old")
    write_file(folder / "other", b"old")
    write_file(tmp_path / "new", b"new")
    sum_of_new = checksum_path(tmp_path / "new").read_bytes()
    (folder / f".some.name.json.{unfinished}").write_bytes(b"new")
    checksum_path(folder / "some.name.json").write_bytes(sum_of_new)
    (folder / f".other.{unfinished}").write_bytes(b"ne")
    (folder / f".other.sha256.{unfinished}").write_bytes(sum_of_new)
    with file_lock(tmp_path / "lock", folder):
        assert read_file(folder / "some.name.json") == b"new"
        assert read_file(folder / "other") == b"old"
        assert len(list(folder.iterdir())) == 4


def test_a_failed_writing_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "file", b"old", embed_checksum=True)

    def full(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("lungsound.storage.files.os.fsync", full)
    with pytest.raises(StorageError, match="no space"):
        write_file(tmp_path / "file", b"new", embed_checksum=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert read_file(tmp_path / "file", sealed=True) == b"old"


def test_a_signal_between_a_checksum_and_its_file_damages_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "file", b"old")

    def stopped(_: Path) -> None:  # the checksum is in its place, the file is not
        raise Interrupted(2, "now")

    monkeypatch.setattr("lungsound.storage.files._fsync_folder", stopped)
    with pytest.raises(Interrupted):
        write_file(tmp_path / "file", b"new")
    assert read_file(tmp_path / "file") == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "file.sha256"]


# --- signals ---


def exit_code(do: Callable[[], object]) -> int:
    """Of a forked process that does something; -number where a signal ended it."""
    if not (process := os.fork()):
        code = 99
        try:
            do()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 98
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_with_the_shells_code(number: int, code: int) -> None:
    assert exit_code(lambda: cli_command(signal.raise_signal)(number)) == code


def test_a_stop_reaches_another_process_whole() -> None:
    """As a launcher's worker hands it over."""
    stop = pickle.loads(pickle.dumps(Interrupted(signal.SIGTERM, "What is finished is kept.")))
    assert stop.signal_number == signal.SIGTERM and str(stop) == "What is finished is kept."


@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_ends_it_at_once(second: int) -> None:
    def twice() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:  # while it is ending
            signal.raise_signal(second)

    assert exit_code(lambda: cli_command(twice)()) == -second


@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_ends_also_what_put_off_the_first(second: int) -> None:
    def twice() -> None:
        with defer_signals():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(second)

    assert exit_code(lambda: cli_command(twice)()) == -second


def test_a_signal_that_is_put_off_stops_at_the_end_or_where_it_is_let_in() -> None:
    done = []
    with interruptible():
        with pytest.raises(Interrupted), defer_signals():
            signal.raise_signal(signal.SIGTERM)
            done.append("the end")
        with pytest.raises(Interrupted), defer_signals():
            done.append("and before what lets it in")
            with allow_signals():
                done.append("never")
    assert done == ["the end", "and before what lets it in"]
    with interruptible(), pytest.raises(Interrupted), defer_signals(), allow_signals():
        signal.raise_signal(signal.SIGTERM)
        done.append("never")
    assert len(done) == 2


def test_the_outermost_is_asked_and_gives_the_handlers_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with interruptible():
        with pytest.raises(Interrupted, match="The same command goes on") as stop, interruptible():
            signal.raise_signal(signal.SIGINT)
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert stop.value.signal_number == signal.SIGINT
    assert [signal.getsignal(number) for number in SIGNALS] == before
