"""Averages of class probabilities: over the chunks of a cycle, and over the members of an ensemble."""

import torch
from torch import Tensor


def cycle_probabilities(probabilities: Tensor, cycle: Tensor, cycles: int) -> Tensor:
    """The mean [cycles, K], float64, of the probabilities [n, K] of all chunks of all segments of
    each cycle.

    `cycle` [n] int64 says whose chunk each row is. Raises ValueError for a cycle without a chunk.
    """
    return cycle_means(*cycle_sums(probabilities, cycle, cycles))


def cycle_sums(probabilities: Tensor, cycle: Tensor, cycles: int) -> tuple[Tensor, Tensor]:
    """Sums [cycles, K], float64, and numbers [cycles] of the chunks of each cycle: what adds up
    over batches.
    """
    values = probabilities.double()
    sums = values.new_zeros(cycles, values.shape[-1]).index_add(0, cycle, values)
    # Not torch.bincount, for which the host waits for a GPU.
    chunks = cycle.new_zeros(cycles).index_add(0, cycle, torch.ones_like(cycle))
    return sums, chunks


def cycle_means(sums: Tensor, chunks: Tensor) -> Tensor:
    """The means of sums [cycles, K] over numbers [cycles] of chunks. Raises ValueError for a cycle
    without a chunk.
    """
    missing = (chunks == 0).nonzero().flatten().tolist()
    if missing:
        raise ValueError(
            f"Expected a chunk of every cycle, but {len(missing)} of {len(chunks)} have none: first {missing[0]}"
        )
    return sums / chunks[:, None]


def ensemble_probabilities(members: Tensor) -> Tensor:
    """The mean [n, K], float64, over the members [M, n, K] of an ensemble."""
    return members.double().mean(0)
