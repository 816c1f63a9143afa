"""The cyclic cosine schedule (Eq. 1), its periods and their best epochs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lungsound.scoring.scores import exact_score, score_names

MONITORS = ("score", "accuracy", "loss")


@dataclass(frozen=True)
class Annealing:
    """M periods of C epochs; epochs and periods count from 1, as in the paper.

    `cycles` is M (a period is not a respiratory cycle). `schedule="constant"` is the paper's
    baseline: one period of `constant_epochs` epochs (or `total_epochs`, if given; M·C, if neither
    is) at `max_lr`. `schedule="one_cosine"` is one period of all M·C epochs. With
    `continue_from="fresh"` each period trains another network, from its own initial weights.
    """

    schedule: str
    cycles: int
    epochs_per_cycle: int
    total_epochs: int | None
    max_lr: float
    select: str
    monitor: str
    continue_from: str
    constant_epochs: int | None = 150

    @property
    def num_periods(self) -> int:
        """The number of periods, M; 1 for the constant schedule and for one cosine."""
        is_one = self.schedule == "one_cosine" and self.continue_from != "fresh"
        return 1 if is_one or self.schedule == "constant" else self.cycles

    @property
    def epochs_per_period(self) -> int:
        """C: `epochs_per_cycle`, or floor(T / M) if T (`total_epochs`) is given."""
        period = self.epochs_per_cycle
        if self.total_epochs is not None:
            period = self.total_epochs // self.cycles
        if self.schedule == "constant":
            return self.total_epochs or self.constant_epochs or self.cycles * period
        return self.cycles * period if self.schedule == "one_cosine" else period

    @property
    def epochs(self) -> int:
        """The number of epochs that are trained, M·C."""
        return self.num_periods * self.epochs_per_period

    def learning_rate(self, t: int) -> float:
        """α(t) = α₀/2 · (cos(π · mod(t − 1, C) / C) + 1) at epoch t, which counts from 1.

        Eq. 1 of Nguyen & Pernkopf (2020).

        Examples:
            >>> schedule = Annealing("cosine", 2, 4, None, 1e-4, "best", "score", "last")
            >>> [round(1e4 * schedule.learning_rate(t), 3) for t in range(1, 7)]
            [1.0, 0.854, 0.5, 0.146, 1.0, 0.854]
        """
        if self.schedule == "constant":
            return self.max_lr
        period = self.epochs_per_period
        return self.max_lr / 2 * (math.cos(math.pi * ((t - 1) % period) / period) + 1)

    def period_of(self, t: int) -> int:
        return (t - 1) // self.epochs_per_period + 1

    def last_epoch(self, period: int) -> int:
        return period * self.epochs_per_period

    def best_epoch(
        self, history: Sequence[dict[str, Any]], period: int, monitor: str | None = None
    ) -> int:
        """Return the period's best epoch in `history` by validation; the earliest on a tie.

        Scores and accuracies are compared as ratios of counts, not as rounded floats. A missing or
        non-finite value is never the better one.
        """
        monitor = monitor or self.monitor
        epochs = [record for record in history if record["period"] == period]

        def monitored_value(record: dict[str, Any]) -> float | Fraction:
            # The score of the model's own classes: a two-class model has no score_4.
            names = score_names(record) if monitor == "score" else [f"val/{monitor}"]
            value = record.get(names[0], math.nan) if names else math.nan
            if not math.isfinite(value):
                return -math.inf
            return -value if monitor == "loss" else exact_score(value)

        return int(max(epochs, key=monitored_value)["epoch"])  # max() keeps the first of equals

    def snapshot_epoch(self, history: Sequence[dict[str, Any]], period: int) -> int:
        """Return the epoch whose weights are the period's snapshot."""
        best = self.select == "best"
        return self.best_epoch(history, period) if best else self.last_epoch(period)
