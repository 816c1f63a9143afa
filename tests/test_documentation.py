"""README, docs/ and the notebook: short, linked, and running. `make docs` checks the site."""

import os
import re
import sys
from configparser import ConfigParser
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import execute
from support.runs import ROOT

TUTORIAL = ROOT / "docs" / "tutorial.ipynb"
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), TUTORIAL]


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_hold(page: Path) -> None:
    """In the repository; mkdocs checks those of the site."""
    targets = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_compose_file_has_the_versions_of_the_tests() -> None:
    page, pins = (ROOT / "docs" / "server.md").read_text(), (ROOT / "constraints.txt").read_text()
    compose = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    assert compose["services"].keys() == {"database", "mlflow"}
    volumes = [service["volumes"][0].partition(":")[0] for service in compose["services"].values()]
    assert set(volumes) == compose["volumes"].keys()
    build = compose["services"]["mlflow"]["build"]["dockerfile_inline"]
    versions = re.findall(r"([\w-]+)(?:\[\w+\])?(==[\d.]+)", build)
    assert [name for name, _ in versions] == ["mlflow", "psycopg", "Flask-WTF"]
    assert {name + version for name, version in versions} <= set(pins.split())
    settings = ConfigParser()
    settings.read_string(compose["configs"]["auth"]["content"])
    assert settings["mlflow"]["database_uri"] in compose["services"]["mlflow"]["command"]


@pytest.mark.long
def test_the_tutorial_runs_in_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that fails ends it. LUNGSOUND_TUTORIAL=docs/tutorial.ipynb stores the new outputs."""
    (tmp_path / "docs").mkdir()
    for script in ("train.py", "sweep.py"):
        (tmp_path / script).symlink_to(ROOT / script)
    commands = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(TUTORIAL, as_version=4)
    execute(notebook, cwd=tmp_path / "docs", coalesce_streams=True, record_timing=False)
    runs = sorted((tmp_path / "outputs" / "tutorial").glob("demo-*"))
    assert [("-sample-" in run.name, "-zero-" in run.name) for run in runs] == [
        (True, False),
        (False, True),
    ]
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    if "LUNGSOUND_TUTORIAL" in os.environ:
        nbformat.write(notebook, ROOT / os.environ["LUNGSOUND_TUTORIAL"])
