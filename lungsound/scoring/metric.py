"""The scores of a set of cycles, accumulated over batches."""

from math import nan
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lungsound.data.labels import LabelSet
from lungsound.scoring.probabilities import cycle_means, cycle_sums
from lungsound.scoring.scores import confusion_matrix, icbhi_scores


class CycleScores(Metric):
    """ICBHI scores of cycles whose true classes, of the K `labels`, are `truth` [cycles], int64.

    `update` takes the probabilities [n, K] of some chunks, and the cycle [n] of each. `compute`
    returns `icbhi_scores` of the predicted classes; every score is NaN if a probability is not
    finite. It raises ValueError for a cycle without a chunk.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    truth: Tensor
    sums: Tensor
    chunks: Tensor

    def __init__(self, truth: Tensor, labels: LabelSet, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.labels = labels
        self.register_buffer("truth", truth, persistent=False)
        sums = torch.zeros(len(truth), len(labels), dtype=torch.float64)
        self.add_state("sums", sums, dist_reduce_fx="sum")
        self.add_state("chunks", torch.zeros(len(truth), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, cycle: Tensor) -> None:
        sums, chunks = cycle_sums(probabilities, cycle, len(self.truth))
        self.sums += sums
        self.chunks += chunks

    def compute(self) -> dict[str, float]:
        means = cycle_means(self.sums, self.chunks)
        confusion = confusion_matrix(self.truth, means.argmax(-1), len(self.labels))
        scores = icbhi_scores(confusion, self.labels)
        return scores if means.isfinite().all() else dict.fromkeys(scores, nan)
