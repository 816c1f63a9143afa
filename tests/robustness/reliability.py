"""Writes the figures of docs/reliability.md, so that none is typed.

reliability.py REPORT.xml   the outcomes of the tests that each promise names, by pytest's report
`update_row`                the row of a command that a user starts: `make kills`, `make fuzz`
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
    """Put `figures` in the row of `command`, which its first two words name: "make fuzz"."""
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
        found = [case for case in cases if is_named(case, file, test)]
        if not found:
            raise SystemExit(f"docs/reliability.md names {file}.py {test}: not in the report")
        for case in found:
            outcomes[outcome(case)] += 1
            for item in case.iterfind(".//property[@name='figures']"):
                recorded.append(item.get("value", ""))
    return "; ".join([", ".join(f"{count} {what}" for what, count in outcomes.items()), *recorded])


def is_named(case: ET.Element, file: str, test: str) -> bool:
    """Whether a case is of the `file`, and of the `test` if one is given."""
    module, name = case.get("classname", ""), case.get("name", "").partition("[")[0]
    return f".{module}".endswith(f".{file.replace('/', '.')}") and test in ("", name)


def outcome(case: ET.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "FAILED"
    return "passed" if case.find("skipped") is None else "skipped"


def when() -> str:
    """The commit that was measured, and the day."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return f"{found.stdout.strip() or 'no commit'}, {datetime.now().date()}"


def main() -> None:
    report = ET.parse(sys.argv[1])
    cases = list(report.iter("testcase"))
    minutes = sum(float(suite.get("time", 0)) for suite in report.iter("testsuite")) / 60
    outcomes = ", ".join(f"{count} {name}" for name, count in Counter(map(outcome, cases)).items())
    # First, while git sees the page unchanged.
    update_row("make test-all", f"{outcomes}; {minutes:.0f} minutes")
    PAGE.write_text(with_figures(PAGE.read_text(), cases))


if __name__ == "__main__":
    main()
