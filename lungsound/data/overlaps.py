"""Cycles of one recording whose intervals overlap: one sound that is counted twice."""

from collections.abc import Sequence
from typing import NamedTuple

from lungsound.data.recordings import Recording

# None of ICBHI's and SPRSound's cycles overlap another one.
MIN_PART = 0.5  # of the shorter interval: less is a boundary that was drawn twice
MIN_EQUAL = 0.9  # of both together: the same interval, as annotated twice or rounded


class Overlaps(NamedTuple):
    """What a recording's overlapping cycles are, with one line for each kind that occurs."""

    conflicts: list[str]  # intervals of two labels that share half of the longer one
    repeats: list[str]  # one interval twice, with the same label
    parts: list[str]  # one cycle lies in another, or shares half of its sound with it


def overlapping_pairs(intervals: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
    """Return the positions of each two intervals that share MIN_PART of the shorter one."""
    order = sorted(range(len(intervals)), key=intervals.__getitem__)
    pairs = []
    for place, one in enumerate(order, start=1):
        start, end = intervals[one]
        for other in order[place:]:
            other_start, other_end = intervals[other]
            if other_start >= end:
                break
            shorter = min(end - start, other_end - other_start)
            if min(end, other_end) - other_start >= MIN_PART * shorter:
                pairs.append((one, other))
    return pairs


def describe_overlaps(recording: Recording) -> Overlaps:
    """Return what the overlapping cycles of a recording are, from its annotation alone."""
    cycles = recording.cycles
    found = Overlaps([], [], [])
    for pair in overlapping_pairs([(one.start_seconds, one.end_seconds) for one in cycles]):
        first, second = sorted((cycles[place] for place in pair), key=lambda cycle: cycle.line)
        where = f"{recording.where(second)}: {second.start_seconds:g} to {second.end_seconds:g} s"
        other = recording.where(first).partition(", ")[2]
        names = [cycle.event_type or cycle.label for cycle in (first, second)]
        shared = min(first.end_seconds, second.end_seconds)
        shared -= max(first.start_seconds, second.start_seconds)
        if names[0] != names[1] and shared >= MIN_PART * max(first.seconds, second.seconds):
            found.conflicts.append(f"{where} is {names[1]}, but {names[0]} in {other}")
        elif shared < MIN_EQUAL * (first.seconds + second.seconds - shared):
            line = f"{where} ({names[1]}) overlaps {other} ({names[0]}) by half or more"
            found.parts.append(line)
        else:
            found.repeats.append(f"{where} is annotated in {other}, too")
    return Overlaps(*(_shorten(lines) for lines in found))


def _shorten(lines: list[str]) -> list[str]:
    if len(lines) < 2:
        return lines
    return [f"{lines[0]}; {len(lines)} such pairs in the file"]
