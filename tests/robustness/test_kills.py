"""kill -9 anywhere: the same command goes on and comes to the same bits (kill_commands.py)."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from support.commands import ForkedPython

SCRIPT = "tests/robustness/kill_commands.py"


@pytest.fixture
def kill(record_property: Callable[..., None]) -> Callable[[str], Any]:
    """`kill(words)`: what kill_commands.py tried; fails if something went wrong."""

    def kill_commands(words: str) -> Any:
        code, printed, errors = ForkedPython(SCRIPT, *words.split()).communicate()
        assert code == 0, printed + errors
        tried = json.loads(printed.splitlines()[-1])
        record_property("figures", tried["figures"])
        assert tried["wrong"] == []
        counts = re.findall(r"(?:files|moments|signals) (\d+) \(", tried["figures"])
        tried["counts"] = [int(count) for count in counts]
        assert tried["counts"]
        assert min(tried["counts"]) > 0
        return tried

    return kill_commands


@pytest.mark.slow
def test_killed_at_some_steps_of_writing_and_at_four_moments(kill: Callable[[str], Any]) -> None:
    tried = kill("files moments --commands run --every 60 --number 4")
    assert tried["figures"].count("nothing wrong") == 2


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        "files --commands run",
        "files --commands sweep",
        "files --commands redo-run",
        "moments --real --number 40 --commands run,sweep,redo-run,redo-sweep",
    ],
)
def test_killed_at_more(words: str, kill: Callable[[str], Any]) -> None:
    counts = kill(words)["counts"]
    assert counts[0] >= (500 if words.startswith("files") else 40)


@pytest.mark.long
def test_twelve_signals(kill: Callable[[str], Any]) -> None:
    assert kill("signals --real --number 12")["counts"] == [12]
