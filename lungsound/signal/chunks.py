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


def split_into_chunks(log_mels: Tensor, chunks: int, rolls: int = 1) -> Tensor:
    """Cut log-mels into all their chunks: [B, F, N] -> [B, rolls * chunks, F, N // chunks].

    With `rolls` above 1 this is repeated for log-mels that are rolled along time, cyclically and by
    equal steps of a chunk's length / rolls (a roll by whole chunks would repeat them); the first
    of them is not rolled. Raises ValueError if a chunk
    would be empty.

    Examples:
        >>> split_into_chunks(torch.zeros(8, 50, 386), chunks=2).shape
        torch.Size([8, 2, 50, 193])
        >>> log_mels = torch.arange(4.0).view(1, 1, 4)
        >>> split_into_chunks(log_mels, chunks=2, rolls=2).flatten().tolist()
        [0.0, 1.0, 2.0, 3.0, 3.0, 0.0, 1.0, 2.0]
    """
    batch, bands, frames = log_mels.shape
    size = _chunk_size(frames, chunks)
    parts = []
    for number in range(rolls):
        rolled = log_mels.roll(number * size // rolls, -1) if number else log_mels
        parts.append(rolled[..., : chunks * size].view(batch, bands, chunks, size).transpose(1, 2))
    return torch.cat(parts, dim=1) if rolls > 1 else parts[0]


def _chunk_size(frames: int, chunks: int) -> int:
    if not 1 <= chunks <= frames:
        raise ValueError(f"Expected 1 to {frames} chunks, a frame each or more, but got {chunks}")
    return frames_per_chunk(frames, chunks)
