"""Cutting cycles into segments, against Python's own cyclic repetition."""

from itertools import cycle as repeat
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray

from lungsound.signal.segments import cut_segment, segment_count

LENGTH = 7


def samples(number: int) -> NDArray[np.float32]:
    return np.arange(1, number + 1, dtype=np.float32)


@pytest.mark.parametrize("number", range(1, 4 * LENGTH + 2))
@pytest.mark.parametrize("padding", ["sample", "zero"])
def test_segments_hold_the_cycle_and_its_padding(number: int, padding: str) -> None:
    cycle = samples(number)
    starts = range(0, number, LENGTH)
    assert segment_count(number, LENGTH) == len(starts)
    for index, start in enumerate(starts):
        own = list(cycle[start : start + LENGTH])
        filling = islice(repeat(cycle if padding == "sample" else [0.0]), LENGTH - len(own))
        segment = cut_segment(cycle, index, LENGTH, padding)
        assert segment.dtype == np.float32
        assert segment.tolist() == own + list(filling)


@pytest.mark.parametrize("number", range(1, 3 * LENGTH + 1))
@pytest.mark.parametrize("length", [LENGTH, LENGTH + 1])
def test_tile_padding_repeats_a_piece_that_fills_less_than_half(number: int, length: int) -> None:
    """The baseline's rule, as a formula: sample t is that of t mod n, or 0 from the last repeat."""
    cycle = samples(number)
    piece = cycle[number - ((number - 1) % length + 1) :]
    size = len(piece)
    end = size if size >= length / 2 else ((length - 1) // size) * size
    t = np.arange(length)
    expected = np.where(t < end, piece[t % size], 0)
    index = segment_count(number, length) - 1
    np.testing.assert_array_equal(cut_segment(cycle, index, length, "tile"), expected)
    if index:
        np.testing.assert_array_equal(cut_segment(cycle, 0, length, "tile"), cycle[:length])


@pytest.mark.parametrize(
    ("seconds", "segments"), [(8.999, 1), (9, 1), (9.001, 2), (16.163, 2), (18, 2), (18.001, 3)]
)
def test_segments_of_nine_seconds(seconds: float, segments: int) -> None:
    assert segment_count(round(seconds * 22_000), 9 * 22_000) == segments


def test_a_segment_is_not_a_view_of_the_store() -> None:
    cycle = samples(LENGTH)
    cycle.flags.writeable = False
    segment = cut_segment(cycle, 0, LENGTH, "sample")
    assert segment.flags.writeable
    assert not np.shares_memory(segment, cycle)


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        cut_segment(samples(0), 0, LENGTH, "sample")
    with pytest.raises(ValueError, match="at least one sample"):
        segment_count(5, 0)
    for index in (-1, 2):
        with pytest.raises(ValueError, match="one of the cycle's 2 segments"):
            cut_segment(samples(LENGTH + 1), index, LENGTH, "zero")
    with pytest.raises(ValueError, match="got 'reflect'"):
        cut_segment(samples(LENGTH), 0, LENGTH, "reflect")
