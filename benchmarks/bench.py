"""All benchmarks of a CPU, into benchmarks/results.md: python benchmarks/bench.py [SCRIPT...].

Each script is a process of its own, and prints a section with its rows; this gathers all rows in
one table above the sections. A ratio is between two things that one script measures in turn, so
that other work on the machine slows both; the machine should be quiet all the same.
"""

import platform
import subprocess
import sys
from datetime import date
from pathlib import Path

import torch
from rows import HEAD, RULE

FOLDER = Path(__file__).parent
SCRIPTS = (
    *("epoch", "network", "frontend", "preparation"),
    *("one_sweep", "members", "size", "many_runs", "start"),
)


def main() -> None:
    sections = [run_script(name) for name in sys.argv[1:] or SCRIPTS]
    rows: list[str] = []
    details: list[str] = []
    for line in "\n".join(sections).splitlines():
        is_row = line.endswith(".py` |")
        if line not in (HEAD, RULE):
            (rows if is_row else details).append(line)
    made = f"Made by `make bench` on {date.today()}: {torch.get_num_threads()} threads, "
    machine = (
        f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}."
    )
    lines = ["# Benchmarks on a CPU", "", made + machine, "", HEAD, RULE, *rows, "", *details]
    (FOLDER / "results.md").write_text("\n".join(lines).replace("\n\n\n", "\n\n") + "\n")


def run_script(name: str) -> str:
    """Return what a script prints. Raises CalledProcessError if it fails."""
    print(f"benchmarks/{name}.py", file=sys.stderr, flush=True)
    command = [sys.executable, str(FOLDER / f"{name}.py")]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
