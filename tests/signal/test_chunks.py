"""Rolling and chunking against np.roll and slices."""

from itertools import product

import numpy as np
import pytest
import torch

from lungsound.signal.chunks import frames_per_chunk, roll_and_chunk, split_into_chunks
from lungsound.signal.spectrum import frame_count


def test_the_papers_frames() -> None:
    assert frame_count(9 * 22_000, 512, 512) == 386
    assert frames_per_chunk(386, 1) == 386
    assert frames_per_chunk(386, 2) == 193


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 0), (511, 0), (512, 1), (513, 1), (1023, 1), (1024, 2), (1025, 2)]
)
def test_frames_around_the_borders(samples: int, frames: int) -> None:
    assert frame_count(samples, 512, 512) == frames


def test_frames_that_overlap() -> None:
    for samples in range(8, 40):
        starts = [start for start in range(0, samples, 3) if start + 8 <= samples]
        assert frame_count(samples, 8, 3) == len(starts)


@pytest.mark.parametrize("chunks", [1, 2, 3])
@pytest.mark.parametrize("frames", range(3, 13))
def test_every_roll_and_chunk_is_np_roll_and_a_slice(frames: int, chunks: int) -> None:
    size = frames // chunks
    cases = list(product(range(-frames - 1, 2 * frames + 2), range(chunks)))
    log_mels = torch.randn(len(cases), 4, frames, generator=torch.Generator().manual_seed(frames))
    roll, chunk = torch.tensor(cases).unbind(1)
    result = roll_and_chunk(log_mels, roll, chunk, chunks)
    assert result.shape == (len(cases), 4, size)
    for item, (steps, part) in enumerate(cases):
        rolled = np.roll(log_mels[item].numpy(), steps, axis=-1)
        np.testing.assert_array_equal(result[item], rolled[:, part * size : (part + 1) * size])


@pytest.mark.parametrize("chunks", [1, 2, 3, 4])
@pytest.mark.parametrize("frames", range(4, 14))
def test_all_chunks_put_together_are_the_picture_without_its_rest(frames: int, chunks: int) -> None:
    log_mels = torch.arange(2 * 3 * frames).reshape(2, 3, frames)
    parts = split_into_chunks(log_mels, chunks)
    assert parts.shape == (2, chunks, 3, frames // chunks)
    joined = torch.cat(parts.unbind(1), -1)
    assert torch.equal(joined, log_mels[..., : frames - frames % chunks])
    none = torch.zeros(2, dtype=torch.int64)
    for chunk in range(chunks):
        assert torch.equal(parts[:, chunk], roll_and_chunk(log_mels, none, none + chunk, chunks))


@pytest.mark.parametrize("chunks", [0, 4])
def test_no_chunks_and_empty_chunks_are_refused(chunks: int) -> None:
    log_mels, none = torch.zeros(1, 2, 3), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match="Expected 1 to 3 chunks"):
        split_into_chunks(log_mels, chunks)
    with pytest.raises(ValueError, match="Expected 1 to 3 chunks"):
        roll_and_chunk(log_mels, none, none, chunks)


@pytest.mark.parametrize(("chunks", "rolls"), [(2, 2), (2, 8), (3, 9)])
def test_no_chunk_is_answered_twice(chunks: int, rolls: int) -> None:
    found = split_into_chunks(torch.arange(386.0).view(1, 1, 386), chunks, rolls)
    assert len(found[0, :, 0, 0].unique()) == chunks * rolls


@pytest.mark.parametrize("rolls", [1, 2, 3, 7])
def test_rolled_chunks_are_those_of_numpys_roll(rolls: int) -> None:
    log_mels = torch.randn(2, 5, 14)
    found = split_into_chunks(log_mels, 3, rolls)
    assert found.shape == (2, 3 * rolls, 5, 4)
    for roll in range(rolls):
        rolled = np.roll(log_mels.numpy(), int(roll * 4 / rolls), axis=-1)
        for chunk in range(3):
            expected = rolled[..., 4 * chunk : 4 * chunk + 4]
            np.testing.assert_array_equal(found[:, 3 * roll + chunk].numpy(), expected)
