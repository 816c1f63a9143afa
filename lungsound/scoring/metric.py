"""The scores of a set of cycles, gathered batch by batch."""

from math import nan
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lungsound.scoring.probabilities import cycle_means, cycle_sums
from lungsound.scoring.scores import confusion_matrix, icbhi_scores


class CycleScores(Metric):
    """ICBHI scores of cycles with the true classes `labels` [cycles], int64 from 0, of `classes` (4
    or 2).

    `update` takes the probabilities [n, classes] of any chunks, in any order, and the cycle [n] of
    each; `compute` gives `icbhi_scores` of the answers, once every cycle has had a chunk
    (ValueError before). Where a probability is not a number there is no answer, and every score is
    nan.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    labels: Tensor
    sums: Tensor
    chunks: Tensor

    def __init__(self, labels: Tensor, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes = classes
        self.register_buffer("labels", labels, persistent=False)
        self.add_state(
            "sums", torch.zeros(len(labels), classes, dtype=torch.float64), dist_reduce_fx="sum"
        )
        self.add_state("chunks", torch.zeros(len(labels), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, cycle: Tensor) -> None:
        sums, chunks = cycle_sums(probabilities, cycle, len(self.labels))
        self.sums += sums
        self.chunks += chunks

    def compute(self) -> dict[str, float]:
        means = cycle_means(self.sums, self.chunks)
        scores = icbhi_scores(confusion_matrix(self.labels, means.argmax(-1), self.classes))
        return scores if means.isfinite().all() else dict.fromkeys(scores, nan)
