"""Intervals by patient of a run's test scores, from its predictions table alone."""

from math import isfinite
from typing import Any

import numpy as np
import pandas as pd

from lungsound.results.comparison import ensemble_answers
from lungsound.scoring.bootstrap import (
    DRAWS,
    bootstrap_scores,
    quantile_interval,
    quantile_intervals,
    scores_of_counts,
)
from lungsound.scoring.comparison import mcnemar_p_value, permutation_p_value
from lungsound.scoring.scores import score_names


def score_intervals(predictions: pd.DataFrame, single: int) -> dict[str, Any]:
    """Return 95 % intervals of the scores of the ensemble and of the member `single`.

    - `patients`, `draws`; `problem`: why there are no intervals, or "".
    - `ensemble`, `single`: score -> [low, high], of the defined scores.
    - `difference`: score -> {value, low, high, permutation, mcnemar} of ensemble minus single.

    Plain numbers; the last three are empty if there is a problem. Raises DataError as `summarize`.
    """
    ensemble = ensemble_answers(predictions)
    member = ensemble_answers(predictions[predictions["member"] == single])
    labels, counts = ensemble.labels, np.stack([ensemble.counts, member.counts])
    problem = ensemble.interval_problem
    result: dict[str, Any] = {"patients": counts.shape[1], "draws": DRAWS, "problem": problem}
    result |= {"ensemble": {}, "single": {}, "difference": {}}
    if problem:
        return result
    drawn = bootstrap_scores(counts, labels)
    values = scores_of_counts(counts.sum(1), labels)
    for place, name in enumerate(("ensemble", "single")):
        intervals = quantile_intervals({score: draws[:, place] for score, draws in drawn.items()})
        for score, (low, high) in intervals.items():
            if isfinite(low):
                result[name][score] = [low, high]
    for score in score_names(result["ensemble"]):
        both = drawn[score]
        low, high = quantile_interval(both[:, 0] - both[:, 1])
        result["difference"][score] = {
            "value": float(values[score][0] - values[score][1]),
            "low": low,
            "high": high,
            "permutation": permutation_p_value(counts[0], counts[1], labels, score),
            "mcnemar": mcnemar_p_value(ensemble.is_right(score), member.is_right(score)),
        }
    return result
