"""Log-mels rolled along time and cut into chunks (Nguyen & Pernkopf 2020, section III.A.5)."""

import torch
from torch import Tensor


def frames_per_chunk(frames: int, chunks: int) -> int:
    """Return the number of frames of each of `chunks` equal parts; the rest at the end is dropped.

    Examples:
        >>> frames_per_chunk(386, 2), frames_per_chunk(386, 3)
        (193, 128)
    """
    return frames // chunks


def roll_and_chunk(log_mels: Tensor, roll: Tensor, chunk: Tensor, chunks: int) -> Tensor:
    """Roll each log-mel along time, then take one of its chunks: [B, F, N] -> [B, F, N // chunks].

    `roll` [B] int64 is the number of frames by which a log-mel moves to later times, cyclically
    (np.roll: any sign, any size); `chunk` [B] int64 counts from 0. Raises ValueError if a chunk
    would be empty.

    Examples:
        >>> log_mels = torch.arange(6.0).view(1, 1, 6)
        >>> roll_and_chunk(log_mels, torch.tensor([1]), torch.tensor([0]), chunks=2)
        tensor([[[5., 0., 1.]]])
    """
    frames = log_mels.shape[-1]
    size = _chunk_size(frames, chunks)
    start = chunk * size - roll
    steps = torch.arange(size, device=log_mels.device)
    frame_index = (start[:, None] + steps) % frames  # [B, size]
    return log_mels.gather(-1, frame_index[:, None, :].expand(-1, log_mels.shape[1], -1))


def split_into_chunks(log_mels: Tensor, chunks: int) -> Tensor:
    """Cut log-mels into all their chunks: [B, F, N] -> [B, chunks, F, N // chunks], a view.

    Raises ValueError if a chunk would be empty.

    Examples:
        >>> split_into_chunks(torch.zeros(8, 50, 386), chunks=2).shape
        torch.Size([8, 2, 50, 193])
    """
    size = _chunk_size(log_mels.shape[-1], chunks)
    batch, bands, _ = log_mels.shape
    return log_mels[..., : chunks * size].view(batch, bands, chunks, size).transpose(1, 2)


def _chunk_size(frames: int, chunks: int) -> int:
    if not 1 <= chunks <= frames:
        raise ValueError(f"Expected 1 to {frames} chunks, a frame each or more, but got {chunks}")
    return frames_per_chunk(frames, chunks)
