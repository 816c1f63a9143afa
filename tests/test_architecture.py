"""The walls of the house (docs/architecture.md): who imports whom, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

ROOMS = ("data", "signal", "scoring", "training", "evaluation", "tracking")
CELLAR = ("errors", "files")  # below all rooms
FILES = sorted((ROOT / "lungsound").rglob("*.py"))
COMMANDS = sorted(ROOT.glob("*.py"))
# config.py is the schema; cfg stops at these.
MAY_READ_CONFIG = {"progressions", "plan", "checks", "describe", "build", "run", "members", "rescore", "cost", "study",
                   "train", "sweep", "tracking.__main__"}  # fmt: skip


def name_of(path: Path) -> str:
    """lungsound/data/store.py -> data.store; train.py -> train."""
    relative = path.relative_to(ROOT).with_suffix("")
    return ".".join(part for part in relative.parts if part not in ("lungsound", "__init__"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or inside a function; `from a import b` gives a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(package: str) -> set[str]:
    """The files, as `name_of`, that import a package or something of it."""
    return {
        name_of(path)
        for path in (*FILES, *COMMANDS)
        if any(f"{name}.".startswith(f"{package}.") for name in imports(path))
    }


def room_of(name: str) -> str:
    return name.partition(".")[0]


def test_there_is_something_to_walk() -> None:
    assert {room_of(name_of(path)) for path in FILES} >= {*ROOMS, *CELLAR, "config", "build", "run"}
    assert importers("lungsound.config") >= {"build", "run", "train"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_its_left_and_itself(room: str) -> None:
    allowed = {*ROOMS[: ROOMS.index(room) + 1], *CELLAR}
    for path in FILES:
        if room_of(name_of(path)) == room and path.name != "__main__.py":  # a room's own command may use every room
            ours = {name.split(".")[1] for name in imports(path) if name.startswith("lungsound.")}
            assert ours <= allowed, path


def test_the_cellar_stands_on_nothing() -> None:
    for name in CELLAR:
        ours = {other for other in imports(ROOT / "lungsound" / f"{name}.py") if other.startswith("lungsound")}
        assert {other.split(".")[1] for other in ours} <= set(CELLAR)


@pytest.mark.parametrize("package", ["hydra", "omegaconf", "pytorch_lightning", "lightning", "mlflow"])
def test_data_signal_and_scoring_know_no_framework(package: str) -> None:
    assert not {"data", "signal", "scoring"} & {room_of(name) for name in importers(package)}


def test_mlflow_is_imported_in_tracking_alone() -> None:
    assert {room_of(name) for name in importers("mlflow")} == {"tracking"}


def test_torchaudio_is_imported_in_one_module_alone() -> None:
    assert importers("torchaudio") == {"signal.mel"}


def test_cfg_stops_above_the_rooms() -> None:
    assert importers("lungsound.config") <= MAY_READ_CONFIG


def test_no_module_is_a_drawer_for_everything() -> None:
    parts = {part for path in (*FILES, *COMMANDS) for part in name_of(path).split(".")}
    assert not parts & {"utils", "util", "helpers", "helper", "common", "misc"}


def test_the_commands_are_short() -> None:
    assert ROOT / "train.py" in COMMANDS
    for path in COMMANDS:
        assert len(path.read_text().splitlines()) <= 30, path
