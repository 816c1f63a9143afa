"""Windows of a recording that is read in blocks: it may be longer than memory."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]  # first sample, and the one after the last


def window_spans(samples: int, length: int, hop: int) -> list[Span]:
    """Return windows of `length` samples every `hop`; the last one ends with the recording.

    Raises ValueError if the recording is shorter than one window.

    >>> window_spans(10, length=4, hop=3), window_spans(11, length=4, hop=3)
    ([(0, 4), (3, 7), (6, 10)], [(0, 4), (3, 7), (6, 10), (7, 11)])
    """
    if samples < length:
        raise ValueError(f"Expected at least {length} samples, but got {samples}")
    starts = list(range(0, samples - length + 1, hop))
    if starts[-1] + length < samples:
        starts.append(samples - length)
    return [(start, start + length) for start in starts]


def cut_spans(
    blocks: Iterable[NDArray[np.float32]], spans: Iterable[Span]
) -> Iterator[NDArray[np.float32]]:
    """Yield the samples of each span of the recording whose consecutive parts are `blocks`.

    `spans` are sorted by their start. Only the samples from the current start on are kept.

    >>> blocks = np.split(np.arange(6, dtype=np.float32), [3, 5])
    >>> [part.tolist() for part in cut_spans(blocks, [(0, 1), (1, 4), (2, 3), (5, 6)])]
    [[0.0], [1.0, 2.0, 3.0], [2.0], [5.0]]
    """
    blocks = iter(blocks)
    kept, offset = np.zeros(0, np.float32), 0  # `offset`: the position of the first one kept
    for start, end in spans:
        while offset + len(kept) < end:
            block = next(blocks, None)
            if block is None:
                break
            past = min(start - offset, len(kept))
            kept, offset = np.concatenate([kept[past:], block]), offset + past
        yield kept[start - offset : end - offset]
