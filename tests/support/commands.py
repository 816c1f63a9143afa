"""Commands: in the tests' own process, and as a user starts them."""

import os
import subprocess
import sys
import threading
from pathlib import Path

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


def run_module(*words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run `python -m WORDS` in `folder`."""
    return run_python("-m", *words, folder=folder)


def prints_line(process: "subprocess.Popen[str]", text: str) -> bool:
    """Read the output up to a line with `text`; a process that prints none is killed."""
    assert process.stdout
    deadline = threading.Timer(300, process.kill)
    deadline.start()
    try:
        return any(text in line for line in process.stdout)
    finally:
        deadline.cancel()
