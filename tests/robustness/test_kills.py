"""kill -9 anywhere: the same command goes on and comes to the same bits (kill_commands.py does the
work).
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support.runs import ROOT


def kills(*words: str) -> Any:
    """What `tests/robustness/kill_commands.py` tried, and what went wrong."""
    told = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "robustness" / "kill_commands.py"), *words],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        },  # it forks: a pool of threads would not come along
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    return json.loads(told.stdout.splitlines()[-1])


def test_killed_at_some_steps_of_writing_and_at_four_moments(
    record_property: Callable[..., None],
) -> None:
    tried = kills(
        "files", "moments", "--real", "--commands", "run", "--every", "60", "--number", "4"
    )
    record_property("figures", tried["figures"])
    assert tried["wrong"] == []
    assert tried["figures"].count("nothing wrong") == 2


@pytest.mark.slow
@pytest.mark.parametrize("words", [
    ("files", "--commands", "run"),
    ("files", "--commands", "sweep"),
    ("files", "--commands", "redo-run"),
    ("moments", "--real", "--number", "40", "--commands", "run,sweep,redo-run,redo-sweep"),
])  # fmt: skip
def test_killed_at_more(words: tuple[str, ...], record_property: Callable[..., None]) -> None:
    tried = kills(*words)
    record_property("figures", tried["figures"])
    assert tried["wrong"] == []


@pytest.mark.slow
def test_twelve_signals(record_property: Callable[..., None]) -> None:
    tried = kills("signals", "--real", "--number", "12")
    record_property("figures", tried["figures"])
    assert tried["wrong"] == []
