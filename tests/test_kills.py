"""kill -9 anywhere: the same command goes on and comes to the same bits (tests/kills.py does the work)."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from conftest import ROOT


def kills(*words: str) -> tuple[list[str], Any]:
    """What `tests/kills.py` printed: its rows, and what it tried."""
    told = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "kills.py"), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # it forks: a pool of threads would not come along
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    *lines, last = told.stdout.splitlines()
    return [line for line in lines if line.startswith("|")], json.loads(last)


def test_killed_at_some_steps_of_writing_and_at_four_moments() -> None:
    rows, tried = kills("files", "moments", "--real", "--commands", "run", "--every", "60", "--number", "4")
    assert len(rows) == 2
    assert tried["wrong"] == []


@pytest.mark.slow
@pytest.mark.parametrize("words", [
    ("files", "--commands", "run"),
    ("files", "--commands", "sweep", "--every", "5"),
    ("moments", "--real", "--number", "40"),
    ("signals", "--real", "--number", "12"),
])  # fmt: skip
def test_killed_at_more(words: tuple[str, ...]) -> None:
    assert kills(*words)[1]["wrong"] == []
