"""Where an ensemble's decision comes from: integrated gradients over the log-mel.

Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", ICML 2017.
"""

from collections.abc import Sequence

import numpy as np
import torch
from captum.attr import IntegratedGradients  # type: ignore[import-untyped]
from numpy.typing import NDArray
from torch import Tensor, nn

from lungsound.signal.chunks import split_into_chunks
from lungsound.signal.segments import SegmentSpec, cut_segment, segment_count

STEPS = 32  # from the baseline to the log-mel
BATCH = 32


def attribute_chunks(networks: Sequence[nn.Module], chunks: Tensor, label: int) -> Tensor:
    """Return what each value of `chunks` [C, 1, F, N] adds to the mean probability of a label.

    Shape [C, F, N]. The baseline is zero: after the z-score, the mean log-mel. A chunk's values sum
    to the difference between its probability and the baseline's.
    """

    def probability(inputs: Tensor) -> Tensor:
        return torch.stack([one(inputs).softmax(-1)[:, label] for one in networks]).mean(0)

    gradients = IntegratedGradients(probability)
    values: Tensor = gradients.attribute(chunks, n_steps=STEPS, internal_batch_size=BATCH)
    return values.squeeze(1).float()


def frame_numbers(samples: int, segments: SegmentSpec, n_fft: int, hop: int) -> Tensor:
    """Return which frame of a window each frame of its chunks shows: int64 [C, N], -1 for none.

    The window has `samples` samples; its segments are completed by padding, which repeats the
    window or is zero. A frame counts by the sample in its middle.
    """
    number = np.arange(1, samples + 1, dtype=np.float32)  # 0 is padding
    last = max(0, (samples - n_fft) // hop)
    middles = n_fft // 2 + hop * np.arange(segments.frames)
    frames = []
    for segment in range(segment_count(samples, segments.length)):
        positions = cut_segment(number, segment, segments.length, segments.padding)[middles]
        nearest = np.clip(np.round((positions - 1 - n_fft // 2) / hop), 0, last)
        frames.append(np.where(positions > 0, nearest, -1))
    numbers = torch.from_numpy(np.stack(frames)).long()
    return split_into_chunks(numbers[:, None], segments.chunks, segments.rolls).flatten(0, 2)


def gather_frames(values: Tensor, numbers: Tensor, frames: int) -> NDArray[np.float32]:
    """Add up `values` [C, F, N] of the frames with the same number [C, N]: [F, frames].

    Divided by C: the sum of all is then the change of the window's probability, their mean, but for
    what padding with zeros adds, which has no place in the recording.
    """
    total = values.new_zeros(values.shape[1], frames)
    for chunk, number in zip(values, numbers.to(values.device), strict=True):
        shown = number >= 0
        total.index_add_(1, number[shown], chunk[:, shown])
    return (total / len(values)).cpu().numpy()
