"""Cut cycles of any length into segments of one length; pad the last one."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lungsound.signal.chunks import frames_per_chunk
from lungsound.signal.spectrum import frame_count

PADDING_MODES = ("sample", "zero", "tile")


@dataclass(frozen=True)
class SegmentSpec:
    """Segments of `length` samples (`frames` frames), completed by `padding`, in `chunks`.

    At test time each is answered in this many `rolls` of its log-mel.
    """

    length: int
    padding: str
    frames: int
    chunks: int
    rolls: int = 1

    @classmethod
    def from_seconds(
        cls,
        seconds: float,
        chunks: int,
        padding: str,
        sample_rate: int,
        n_fft: int,
        hop: int,
        rolls: int = 1,
    ) -> Self:
        """Return segments of `seconds` at `sample_rate` Hz, in frames of `n_fft` every `hop`."""
        length = round(seconds * sample_rate)
        return cls(length, padding, frame_count(length, n_fft, hop), chunks, rolls)

    @property
    def chunk_frames(self) -> int:
        """The number of frames of a chunk."""
        return frames_per_chunk(self.frames, self.chunks)


def segment_count(samples: int, length: int) -> int:
    """Return the number of segments of `length` samples in a cycle: ceil(samples / length).

    Raises ValueError for an empty cycle or segment.

    Examples:
        >>> [segment_count(n, 100) for n in (1, 100, 101)]
        [1, 1, 2]
    """
    if samples < 1 or length < 1:
        given = f"{samples} and {length}"
        raise ValueError(f"Expected cycle and segment of at least one sample, but got {given}")
    return -(-samples // length)


def cut_segment(cycle: NDArray[Any], index: int, length: int, padding: str) -> NDArray[np.float32]:
    """Cut segment `index`, float32 [length], from a cycle [n], and pad it if it is the last one.

    `padding` is what a too short last segment is completed with:

    - `sample`: the cycle's own samples, from its start, as often as needed (Nguyen & Pernkopf 2020,
      section III.A.2);
    - `zero`: zeros;
    - `tile`: whole repeats of the segment, then at least one zero (the baseline of the paper, its
      reference [13]).

    Returns a new array. Raises ValueError for an empty cycle, an index out of range and an unknown
    padding.

    Examples:
        >>> cycle = np.array([1, 2, 3])
        >>> [cut_segment(cycle, 0, 8, padding).astype(int).tolist() for padding in PADDING_MODES]
        [[1, 2, 3, 1, 2, 3, 1, 2], [1, 2, 3, 0, 0, 0, 0, 0], [1, 2, 3, 1, 2, 3, 0, 0]]
    """
    segments = segment_count(len(cycle), length)
    if not 0 <= index < segments:
        raise ValueError(
            f"Expected one of the cycle's {segments} segments, from 0, but got {index}"
        )
    if padding not in PADDING_MODES:
        raise ValueError(f"Expected `padding` to be one of {PADDING_MODES}, but got {padding!r}")
    piece = cycle[index * length : (index + 1) * length]
    segment = np.zeros(length, dtype=np.float32)
    segment[: len(piece)] = piece
    if padding == "sample":
        segment[len(piece) :] = np.resize(cycle, length - len(piece))  # np.resize repeats
    elif padding == "tile":
        repeats = max(1, (length - 1) // len(piece))
        segment[: repeats * len(piece)] = np.tile(piece, repeats)
    return segment
