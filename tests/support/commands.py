"""Commands: in the tests' own process, and as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

from support.runs import ROOT

from lungsound.cli import app


def run_lungsound(*words: object) -> None:
    """Run `lungsound WORDS`; its exceptions come through."""
    app.lungsound([str(word) for word in words], standalone_mode=False)


def run_python(*words: str, folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Run `python WORDS` in `folder`, with this project on the path."""
    command, environment = [sys.executable, *words], {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def run_module(*words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run `python -m WORDS` in `folder`."""
    return run_python("-m", *words, folder=folder)
