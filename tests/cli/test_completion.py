"""The shell's completion: by click's own functions, and in the shells that this machine has."""

import os
import pty
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from support.runs import ROOT

from lungsound.cli import app
from lungsound.cli.completion import Bash, Zsh

SHELLS = {
    "bash": ("bash --norc --noprofile -i", 'eval "$(_LUNGSOUND_COMPLETE=bash_source lungsound)"'),
    "zsh": (
        "zsh -f -i",
        'autoload -Uz compinit; compinit -u -D; eval "$(_LUNGSOUND_COMPLETE=zsh_source lungsound)"',
    ),
}
SECONDS = 120  # for a busy machine: a completion starts Python


@pytest.mark.parametrize(
    ("word", "completed"),
    [
        ("pad", ["padding.mode=", "padding=sample", "padding=tile", "padding=zero"]),
        ("annealing.m", ["annealing.max_lr=", "annealing.monitor="]),
        ("padding=z", ["padding=zero"]),
        ("nothing", []),
    ],
)
def test_options_and_keys_are_completed(word: str, completed: list[str]) -> None:
    shell = ShellComplete(app.lungsound, {}, "lungsound", "_LUNGSOUND_COMPLETE")
    for words in (["train"], ["sweep", "-m", "seed=1,2"]):
        assert [item.value for item in shell.get_completions(words, word)] == completed


class Terminal:
    """An interactive shell."""

    def __init__(self, name: str, folder: Path) -> None:
        command, setup = SHELLS[name]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.process, self.screen = pty.fork()
        if not self.process:
            os.chdir(folder)
            own = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "TERM": "dumb"}
            os.execvpe(name, command.split(), own)
        self.type(f"{setup}; echo SET UP $((6 * 7))\n")
        assert "SET UP 42" in self.read_until("SET UP 42")

    def type(self, keys: str) -> None:
        os.write(self.screen, keys.encode())

    def read_until(self, expected: str) -> str:
        """What the screen shows until it shows `expected`, or until the time is over."""
        shown, deadline = "", time.monotonic() + SECONDS
        while expected not in shown and time.monotonic() < deadline:
            if select.select([self.screen], [], [], 1)[0]:
                shown += os.read(self.screen, 4096).decode(errors="replace")
                shown = shown.replace(" \b", "")  # zsh takes its space back, if need be
        return shown

    def close(self) -> None:
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.screen)


@pytest.fixture(params=[name for name in SHELLS if shutil.which(name)])
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    (tmp_path / "outputs").mkdir()
    opened = Terminal(request.param, tmp_path)
    yield opened
    opened.close()


@pytest.mark.long
def test_a_shell_completes_commands_options_keys_and_paths(terminal: Terminal) -> None:
    for keys, completed in (
        ("lungsound regi\t", "lungsound register "),
        ("lungsound train padding=z\tseed", "train padding=zero seed"),
        ("lungsound train annealing.max\t1", "annealing.max_lr=1"),  # no space before the value
        ("lungsound export outp\t", "export outputs/"),
    ):
        terminal.type(keys)
        assert completed in terminal.read_until(completed)
        terminal.type("\x15")  # Ctrl-U: an empty line


@pytest.mark.parametrize("shell", [Bash, Zsh])
def test_clicks_script_is_changed(shell: type[ShellComplete]) -> None:
    """It is changed by the text of a line, which another version of click may not have."""
    assert shell.source_template != shell.__base__.source_template
