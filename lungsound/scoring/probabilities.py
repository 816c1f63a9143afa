"""Average probabilities over a cycle's chunks, and over an ensemble's members."""

import torch
from torch import Tensor


def cycle_probabilities(probabilities: Tensor, cycle: Tensor, cycles: int) -> Tensor:
    """Average chunk probabilities [n, K] per cycle: [cycles, K], float64.

    Equal weights for all chunks of all segments (Nguyen & Pernkopf 2020, section III.C.1). `cycle`
    [n] int64 is the cycle of each chunk. Raises ValueError for a cycle without a chunk.

    Examples:
        >>> chunks = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.25, 0.75]])
        >>> cycle_probabilities(chunks, torch.tensor([0, 0, 1]), cycles=2)
        tensor([[0.5000, 0.5000],
                [0.2500, 0.7500]], dtype=torch.float64)
    """
    return cycle_means(*cycle_sums(probabilities, cycle, cycles))


def cycle_sums(probabilities: Tensor, cycle: Tensor, cycles: int) -> tuple[Tensor, Tensor]:
    """Sums [cycles, K], float64, and numbers [cycles] of chunks; both add up over batches."""
    values = probabilities.double()
    sums = values.new_zeros(cycles, values.shape[-1]).index_add(0, cycle, values)
    # Not torch.bincount: it makes the host wait for the GPU.
    chunks = cycle.new_zeros(cycles).index_add(0, cycle, torch.ones_like(cycle))
    return sums, chunks


def cycle_means(sums: Tensor, chunks: Tensor) -> Tensor:
    """Divide sums [cycles, K] by numbers of chunks [cycles].

    Raises ValueError for a cycle without a chunk.
    """
    missing = (chunks == 0).nonzero().flatten().tolist()
    if missing:
        share = f"{len(missing)} of {len(chunks)}"
        raise ValueError(f"Expected a chunk per cycle, but {share} have none: first {missing[0]}")
    return sums / chunks[:, None]


def ensemble_probabilities(members: Tensor) -> Tensor:
    """Average members [M, n, K] to [n, K], float64 (Nguyen & Pernkopf 2020, section III.C.2)."""
    return members.double().mean(0)
