"""The paper's CNN (Table I)."""

import functools
from itertools import pairwise

import torch
from torch import Tensor, nn

FILTERS = (64, 128, 128, 256, 256, 512, 512)
DENSE = 512
# Table I prints a height per block: read as that of the block's input, or of its output.
STRIDES = {"inputs": (1, 2, 1, 2, 1, 2, 1), "outputs": (1, 1, 2, 1, 2, 1, 2)}
# 1 is Keras' 'same' for a 3 × 3 kernel.
PADDINGS = {"inputs": (0, 0, 0, 0, 0, 0, 0), "outputs": (1, 0, 0, 0, 0, 0, 0)}


def block_sizes(size: int, table1: str) -> list[int]:
    """Return the height (or width) of the input and of each block's output.

    An input for which one of them is below 1 is too small.

    >>> block_sizes(50, "inputs"), block_sizes(50, "outputs")
    ([50, 48, 23, 21, 10, 8, 3, 1], [50, 50, 48, 23, 21, 10, 8, 3])
    """
    sizes = [size]
    for stride, padding in zip(STRIDES[table1], PADDINGS[table1], strict=True):
        sizes.append((sizes[-1] + 2 * padding - 3) // stride + 1)
    return sizes


def min_input_size(table1: str) -> int:
    """Return the smallest number of bands, or of frames, that the network accepts."""
    return next(size for size in range(1, 100) if min(block_sizes(size, table1)) >= 1)


class CNN7(nn.Module):
    """Seven blocks of BN, 3 × 3 convolution and ReLU; global average pooling; one dense layer.

    Maps log-mels [B, 1, F, N] to logits [B, classes] (Nguyen & Pernkopf 2020, Table I).
    `bn_momentum` is Keras' weight of the old value, 1 minus torch's momentum. The initial weights
    depend on `seed` alone (Glorot uniform, zero biases).
    """

    def __init__(
        self, classes: int, width: float, table1: str, bn_momentum: float, bn_eps: float, seed: int
    ) -> None:
        super().__init__()
        filters = [1, *(max(1, round(width * number)) for number in FILTERS)]
        dense = max(1, round(width * DENSE))
        norm = functools.partial(nn.BatchNorm2d, momentum=1 - bn_momentum, eps=bn_eps)
        blocks: list[nn.Module] = []
        for (before, after), stride, padding in zip(
            pairwise(filters), STRIDES[table1], PADDINGS[table1], strict=True
        ):
            convolution = nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=padding)
            blocks += [norm(before), convolution, nn.ReLU(inplace=True)]
        self.blocks = nn.Sequential(*blocks, norm(filters[-1]))
        self.dense = nn.Sequential(
            nn.Linear(filters[-1], dense),
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(dense, momentum=1 - bn_momentum, eps=bn_eps),
            nn.Linear(dense, classes),
        )
        self._initialize(torch.Generator().manual_seed(seed))
        # Faster by a fifth to a third: benchmarks/results.md.
        self.to(memory_format=torch.channels_last)

    def forward(self, log_mels: Tensor) -> Tensor:
        feature_maps: Tensor = self.blocks(log_mels)
        # A mean in place of AdaptiveAvgPool2d, whose backward pass is not deterministic on CUDA.
        logits: Tensor = self.dense(feature_maps.mean((-2, -1)))
        return logits

    def _initialize(self, generator: torch.Generator) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
