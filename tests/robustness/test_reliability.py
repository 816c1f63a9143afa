"""docs/reliability.md: every promise names existing tests, and has the figures of the report."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from robustness import reliability
from robustness.reliability import PAGE, TEST, update_row, with_figures
from support.runs import ROOT

REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="test_one[1]"><properties>
    <property name="figures" value="7 kills"/>
</properties></testcase>
<testcase classname="tests.test_a" name="test_one[2]"/>
<testcase classname="tests.test_a" name="test_one_more"><failure/></testcase>
<testcase classname="tests.test_a" name="test_left"><skipped/></testcase>
<testcase classname="tests.test_ab" name="test_one"><error/></testcase>
</testsuite></testsuites>"""


def test_every_promise_names_tests_that_there_are() -> None:
    promises = [line for line in PAGE.read_text().splitlines() if line.startswith("| **")]
    assert len(promises) >= 10  # the issue's, at least
    for promise in promises:
        named = TEST.findall(promise)
        assert named, promise
        for file, test in named:
            text = (ROOT / "tests" / f"{file}.py").read_text()
            assert not test or f"\ndef {test}(" in text, test


def test_figures_are_the_reports() -> None:
    cases = list(ET.fromstring(REPORT).iter("testcase"))
    rows = ["| **One** | `test_a.py::test_one` |", "| **All** | `test_a.py` and more |"]
    page = f"{rows[0]} old |\n{rows[1]} |\n| other | `test_a.py` | |\n"
    assert with_figures(page, cases).splitlines() == [
        f"{rows[0]} 2 passed; 7 kills |",
        f"{rows[1]} 2 passed, 1 FAILED, 1 skipped; 7 kills |",
        "| other | `test_a.py` | |",
    ]
    with pytest.raises(SystemExit, match=r"test_a\.py test_two: not in the report"):
        with_figures("| **None** | `test_a.py::test_two` | |", cases)


def test_a_command_writes_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "reliability.md"
    page.write_text("# A page\n\n| `make fuzz N=5` | old | |\n| `make kills N=6` | kept | |\n")
    monkeypatch.setattr(reliability, "PAGE", page)
    update_row("make fuzz N=20000", "20000 inputs, failed: 0")
    _, _, fuzz, kills = page.read_text().splitlines()
    assert fuzz.startswith("| `make fuzz N=20000` | 20000 inputs, failed: 0 | ")
    assert kills == "| `make kills N=6` | kept | |"
