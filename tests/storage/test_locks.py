"""Locks: one process at a time, and none that outlives its process."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lungsound.errors import Interrupted
from lungsound.storage import locks
from lungsound.storage.files import write_file
from lungsound.storage.locks import file_lock, try_lock
from lungsound.storage.signals import interruptible

HOLD = """
import fcntl, sys, time; from pathlib import Path
from lungsound.storage.locks import file_lock
def refuse(*_): raise OSError(37, "No locks available")
if sys.argv[2] == "no flock": fcntl.flock = refuse
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["flock", "no flock"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the file system has, in this process and in a holder."""
    if request.param == "no flock":
        monkeypatch.setattr(fcntl, "flock", refuse)
    return str(request.param)


def refuse(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def start_holder(path: Path, kind: str) -> "subprocess.Popen[str]":
    """Start a process that holds the lock for a minute, or until it is killed."""
    command = [sys.executable, "-c", HOLD, str(path), kind]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_ends_with_its_process(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "lock"
    with start_holder(path, kind) as process:
        with try_lock(path) as acquired:
            assert not acquired
        process.kill()
        process.wait()
    with try_lock(path) as acquired:
        assert acquired
    with file_lock(path):
        pass
    assert "waiting" not in capsys.readouterr().out


def test_a_held_lock_is_waited_for_with_a_message(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, printed = tmp_path / "lock", list[str]()
    with start_holder(path, kind) as process:

        def end_holder(message: str, **_: object) -> None:
            printed.append(message)
            process.kill()
            process.wait()

        monkeypatch.setattr(locks, "print", end_holder, raising=False)
        with file_lock(path), try_lock(path) as acquired:
            assert not acquired
    assert printed == [f"waiting for another process, which holds the lock {path}"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EACCES])
def test_a_file_system_without_flock_has_another_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    path = tmp_path / "lock"
    path.touch()  # as flock leaves it behind
    with try_lock(path) as acquired, try_lock(path) as again:
        assert (acquired, again) == (True, False)
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]


@pytest.fixture
def foreign_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock file of a holder on another machine, where no process can be looked up."""
    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(locks, "LEASE_S", 0.2)
    lease = tmp_path / "lock.lease"
    with try_lock(tmp_path / "lock"):
        content = lease.read_text()
    (host,) = (line for line in content.splitlines() if line.startswith("host="))
    lease.write_text(content.replace(host, "host=another-machine"))
    return lease


def test_a_holder_elsewhere_that_died_is_followed(
    foreign_lease: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = foreign_lease.with_suffix("")
    with file_lock(path), try_lock(path) as acquired:
        assert not acquired
    assert f"waiting for another process, which holds the lock {path}" in capsys.readouterr().out
    assert not foreign_lease.exists()


def test_a_holder_shows_that_it_lives(foreign_lease: Path) -> None:
    foreign_lease.unlink()
    with try_lock(foreign_lease.with_suffix("")):
        os.utime(foreign_lease, (0, 0))
        while foreign_lease.stat().st_mtime == 0:
            pass
        assert foreign_lease.stat().st_mtime > 0


def test_a_holder_that_was_followed_ends_its_work(
    foreign_lease: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.move(foreign_lease, tmp_path / "other"))
    with interruptible(), pytest.raises(Interrupted) as stop, try_lock(tmp_path / "lock"):
        other.replace(foreign_lease)
        threading.Event().wait(60)
    assert stop.value.signal_number == signal.SIGTERM
    assert f"{foreign_lease}: expected to keep this lock" in capsys.readouterr().out
    assert "another-machine" in foreign_lease.read_text()


def test_the_lock_removes_what_a_crash_left(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write_file(folder / "file", b"old")
    (folder / ".file.1a2b3c_4.part").write_bytes(b"ne")
    with file_lock(tmp_path / "lock", folder):
        assert [path.name for path in folder.iterdir()] == ["file"]
