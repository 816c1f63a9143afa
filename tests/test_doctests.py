"""The examples in the docstrings of the public arithmetic."""

import doctest
import importlib
from pathlib import Path

import pytest
from support.runs import ROOT

PACKAGES = ("signal", "scoring", "models")
MODULES = [
    *(path for package in PACKAGES for path in sorted((ROOT / "lungsound" / package).glob("*.py"))),
    *(
        ROOT / "lungsound" / "training" / name
        for name in ("losses.py", "progress.py", "schedule.py")
    ),
]
WITHOUT_EXAMPLES = {"__init__", "features", "metric", "registry"}  # classes: their tests show them


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_examples_print_what_they_show(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    failed, attempted = doctest.testmod(module)
    assert failed == 0
    assert (attempted > 0) == (path.stem not in WITHOUT_EXAMPLES)
