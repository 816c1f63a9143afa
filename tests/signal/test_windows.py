"""Windows and cycles that are cut from a recording in blocks: the same as from the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungsound.signal.windows import cut_spans, window_spans


@given(
    st.lists(st.integers(0, 40), max_size=8),
    st.lists(st.tuples(st.integers(0, 150), st.integers(0, 90)), max_size=8),
)
def test_spans_are_those_of_the_whole_recording(
    sizes: list[int], spans: list[tuple[int, int]]
) -> None:
    whole = np.arange(sum(sizes), dtype=np.float32)
    blocks = np.split(whole, np.cumsum(sizes)[:-1]) if sizes else []
    sorted_spans = sorted((start, start + length) for start, length in spans)
    parts = list(cut_spans(blocks, sorted_spans))
    assert [part.tolist() for part in parts] == [whole[a:b].tolist() for a, b in sorted_spans]


def test_only_the_current_span_is_kept() -> None:
    """One block of each kind is read ahead, whatever the recording's length."""
    read = []

    def blocks() -> "np.ndarray":
        for number in range(1000):
            read.append(number)
            yield np.full(10, number, np.float32)

    first = next(cut_spans(blocks(), [(5, 15), (9000, 9001)]))
    assert (first.tolist(), read) == ([0.0] * 5 + [1.0] * 5, [0, 1])


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 300))
def test_windows_cover_the_recording_to_its_end(length: int, hop: int, samples: int) -> None:
    if samples < length:
        with pytest.raises(ValueError, match=f"at least {length} samples"):
            window_spans(samples, length, hop)
        return
    spans = window_spans(samples, length, hop)
    assert all(end - start == length for start, end in spans)
    assert (spans[0][0], spans[-1][1]) == (0, samples)
    starts = [start for start, _ in spans]
    assert [start for start in starts if start % hop == 0] == starts[
        : len(starts) - (starts[-1] % hop > 0)
    ]
    assert all(0 < step <= hop for step in np.diff(starts))
