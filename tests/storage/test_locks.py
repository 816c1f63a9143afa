"""Locks: one process at a time, and none that outlives its process."""

import os
import signal
import threading
from pathlib import Path

import pytest

from lungsound.storage.files import write_file
from lungsound.storage.locks import file_lock, try_lock


def hold_in_child(path: Path) -> int:
    """Start a process that holds the lock until a signal ends it; its process id."""
    reader, writer = os.pipe()
    if not (process := os.fork()):
        with file_lock(path):
            os.write(writer, b"held")
            signal.pause()
    os.read(reader, 4)
    return process


def test_a_lock_ends_with_its_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "lock"
    process = hold_in_child(path)
    with try_lock(path) as acquired:
        assert not acquired
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    with try_lock(path) as acquired:
        assert acquired
    with file_lock(path):
        pass
    assert "waiting" not in capsys.readouterr().out


def test_a_held_lock_is_waited_for_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lock"
    process = hold_in_child(path)
    threading.Timer(0.3, os.kill, (process, signal.SIGKILL)).start()
    with file_lock(path), try_lock(path) as acquired:
        assert not acquired
    os.waitpid(process, 0)
    assert f"waiting for another process, which holds the lock {path}" in capsys.readouterr().out


def test_the_lock_removes_what_a_crash_left(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write_file(folder / "file", b"old")
    (folder / ".file.1a2b3c_4.part").write_bytes(b"ne")
    with file_lock(tmp_path / "lock", folder):
        assert [path.name for path in folder.iterdir()] == ["file"]
