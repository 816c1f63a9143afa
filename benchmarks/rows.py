"""The rows of the table of benchmarks/results.md: a ratio measured in one run, and its goal."""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

HEAD = "| what | against | ratio (lowest to highest) | goal | met | command |"
RULE = "|---|---|---:|---:|---|---|"


class Row(NamedTuple):
    """`what` against `against`: a ratio per round; `goal` is ">= 0.9" or "<= 1.5"."""

    what: str
    against: str
    ratios: Sequence[float]
    goal: str

    @property
    def is_met(self) -> bool:
        sign, limit = self.goal.split()
        ratio = statistics.median(self.ratios)
        return ratio >= float(limit) if sign == ">=" else ratio <= float(limit)

    def __str__(self) -> str:
        low, high = min(self.ratios), max(self.ratios)
        ratio = f"{statistics.median(self.ratios):.2f} ({low:.2f} to {high:.2f})"
        met = "yes" if self.is_met else "no"
        command = f"`python benchmarks/{Path(sys.argv[0]).name}`"
        goal = self.goal.replace(">=", "≥").replace("<=", "≤")
        return f"| {self.what} | {self.against} | {ratio} | {goal} | {met} | {command} |"


def print_section(title: str, rows: Sequence[Row], *details: str) -> None:
    print(f"## {title}\n", HEAD, RULE, *rows, "", *details, "", sep="\n")


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def time_in_turn(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each, `rounds` times in turn, so that other processes slow all alike.

    A round before, not counted, warms up.
    """
    times = [{name: seconds_of(one) for name, one in work.items()} for _ in range(rounds + 1)]
    return {name: [round_[name] for round_ in times[1:]] for name in work}
