"""Commands: in the tests' own process, in a fork of it, and as a user starts them."""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from support.runs import ROOT

from lungsound.cli import app


def run_lungsound(*words: object) -> None:
    """Run `lungsound WORDS`; its exceptions come through."""
    app.lungsound([str(word) for word in words], standalone_mode=False)


def run_python(*words: str, folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Run `python WORDS` in `folder`, with this project on the path."""
    command, environment = [sys.executable, *words], {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


class ForkedPython:
    """`python WORDS` in a fork of this process, which has imported what takes 10 s, and in a
    process group of its own.
    """

    def __init__(self, *words: str, folder: Path = ROOT) -> None:
        reader, writer = os.pipe()
        self.stdout, self.stderr = os.fdopen(reader), os.fdopen(os.memfd_create("stderr"), "w+")
        output = os.fdopen(writer, "w")
        self.process = multiprocessing.get_context("fork").Process(
            target=_run_python, args=(words, folder, output, self.stderr)
        )
        self.process.start()
        output.close()

    def communicate(self) -> tuple[int | None, str, str]:
        """The exit code, what it printed to stdout, and to stderr."""
        try:
            printed = self.stdout.read()
            self.process.join()
        except BaseException:  # Ctrl-C does not reach its process group
            os.killpg(self.process.pid or 0, signal.SIGKILL)
            raise
        self.stderr.seek(0)
        return self.process.exitcode, printed, self.stderr.read()


def _run_python(words: tuple[str, ...], folder: Path, output: IO[str], errors: IO[str]) -> None:
    os.setpgid(0, 0)
    os.chdir(folder)
    for number, file in enumerate((output, errors), start=1):
        os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    if words[0] == "-m":
        sys.argv = list(words[1:])
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        exec(words[1], {"__name__": "__main__"})
    else:
        sys.argv = list(words)
        runpy.run_path(str(ROOT / words[0]), run_name="__main__")


def discard(output: IO[str]) -> None:
    """Read a server's output away: a full pipe would stop it, and nobody would know why."""
    threading.Thread(target=output.read, daemon=True).start()


def prints_line(process: "subprocess.Popen[str]", text: str) -> bool:
    """Read the output up to a line with `text`; a process that prints none is killed."""
    assert process.stdout
    deadline = threading.Timer(300, process.kill)
    deadline.start()
    try:
        return any(text in line for line in process.stdout)
    finally:
        deadline.cancel()
