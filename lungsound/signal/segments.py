"""Cycles of any length to segments of one length."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

PADDING_MODES = ("sample", "zero")


def segment_count(samples: int, length: int) -> int:
    """The number of segments of `length` samples that a cycle of `samples` gives, a partly filled
    one included.

    Raises ValueError for an empty cycle or segment.
    """
    if samples < 1 or length < 1:
        raise ValueError(
            f"Expected a cycle and a segment of at least one sample, but got {samples} and {length}"
        )
    return -(-samples // length)


def cut_segment(cycle: NDArray[Any], index: int, length: int, padding: str) -> NDArray[np.float32]:
    """Segment `index`, float32 [length], of a cycle [n]: samples `index · length` and on.

    What is missing in the last segment is the cycle itself, from its start and as often as needed
    (`sample`: Nguyen & Pernkopf 2020, section III.A.2), or silence (`zero`). Always a new array.
    Raises ValueError for an empty cycle, an index that the cycle does not have and an unknown
    padding.
    """
    segments = segment_count(len(cycle), length)
    if not 0 <= index < segments:
        raise ValueError(
            f"Expected `index` to be one of the cycle's {segments} segments, from 0, but got {index}"
        )
    if padding not in PADDING_MODES:
        raise ValueError(f"Expected `padding` to be one of {PADDING_MODES}, but got {padding!r}")
    available = cycle[index * length : (index + 1) * length]
    segment = np.zeros(length, dtype=np.float32)
    segment[: len(available)] = available
    if padding == "sample":
        segment[len(available) :] = np.resize(cycle, length - len(available))  # np.resize repeats
    return segment
