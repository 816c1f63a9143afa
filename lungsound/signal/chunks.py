"""Pictures rolled along time and cut into what the CNN sees."""

import torch
from torch import Tensor


def chunk_frames(frames: int, chunks: int) -> int:
    """The frames of one of `chunks` equal parts of `frames`; what is left over at the end is dropped."""
    return frames // chunks


def roll_and_chunk(pictures: Tensor, roll: Tensor, chunk: Tensor, chunks: int) -> Tensor:
    """Of each picture, rolled, one chunk: [B, F, N] -> [B, F, N // chunks].

    `roll` [B] int64: frames that picture b moves to later times, cyclically (np.roll along time; any sign, any
    size). `chunk` [B] int64: which of the `chunks` equal parts is taken then, from 0.
    Raises ValueError where a chunk would be empty.
    """
    frames = pictures.shape[-1]
    size = _chunk_size(frames, chunks)
    start = chunk * size - roll
    source = (start[:, None] + torch.arange(size, device=pictures.device)) % frames  # [B, size]
    return pictures.gather(-1, source[:, None, :].expand(-1, pictures.shape[1], -1))


def all_chunks(pictures: Tensor, chunks: int) -> Tensor:
    """All chunks in order of time, without roll: [B, F, N] -> [B, chunks, F, N // chunks], a view.

    Raises ValueError where a chunk would be empty.
    """
    size = _chunk_size(pictures.shape[-1], chunks)
    batch, bands, _ = pictures.shape
    return pictures[..., : chunks * size].view(batch, bands, chunks, size).transpose(1, 2)


def _chunk_size(frames: int, chunks: int) -> int:
    if not 1 <= chunks <= frames:
        raise ValueError(f"Expected 1 to {frames} chunks, one frame each at least, but got {chunks}")
    return chunk_frames(frames, chunks)
