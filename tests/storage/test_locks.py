"""Locks: one process at a time, and none that outlives its process."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lungsound.errors import StorageError
from lungsound.storage import locks
from lungsound.storage.files import write_file
from lungsound.storage.locks import file_lock, try_lock

HOLD = """
import sys, time; from pathlib import Path
from lungsound.storage.locks import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def start_holder(path: Path) -> "subprocess.Popen[str]":
    """Start a process that holds the lock for a minute, or until it is killed."""
    command = [sys.executable, "-c", HOLD, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_ends_with_its_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "lock"
    with start_holder(path) as process:
        with try_lock(path) as acquired:
            assert not acquired
        process.kill()
    with try_lock(path) as acquired:
        assert acquired
    with file_lock(path):
        pass
    assert "waiting" not in capsys.readouterr().out


def test_a_held_lock_is_waited_for_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, printed = tmp_path / "lock", list[str]()
    with start_holder(path) as process:

        def end_holder(message: str, **_: object) -> None:
            printed.append(message)
            process.kill()

        monkeypatch.setattr(locks, "print", end_holder, raising=False)
        with file_lock(path), try_lock(path) as acquired:
            assert not acquired
    assert printed == [f"waiting for another process, which holds the lock {path}"]


def test_the_lock_removes_what_a_crash_left(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write_file(folder / "file", b"old")
    (folder / ".file.1a2b3c_4.part").write_bytes(b"ne")
    with file_lock(tmp_path / "lock", folder):
        assert [path.name for path in folder.iterdir()] == ["file"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EACCES])
def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    path = tmp_path / "lock"
    expected = rf"^{path}: .*{os.strerror(code)}.*no locks.*another disk \(output_dir, store_dir\)$"
    with pytest.raises(StorageError, match=expected), file_lock(path):
        pytest.fail("it is not locked")
