"""The `lungsound` command: its sub-commands, its names in release 0.1, and how it ends."""

import shlex
import signal
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from support.commands import ForkedPython

from lungsound.cli import app
from lungsound.errors import DataError, Interrupted

COMMANDS = {
    "compare": set(),
    "data": {"check", "get", "import", "plot"},
    "distill": set(),
    "explain": set(),
    "export": set(),
    "predict": set(),
    "register": set(),
    "score": set(),
    "send": set(),
    "show": set(),
    "study": {"report", "ls", "du", "rm", "work"},
    "sweep": set(),
    "train": set(),
}


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
    ("old", "new", "command"),
    [
        ("data check icbhi nowhere", "data check icbhi nowhere", "data check"),
        ("evaluation score none icbhi 'a b'", "score none icbhi 'a b'", "score"),
        ("study report none", "study report none", "study report"),
        ("tracking send none", "send none", "send"),
    ],
)
def test_names_of_release_0_1_work_and_print_the_new_one(
    old: str, new: str, command: str, tmp_path: Path
) -> None:
    package, *words = shlex.split(old)
    started = ForkedPython("-m", f"lungsound.{package}", *words, "--help", folder=tmp_path)
    code, printed, errors = started.communicate()
    assert errors.startswith(f"python -m lungsound.{package} is now: lungsound {new} --help ")
    assert code == 0
    assert printed.startswith(f"Usage: lungsound {command} [OPTIONS] ")


def test_an_old_name_fails_as_the_new_one(tmp_path: Path) -> None:
    words = ("-m", "lungsound.evaluation", "score", "none", "icbhi", "x")
    code, _, errors = ForkedPython(*words, folder=tmp_path).communicate()
    assert code == 1
    assert errors.splitlines()[1].startswith("error: ")


@pytest.mark.parametrize(
    "line",
    [
        *("data check icbhi PATH", "data plot icbhi PATH", "score PATH icbhi x", "send PATH"),
        *("show icbhi PATH x", "export PATH"),
        *("predict PATH x", "predict x x --cycles PATH"),
        *("study report PATH", "study rm --store=PATH key", "score x icbhi x --store=PATH"),
    ],
)
def test_every_path_begins_at_home_if_it_says_so(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, said in (("~nosuchuser/x", "home folder for ~nosuchuser"), ("''", "a path")):
        result = CliRunner().invoke(app.lungsound, shlex.split(line.replace("PATH", given)))
        assert said in str(result.exception)
    result = CliRunner().invoke(app.lungsound, shlex.split(line.replace("PATH", "~/nowhere")))
    assert "~" not in f"{result.output}{result.exception}"
    if "score x" not in line:  # which is refused before its --store
        assert str(tmp_path / "nowhere") in f"{result.output}{result.exception}"


def test_a_command_prints_what_it_lists(tmp_path: Path) -> None:
    (tmp_path / "store" / "trajectories" / "0123456789abcdef").mkdir(parents=True)
    started = ForkedPython("-m", "lungsound", "study", "ls", folder=tmp_path)
    code, printed, errors = started.communicate()
    assert code == 0, errors
    first_words = [line.split()[0] for line in printed.splitlines()]
    assert first_words == ["trajectory", "0123456789abcdef"]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("nothing there", ("a", "b")), 1, "error: nothing there\n  - a\n  - b"),
        (Interrupted(signal.SIGTERM, "all is kept"), 143, "stopped: all is kept"),
        (Interrupted(signal.SIGINT, "all is kept"), 130, "stopped: all is kept"),
    ],
)
def test_exit_codes_of_errors_and_signals(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(app.lungsound, "invoke", fail)
    with pytest.raises(SystemExit) as end:
        app.main(["send", "x"])
    if isinstance(end.value.code, str):  # Python prints it and exits with 1
        assert (end.value.code, 1) == (message, code)
    else:
        assert (capsys.readouterr().err.strip(), end.value.code) == (message, code)


@pytest.mark.parametrize(
    ("line", "work"),
    [
        ("explain RUN breath.wav", "lungsound.ensemble.Ensemble.load"),
        ("export RUN", "lungsound.results.export.export_torch"),
        ("predict RUN .", "lungsound.ensemble.Ensemble.load"),
        ("score RUN icbhi .", "lungsound.runs.rescore.open_database"),
        ("show icbhi . breath", "lungsound.cli.show_recording.show_recording"),
    ],
)
def test_a_stopped_command_that_begins_again_says_so(
    line: str, work: str, finished_run: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(work, lambda *_, **__: signal.raise_signal(signal.SIGINT))
    with pytest.raises(SystemExit) as end:
        app.main([str(finished_run) if word == "RUN" else word for word in line.split()])
    assert end.value.code == 130
    assert capsys.readouterr().err == "stopped: The same command begins again.\n"


def test_a_wrong_word_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as end:
        app.main(["data", "check", "no-such-database", "."])
    assert end.value.code == 2
