"""What pyproject.toml declares against what the source imports."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
from support.runs import ROOT

import lungsound

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
TOOLS = ("dev", "docs", "joblib", "ray", "slurm")
# Of one command or option each, which imports them only if it is used.
FEATURES = {name: wanted for name, wanted in EXTRAS.items() if name not in TOOLS}
# Imported by nobody, and needed: Hydra finds its launcher as a plugin; torch.onnx uses onnx,
# MLflow psutil, its server Flask-WTF, SQLAlchemy psycopg; a user's search optuna; the notebook's
# kernel; pytest's process per core; the tools of `make lint`; what builds a wheel.
PLUGINS = {
    *("hydra-joblib-launcher", "ipykernel", "onnx", "optuna", "psutil"),
    *("flask-wtf", "psycopg"),
    *("pytest-xdist", "setuptools"),
    *("ruff", "mypy", "pandas-stubs", "pre-commit"),
}


def distribution_names(requirements: Iterable[str]) -> set[str]:
    return {normalize(re.split(r"[<>=!~\[; ]", line)[0]) for line in requirements}


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_distributions(files: Iterable[Path], declared: set[str]) -> set[str]:
    """The distributions that bring the third-party modules which the files import.

    If several bring one module (mlflow's do), the declared one.
    """
    modules: set[str] = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.partition(".")[0])
    modules_of_ours = ("*.py", "tests/*", "benchmarks/*.py")
    ours = {path.stem for place in modules_of_ours for path in ROOT.glob(place)} | {"lungsound"}
    brings = packages_distributions()
    found: set[str] = set()
    for module in modules - ours - set(sys.stdlib_module_names):
        candidates = {normalize(name) for name in brings[module]}
        found |= candidates & declared or candidates
    return found


def test_dependencies_are_what_the_package_imports() -> None:
    files = [*(ROOT / "lungsound").rglob("*.py"), ROOT / "train.py", ROOT / "sweep.py"]
    features = distribution_names(line for lines in FEATURES.values() for line in lines)
    declared = distribution_names(PROJECT["dependencies"]) | features - PLUGINS
    assert imported_distributions(files, declared) == declared


def test_extras_are_what_tests_and_benchmarks_import() -> None:
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    with_features, *tools = EXTRAS["dev"]
    assert with_features == f"lungsound[{','.join(sorted(FEATURES))}]"
    lines = [line for extra in EXTRAS.values() for line in extra if line != with_features]
    declared = distribution_names([*PROJECT["dependencies"], *lines])
    needed = imported_distributions(files, declared)
    assert needed <= declared
    assert distribution_names(tools) - PLUGINS <= needed


def test_the_version_is_the_declared_one() -> None:
    assert lungsound.__version__ == PROJECT["version"] == version("lungsound")
    assert f"\nversion: {lungsound.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## {PROJECT['version']}" in changelog


def test_an_unsupported_system_is_named_on_import() -> None:
    """Windows has no fcntl."""
    code = "import sys; sys.modules['fcntl'] = None; import train"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    last_line = done.stderr.splitlines()[-1]
    assert last_line.startswith("ImportError: lungsound runs on Linux and macOS: ")
    assert "On Windows use WSL 2" in last_line


@pytest.mark.parametrize(
    ("broken", "working", "named", "chosen"),
    [
        ((), ("python3.12", "python3.11"), None, "python3.11"),
        (("python3.11",), ("python3.13",), "", "python3.13"),  # pyenv's: not the chosen version
        (("python3",), ("python",), None, "python"),
        ((), ("python3.12", "python3.11"), "python3.12", "python3.12"),
        (("python3",), (), None, None),
        (("python3.10",), ("python3.12",), "python3.10", None),
    ],
)
def test_make_takes_a_python_that_works(
    tmp_path: Path, broken: tuple[str, ...], working: tuple[str, ...], named: str | None,
    chosen: str | None,
) -> None:  # fmt: skip
    for name, line in [
        *((name, "exit 127") for name in broken),
        *((name, f'exec {sys.executable} "$@"') for name in working),
    ]:
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    make = [shutil.which("make") or "make", "--dry-run", "--always-make", "demo"]
    environment = {"PATH": str(tmp_path)} | ({} if named is None else {"PYTHON": named})
    done = subprocess.run(make, cwd=ROOT, env=environment, capture_output=True, text=True)
    name_test, creation = done.stdout.splitlines()[0], done.stdout.splitlines()[2]
    assert name_test.startswith(
        f'test -n "{chosen or ""}" || {{ echo "{named or "The PATH"} has no Python 3'
    )
    assert "make PYTHON=/path" in done.stdout.splitlines()[1]
    assert creation.endswith("m venv .venv")
    assert chosen is None or creation.startswith(f"{chosen} ")
