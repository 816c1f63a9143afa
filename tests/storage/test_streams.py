"""Output that cannot be written ends no work, and leaves no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Work that prints more than a pipe holds, and all letters of our tables.
COMMAND = """
import sys, warnings; from pathlib import Path
from lungsound.cli.command import cli_command
@cli_command
def work():
    for number in range(40_000):
        print("α ± 0.5", number, flush=number % 100 == 0)
    print("a note ±", file=sys.stderr, flush=True)
    Path(sys.argv[1]).write_text(f"finished {open(sys.argv[1], 'w').fileno()}")
work()
"""


@pytest.fixture
def command(tmp_path: Path) -> str:
    """A shell command that does the work, and writes its exit code into the file `code`."""
    script = tmp_path / "work.py"
    script.write_text(COMMAND, encoding="utf-8")
    return f"{sys.executable} {script} {tmp_path / 'result'}"


def run_shell(line: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(["bash", "-c", f"{line}"], cwd=folder, capture_output=True, timeout=120)
    assert (folder / "result").read_text().startswith("finished"), done.stderr
    assert b"Traceback" not in done.stderr + done.stdout
    assert b"Exception" not in done.stderr + done.stdout
    return done


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{} | head -1; exit ${{PIPESTATUS[0]}}", "a note ±\n"),
        ("{} >/dev/full", "stdout: No space left on device; the work goes on without it\n"),
        ("{} 2>/dev/full >/dev/null", ""),
        ("{} >/dev/full 2>&1", ""),
        ("PYTHONUNBUFFERED=1 {} >/dev/full 2>&1", ""),
        ("{} >&-", "a note ±\n"),
        ("{} 2>&- >/dev/null", ""),
        ("{} <&- >&- 2>&-", ""),
        ("PYTHONIOENCODING=ascii {} >/dev/null", "a note \\xb1\n"),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {} >/dev/null", "a note \\xb1\n"),
    ],
)
def test_output_that_cannot_be_written_ends_no_work(
    command: str, tmp_path: Path, line: str, told: str
) -> None:
    done = run_shell(line.format(command), tmp_path)
    assert done.returncode == 0
    assert done.stderr.decode() in (told, told + "a note ±\n")
    number = int((tmp_path / "result").read_text().split()[1])
    assert number not in (1, 2)  # no file has taken the number of a closed stream


def test_letters_that_a_console_lacks_are_escaped(command: str, tmp_path: Path) -> None:
    done = run_shell(f"PYTHONIOENCODING=ascii {command}", tmp_path)
    assert done.stdout.splitlines()[7] == rb"\u03b1 \xb1 0.5 7"
    assert run_shell(command, tmp_path).stdout.splitlines()[7] == "α ± 0.5 7".encode()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_unbuffered_output_is_written_at_once(
    monkeypatch: pytest.MonkeyPatch, unbuffered: str
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    code = "import os; from lungsound.storage.streams import tolerate_output_errors as tolerate;"
    code += "tolerate(); print('now', end=''); os._exit(0)"  # without a flush
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == (b"now" if unbuffered else b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_pipe_that_does_not_block_is_waited_for(
    command: str, monkeypatch: pytest.MonkeyPatch, unbuffered: str
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    read, write = os.pipe()
    os.set_blocking(write, False)
    process = subprocess.Popen(command.split(), stdout=write)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert len(pipe.read().splitlines()) == 40_000
    assert process.wait(60) == 0
