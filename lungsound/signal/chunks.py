"""Log-mels rolled along time and cut into what the CNN sees."""

import torch
from torch import Tensor


def frames_per_chunk(frames: int, chunks: int) -> int:
    """The frames of one of `chunks` equal parts of `frames`; what is left over at the end is
    dropped.
    """
    return frames // chunks


def roll_and_chunk(log_mels: Tensor, roll: Tensor, chunk: Tensor, chunks: int) -> Tensor:
    """Of each log-mel, rolled, one chunk: [B, F, N] -> [B, F, N // chunks].

    `roll` [B] int64: frames that log-mel b moves to later times, cyclically (np.roll along time;
    any sign, any size). `chunk` [B] int64: which of the `chunks` equal parts is taken then, from 0.
    Raises ValueError where a chunk would be empty.
    """
    frames = log_mels.shape[-1]
    size = _chunk_size(frames, chunks)
    start = chunk * size - roll
    frame_index = (
        start[:, None] + torch.arange(size, device=log_mels.device)
    ) % frames  # [B, size]
    return log_mels.gather(-1, frame_index[:, None, :].expand(-1, log_mels.shape[1], -1))


def split_into_chunks(log_mels: Tensor, chunks: int) -> Tensor:
    """All chunks in order of time, without roll: [B, F, N] -> [B, chunks, F, N // chunks], a view.

    Raises ValueError where a chunk would be empty.
    """
    size = _chunk_size(log_mels.shape[-1], chunks)
    batch, bands, _ = log_mels.shape
    return log_mels[..., : chunks * size].view(batch, bands, chunks, size).transpose(1, 2)


def _chunk_size(frames: int, chunks: int) -> int:
    if not 1 <= chunks <= frames:
        raise ValueError(
            f"Expected 1 to {frames} chunks, one frame each at least, but got {chunks}"
        )
    return frames_per_chunk(frames, chunks)
