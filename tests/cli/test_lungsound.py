"""The `lungsound` command: its sub-commands, its names in release 0.1, and how it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from support.runs import ROOT

from lungsound.cli import app, command
from lungsound.errors import DataError, Interrupted

COMMANDS = {
    "data": {"check", "get", "plot"},
    "score": set(),
    "send": set(),
    "study": {"report", "ls", "du", "rm"},
}


def run_module(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`python -m WORDS` in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_help_of_every_command() -> None:
    groups = app.lungsound.commands
    assert set(groups) == set(COMMANDS)
    for name, expected in COMMANDS.items():
        group = groups[name]
        assert set(group.commands if isinstance(group, click.Group) else ()) == expected
        for words in [[name, "--help"], *([name, sub, "--help"] for sub in expected)]:
            result = CliRunner().invoke(app.lungsound, words)
            assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["data", "check", "icbhi", "nowhere"], "data check icbhi nowhere"),
        (["evaluation", "score", "none", "icbhi", "a b"], "score none icbhi 'a b'"),
        (["study", "report", "none"], "study report none"),
        (["tracking", "send", "none"], "send none"),
    ],
)
def test_names_of_release_0_1_work_and_print_the_new_one(
    old: list[str], new: str, tmp_path: Path
) -> None:
    done = run_module(f"lungsound.{old[0]}", *old[1:], folder=tmp_path)
    first, *others = done.stderr.splitlines()
    assert first.startswith(f"python -m lungsound.{old[0]} is now: lungsound {new} ")
    assert done.returncode == 1
    assert others[0].startswith("error: ") and "Traceback" not in done.stderr


def test_a_command_prints_what_it_lists(tmp_path: Path) -> None:
    (tmp_path / "store" / "trajectories" / "0123456789abcdef").mkdir(parents=True)
    done = run_module("lungsound", "study", "ls", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "trajectory",
        "0123456789abcdef",
    ]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("nothing there", ("a", "b")), 1, "error: nothing there\n  - a\n  - b"),
        (Interrupted(signal.SIGTERM, "all is kept"), 143, "stopped: all is kept"),
        (Interrupted(signal.SIGINT, "all is kept"), 130, "stopped: all is kept"),
    ],
)
def test_exit_codes_of_errors_and_signals(
    error: BaseException,
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(app.lungsound, "invoke", fail)
    with pytest.raises(SystemExit) as end:
        app.main(["send", "x"])
    if isinstance(end.value.code, str):  # Python prints it and exits with 1
        assert (end.value.code, 1) == (message, code)
    else:
        assert (capsys.readouterr().err.strip(), end.value.code) == (message, code)


def test_a_wrong_word_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as end:
        app.main(["data", "check", "no-such-database", "."])
    assert end.value.code == 2


def test_ctrl_c_ends_a_command_with_130(tmp_path: Path) -> None:
    def wait() -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(SystemExit) as end:
        command.cli_command(wait)()
    assert end.value.code == 130
