"""What pyproject.toml declares against what the source imports."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions, version
from pathlib import Path

from support.runs import ROOT

import lungsound

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Imported by nobody, and needed: Hydra finds its launcher as a plugin; pytest's process per core;
# the tools of `make lint`; pip builds a wheel with setuptools.
PLUGINS = {
    *("hydra-joblib-launcher", "pytest-xdist", "setuptools"),
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
    declared = distribution_names(PROJECT["dependencies"])
    assert imported_distributions(files, declared) == declared


def test_extras_are_what_tests_and_benchmarks_import() -> None:
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    extras = PROJECT["optional-dependencies"]
    declared = distribution_names([*PROJECT["dependencies"], *extras["dev"], *extras["parallel"]])
    needed = imported_distributions(files, declared)
    assert needed <= declared
    assert distribution_names(extras["dev"]) - PLUGINS <= needed


def test_the_version_is_the_declared_one() -> None:
    assert lungsound.__version__ == PROJECT["version"] == version("lungsound")
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## {PROJECT['version']}" in changelog
