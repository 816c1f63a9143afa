"""Writes the figures of docs/reliability.md, so that none is typed.

reliability.py REPORT.xml   what came of the tests that each promise names, from pytest's report
`update_row`                          the row of a command that is given by hand: kills.py and
fuzz.py call it
"""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
TEST = re.compile(r"`((?:\w+/)*test_\w+)\.py(?:::(test_\w+))?`")


def update_row(command: str, figures: str) -> None:
    """Put `figures` in the row of `command`, e.g. "make fuzz N=20000"; the first two words say
    which row.
    """
    begins = f"| `{' '.join(command.split()[:2])}"
    lines = PAGE.read_text().splitlines()
    (row,) = (number for number, line in enumerate(lines) if line.startswith(begins))
    lines[row] = f"| `{command}` | {figures} | {when()} |"
    PAGE.write_text("\n".join(lines) + "\n")


def with_figures(page: str, cases: list[ET.Element]) -> str:
    """`page` with the last cell of each promise written anew, from the test cases of a report."""
    lines = page.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("| **"):
            promise, shown_by, _ = (cell.strip() for cell in line.strip("|").split("|"))
            lines[number] = f"| {promise} | {shown_by} | {figures_of(shown_by, cases)} |"
    return "\n".join(lines) + "\n"


def figures_of(shown_by: str, cases: list[ET.Element]) -> str:
    """What came of the tests that a cell names, and the figures that they recorded."""
    outcomes: Counter[str] = Counter()
    recorded = []
    for file, test in TEST.findall(shown_by):
        found = [
            case
            for case in cases
            if f".{case.get('classname', '')}".endswith(f".{file.replace('/', '.')}")
            and (not test or case.get("name", "").split("[")[0] == test)
        ]
        if not found:
            raise SystemExit(
                f"docs/reliability.md names {file}.py {test}, of which the report has no test"
            )
        for case in found:
            outcomes[outcome(case)] += 1
            recorded += [
                name.get("value", "")
                for name in case.iter("property")
                if name.get("name") == "figures"
            ]
    return "; ".join([", ".join(f"{count} {what}" for what, count in outcomes.items()), *recorded])


def outcome(case: ET.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "FAILED"
    return "passed" if case.find("skipped") is None else "skipped"


def when() -> str:
    """The commit that was measured, and the day."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{found.stdout.strip() or 'no commit'}, {datetime.now().date()}"


def main() -> None:
    cases = list(ET.parse(sys.argv[1]).iter("testcase"))
    seconds = sum(float(suite.get("time", 0)) for suite in ET.parse(sys.argv[1]).iter("testsuite"))
    told = ", ".join(f"{count} {what}" for what, count in Counter(map(outcome, cases)).items())
    update_row(
        "make test-all", f"{told}; {seconds / 60:.0f} minutes"
    )  # before the page is changed, as seen by git
    PAGE.write_text(with_figures(PAGE.read_text(), cases))


if __name__ == "__main__":
    main()
