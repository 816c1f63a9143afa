"""The layers of docs/architecture.md: who imports whom, read from the source."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from support.runs import ROOT

# Each layer may import itself and those before it.
LAYERS = (
    *("errors", "storage", "config", "data", "signal", "models", "scoring", "training"),
    *("results", "tracking", "runs", "studies", "ensemble", "serving", "cli"),
)
FORMER_COMMANDS = tuple(
    f"{name}/__main__.py" for name in ("data", "tracking", "evaluation", "study")
)
FILES = sorted((ROOT / "lungsound").rglob("*.py"))
COMMANDS = sorted(ROOT.glob("*.py"))
# Below these layers functions take plain arguments, not a configuration.
READ_CONFIG = {"config", "runs", "studies", "cli", "train", "sweep"}


def module_name(path: Path) -> str:
    """lungsound/data/store.py -> data.store; train.py -> train."""
    relative = path.relative_to(ROOT).with_suffix("")
    return ".".join(part for part in relative.parts if part not in ("lungsound", "__init__"))


def layer_of(path: Path) -> str:
    return module_name(path).partition(".")[0]


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it; `from a import b` gives a.b."""
    for node in parse(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def parse(path: Path) -> list[ast.AST]:
    """Every node of a file's syntax tree."""
    return list(ast.walk(ast.parse(path.read_text())))


def importers(package: str) -> set[str]:
    """The layers that import a package or something of it."""
    layers = set()
    for path in (*FILES, *COMMANDS):
        if any(f"{name}.".startswith(f"{package}.") for name in imports(path)):
            layers.add(layer_of(path))
    return layers


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_from_those_before_it(layer: str) -> None:
    allowed = set(LAYERS[: LAYERS.index(layer) + 1])
    files = [path for path in FILES if layer_of(path) == layer]
    assert files
    for path in files:
        if not path.as_posix().endswith(FORMER_COMMANDS):
            ours = {name.split(".")[1] for name in imports(path) if name.startswith("lungsound.")}
            assert ours <= allowed, path


@pytest.mark.parametrize("package", ["hydra", "omegaconf", "pytorch_lightning", "mlflow"])
def test_the_method_imports_no_framework(package: str) -> None:
    assert not {"data", "signal", "scoring", "models"} & importers(package)
    assert not importers("lightning")


def test_mlflow_is_imported_in_tracking_and_by_the_model_that_it_serves() -> None:
    assert importers("mlflow") <= {"tracking", "serving"}


def test_torchaudio_is_imported_by_tests_alone() -> None:
    """Its wheel needs the CUDA libraries of one torch: beside a torch for CPUs its import fails."""
    assert not importers("torchaudio")


def test_the_configuration_stops_above_the_method() -> None:
    assert importers("lungsound.config") <= READ_CONFIG


def test_the_root_has_no_module_but_errors_and_the_public_one() -> None:
    names = {path.name for path in (ROOT / "lungsound").glob("*.py")}
    assert names <= {"__init__.py", "__main__.py", "errors.py", "ensemble.py"}


def test_no_utils_modules() -> None:
    parts = {part for path in (*FILES, *COMMANDS) for part in module_name(path).split(".")}
    assert not parts & {"utils", "util", "helpers", "helper", "common", "misc"}


def test_the_commands_are_short() -> None:
    assert ROOT / "train.py" in COMMANDS
    for path in COMMANDS:
        assert len(path.read_text().splitlines()) <= 31, path
