"""What an installed wheel needs: the command, conf/ and the paper's tables."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.runs import ROOT, compose_config

from lungsound.runs.inputs import build_inputs
from lungsound.runs.naming import run_name
from lungsound.runs.validation import validate_config

COMPOSE = """
import lungsound
from lungsound.config.overrides import compose_run
from lungsound.studies.tables import paper_table
cfg, choices = compose_run(["experiment=paper", "segment=3s"])
print(lungsound.__file__, choices["experiment"], cfg.segment.seconds, len(paper_table(2)))
"""


def run(*words: object, folder: Path, **environment: str) -> str:
    words_as_text = [str(word) for word in words]
    done = subprocess.run(
        words_as_text, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an installed wheel, with the libraries of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source, wheels, installed = (folder / name for name in ("source", "wheels", "installed"))
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("lungsound", "conf"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, source,
        folder=folder)  # fmt: skip
    (wheel,) = wheels.glob("*.whl")
    run(*pip, "install", "--no-deps", "--target", installed, wheel, folder=folder)
    return installed


@pytest.mark.slow
def test_an_installed_wheel_has_the_command_and_the_configuration(
    installed: Path, tmp_path: Path
) -> None:
    helped = run(
        sys.executable, "-m", "lungsound", "--help", folder=tmp_path, PYTHONPATH=str(installed)
    )
    assert "study" in helped
    printed = run(sys.executable, "-c", COMPOSE, folder=tmp_path, PYTHONPATH=str(installed))
    file, *values = printed.rsplit(maxsplit=3)
    assert Path(file).is_relative_to(installed)
    assert values[:2] == ["paper", "3.0"]
    assert int(values[2]) > 0
    configs = {path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*.yaml")}
    found = (installed / "lungsound" / "conf").rglob("*.yaml")
    assert {path.relative_to(installed / "lungsound" / "conf") for path in found} == configs
    assert (installed / "bin" / "lungsound").exists()


@pytest.mark.long
def test_an_installed_wheel_trains_the_run_of_the_clone(installed: Path, tmp_path: Path) -> None:
    """In an empty folder, under the name that has the key of settings, data and source."""
    words = ("experiment=tiny", "annealing.cycles=1")

    def lungsound(*words: str) -> str:
        command = installed / "bin" / "lungsound"
        return run(command, *words, folder=tmp_path, PYTHONPATH=str(installed))

    printed = lungsound("train", *words)
    cfg, choices = compose_config(*words, f"store_dir={tmp_path / 'store'}")
    settings = validate_config(cfg)
    name = run_name(settings, choices, build_inputs(settings))
    assert printed.splitlines()[-1] == f"run: outputs/{name}"
    assert (tmp_path / "outputs" / name / "SHA256SUMS").exists()
    planned = lungsound("sweep", *words, "seed=0,1", "plan=true")
    assert re.search("^ *seed=0 .*finished", planned, re.MULTILINE), planned
