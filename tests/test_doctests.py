"""The examples in the docstrings of the public arithmetic."""

import doctest
import importlib
from pathlib import Path

import pytest
from support.runs import ROOT

PACKAGES = ("signal", "scoring", "models")
PACKAGE = ROOT / "lungsound"
MODULES = [path for name in PACKAGES for path in sorted((PACKAGE / name).glob("*.py"))]
MODULES += [PACKAGE / "training" / f"{name}.py" for name in ("losses", "progress", "schedule")]
# Classes and networks: their tests show them.
WITHOUT_EXAMPLES = {"__init__", "checkpoint", "features", "metric", "registry", "timm_networks"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_examples_print_what_they_show(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    failed, attempted = doctest.testmod(module)
    assert failed == 0
    assert (attempted > 0) == (path.stem not in WITHOUT_EXAMPLES)
