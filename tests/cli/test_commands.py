"""What a user types: the commands, the lines of README and first pages, make's targets."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import ForkedPython, run_lungsound, run_python
from support.mlflow import mlflow_runs
from support.runs import ROOT, SMALL_RUN_OVERRIDES, compose_settings

from lungsound.config.ellipsis import expand_ellipses
from lungsound.studies.jobs import expand_jobs

FIRST_PAGES = ("README.md", "docs/start.md", "docs/studies.md")


def documented_commands() -> list[str]:
    """Every line of the first pages' bash blocks, once and without its comment."""
    text = "".join((ROOT / page).read_text() for page in FIRST_PAGES)
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = [shlex.split(line, True) for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(shlex.join(words) for words in lines if words))


def test_the_start_page_names_every_option() -> None:
    text = (ROOT / "docs" / "start.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", text, flags=re.MULTILINE)
    named = {group: set(re.findall("`(.*?)`", cell)) for group, cell in rows}
    groups = {path.parent.name for path in (ROOT / "conf").glob("*/*.yaml")}
    for group in groups - {"segment"}:  # whose options are a pattern
        assert named[group] == {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}


def test_help_names_every_group_and_option() -> None:
    told = run_python("train.py", "--help")
    assert told.returncode == 0, told.stderr
    listed = dict(re.findall(r"^(\w+): (.+)$", told.stdout, flags=re.MULTILINE))
    groups = [path for path in (ROOT / "conf").iterdir() if path.is_dir() and path.name != "hydra"]
    assert len(groups) >= 11
    for group in groups:
        assert listed[group.name].split(", ") == sorted(path.stem for path in group.glob("*.yaml"))


# Command -> packages that it must not import: seconds that a user waits for nothing. One process
# runs them all, the lightest first, since what one has imported stays for those after it.
TRAINING = "pytorch_lightning torchmetrics torchaudio librosa sklearn matplotlib"
HEAVY = f"torch mlflow sqlalchemy {TRAINING}"
NOT_IMPORTED = {
    "lungsound -h": f"hydra yaml numpy pandas {HEAVY}",
    "lungsound study rm -h": f"hydra yaml numpy pandas {HEAVY}",
    "lungsound study ls": f"hydra yaml numpy pandas {HEAVY}",
    "train.py --help": f"numpy pandas {HEAVY}",
    "sweep.py --help": f"numpy pandas {HEAVY}",
    "train.py -sc install=bash": f"numpy pandas {HEAVY}",
    "lungsound data check icbhi DEMO": HEAVY,
    f"train.py {' '.join(SMALL_RUN_OVERRIDES)}": TRAINING,  # a finished run, which it lists
}
# It uses the network, but plots nothing and sends nothing.
SCORE = {"lungsound score RUN icbhi DEMO": "mlflow sqlalchemy"}
IMPORTED = """
import contextlib, json, os, runpy, sys
for line in json.loads(sys.argv[1]):
    script, *_ = sys.argv = line.split()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            if script.endswith(".py"):
                runpy.run_path(os.path.join(ROOT, script), run_name="__main__")
            else:
                runpy.run_module(script, run_name="__main__")
    except SystemExit as end:
        assert not end.code, (line, end.code)
    print(*sys.modules)
"""


@pytest.mark.slow
@pytest.mark.parametrize("forbidden", [NOT_IMPORTED, SCORE])
def test_a_command_imports_only_what_it_needs(run_copy: Path, forbidden: dict[str, str]) -> None:
    folder = run_copy.parents[1]
    (demo,) = (folder / "store" / "demo").glob("[!.]*/")
    lines = [line.replace("DEMO", str(demo)).replace("RUN", str(run_copy)) for line in forbidden]
    code = f"ROOT = {str(ROOT)!r}{IMPORTED}"
    done = run_python("-c", code, json.dumps(lines), folder=folder)
    assert done.returncode == 0, done.stderr
    if forbidden is NOT_IMPORTED:
        assert "This run is finished" in done.stderr
    modules = [set(line.split()) for line in done.stdout.splitlines()]
    for (command, packages), imported in zip(forbidden.items(), modules, strict=True):
        assert sorted(imported & set(packages.split())) == [], command


@pytest.mark.parametrize(
    "words",
    ["annealing.cycles=0 annealing.cycles", "segment=9 segment=9s", "data=none none"],
)
def test_bad_command_lines_exit_with_a_message(words: str) -> None:
    argument, named = words.split()
    code, _, errors = ForkedPython("train.py", argument).communicate()
    assert code == 1
    assert named in errors
    assert "Traceback" not in errors


def test_a_stopped_command_says_so_and_is_killed_in_mlflow(
    tmp_path: Path, empty_mlflow: Path
) -> None:
    """A signal to all its processes, as Ctrl-C and schedulers send it: the workers do not break off
    the batch.
    """
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    words = ("experiment=tiny", "trainer.cache=off", "trainer.num_workers=2", "annealing.cycles=9")
    started = ForkedPython("train.py", *words, folder=tmp_path)
    assert any(line.startswith("epoch 1/9") for line in started.stdout)
    os.killpg(started.process.pid, signal.SIGTERM)
    code, _, errors = started.communicate()
    assert code == 143, errors
    message = r"^stopped: [1-8] epochs are finished and kept\. The same command goes on"
    assert re.search(message, errors, re.MULTILINE), errors
    assert "Traceback" not in errors
    (run,) = mlflow_runs(tmp_path / "outputs" / "run")
    assert run.info.status == "KILLED"


def test_documented_lines_are_right() -> None:
    """Each line composes to a configuration that passes every check, or is a target of make."""
    commands = documented_commands()
    assert {
        "make demo",
        "make test",
        "mlflow ui",
        "python train.py padding=sample segment=9s",
    } <= set(commands)
    for command in commands:
        program, *arguments = shlex.split(command)
        if program == "make":
            subprocess.run(
                ["make", "--dry-run", *arguments], cwd=ROOT, check=True, capture_output=True
            )
        elif command == "python train.py --help":
            continue
        elif arguments[0] == "sweep.py":
            words = [word for word in expand_ellipses(arguments[1:]) if word != "-m"]
            jobs = expand_jobs(words)
            assert len(jobs) > 1
            for job in (jobs[0], jobs[-1]):
                overrides = [f"{key}={value}" for key, value in job.items()]
                compose_settings(*overrides)
        elif program == "lungsound":
            run_lungsound(*arguments, "--help")
        elif program == "python":
            assert arguments[0] == "train.py"
            compose_settings(*arguments[1:])
        else:
            assert shutil.which(program, path=str(Path(sys.executable).parent)), command


def test_make_lists_its_targets() -> None:
    told = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for target in ("help", "demo", "test", "test-slow", "test-all", "lint", "ui", "bench"):
        assert re.search(rf"^make {target}\s+\w", told, flags=re.MULTILINE), target


@pytest.mark.long
@pytest.mark.parametrize(
    "command",
    [  # the real recordings at hand are too few patients for ICBHI's own split
        line
        for line in documented_commands()
        if line.startswith("python train.py") and "split=official" not in line
    ],
)
def test_documented_commands_run(command: str, tmp_path: Path, real_data: Path) -> None:
    database = "sprsound" if "sprsound" in command else "icbhi"
    arguments = shlex.split(command.replace("PATH", str(real_data / database)))[1:]
    if "data.root=" in command:  # in full it would take an hour, or days
        arguments += ["model=cnn7_quarter", "annealing.cycles=1", "annealing.epochs_per_cycle=1"]
    told = run_python(str(ROOT / arguments[0]), *arguments[1:], folder=tmp_path)
    assert told.returncode == 0, told.stderr
    if "--help" not in arguments:
        run = Path(told.stdout.splitlines()[-1].removeprefix("run: "))
        assert (tmp_path / run / "predictions.parquet").exists()
