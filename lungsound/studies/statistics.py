"""Scores over the splits of a study: mean and interval per setting, paired differences.

`runs` has one row per finished run: a column per swept key, `protocol`, the scores on the test set
(`specificity`, and per number N of classes `sensitivity_N` and `score_N`, of the whole ensemble),
`single_score_N` (of the member that is best on validation), `threshold_score_2` (of the ensemble,
where 1 - p_normal is at or above the threshold that is best on validation), `train_cycles`,
`val_cycles` and `test_cycles`, `members`. An undefined score is NaN or has no column.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import nan, sqrt
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student

from lungsound.errors import DataError
from lungsound.scoring.scores import score_names

SPLIT_KEYS = ("split.seed", "split.fold")  # keys that distinguish splits of one protocol
# Protocols whose splits share one test set: no interval over such splits.
FIXED_TEST_PROTOCOLS = ("official", "official_clean", "file")
PARTS = ("", "_std", "_interval")
CONFIDENCE_LEVEL, MIN_INTERVAL_SPLITS = 0.95, 3
PADDINGS = ("zero", "sample", "tile")  # each one's scores minus those of the ones before it


class Spread(NamedTuple):
    """Mean, standard deviation and half the interval of a score over the splits that define it."""

    mean: float
    std: float
    interval: float
    splits: int


def corrected_interval(
    values: Sequence[float],
    train_cycles: float,
    test_cycles: float,
    level: float = CONFIDENCE_LEVEL,
) -> float:
    """Return half the width of the confidence interval of the mean of k overlapping splits' scores.

    t_{k-1} · s · √(1/k + test/train), s with k - 1 degrees of freedom (Nadeau & Bengio 2003).
    `train_cycles` includes validation. NaN for fewer than three values: of two it would be wider
    than the range of a score. Raises ValueError if there is no training cycle, or the level is not
    between 0 and 1.
    """
    if train_cycles <= 0 or not 0 < level < 1:
        raise ValueError(
            f"Expected train_cycles > 0 and 0 < level < 1, but got {train_cycles} and {level}."
        )
    if len(values) < MIN_INTERVAL_SPLITS:
        return nan
    quantile = float(student.ppf((1 + level) / 2, len(values) - 1))
    deviation = float(np.std(values, ddof=1))
    return quantile * deviation * sqrt(1 / len(values) + test_cycles / train_cycles)


def aggregate_over_splits(runs: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return one row per combination of protocol and swept `keys`, without those of SPLIT_KEYS.

    Columns: the keys, `protocol`, `splits` (the number of runs), and for each score that `runs`
    has its mean under its own name, `_std` (k - 1 degrees of freedom, NaN for one split) and
    `_interval` (`corrected_interval`), over the splits in which the score is defined. Numbers in
    ascending order, all else in order of appearance. Raises DataError for a key that is no column,
    and for two runs of one combination on one split.
    """
    _check(runs, keys)
    own_keys = exclude(keys, *SPLIT_KEYS)
    sensitivities = [f"sensitivity_{classes}" for classes in task_sizes(runs)]
    scores = ["specificity", *sensitivities, *score_names(runs)]
    rows = []
    for row, group in sorted_groups(runs, own_keys):
        row["splits"] = len(group)
        for score in scores:
            for part, value in zip(PARTS, spread_over_splits(group[score], group), strict=False):
                row[f"{score}{part}"] = value
        rows.append(row)
    score_columns = [f"{score}{part}" for score in scores for part in PARTS]
    return pd.DataFrame(rows, columns=[*own_keys, "protocol", "splits", *score_columns])


def paired_differences(runs: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return differences between two scores of one split: mean, std and interval over the splits.

    For every combination the ensemble minus the best single member of the same run, answers by
    threshold minus those by the largest probability, and, if `padding` is swept, every two of
    PADDINGS of the same other keys and split. Columns:
    `difference`, `protocol`, `score` (such as score_4), `mean`, `std`, `interval`
    (`corrected_interval`), `splits` (those with both scores; without any there is no row). Raises
    DataError as `aggregate_over_splits` does.
    """
    _check(runs, keys)
    own_keys = exclude(keys, *SPLIT_KEYS)
    scores = score_names(runs)
    several = runs[runs["members"] > 1]
    single = several[[f"single_{score}" for score in scores]].set_axis(scores, axis=1)
    differences = several.assign(**(several[scores].astype(float) - single.astype(float)))
    rows = _difference_rows(differences, own_keys, scores, "ensemble minus best single member")
    if {"threshold_score_2", "score_2"} <= set(runs):
        by_threshold = runs["threshold_score_2"].astype(float) - runs["score_2"].astype(float)
        name = "threshold of validation minus largest probability"
        rows += _difference_rows(runs.assign(score_2=by_threshold), own_keys, ["score_2"], name)
    if "padding" in keys:
        same = [*exclude(keys, "padding"), "protocol"]
        of_padding = {name: group.set_index(same) for name, group in runs.groupby("padding")}
        swept = [name for name in PADDINGS if name in of_padding]
        for first, second in combinations(swept, 2):
            pairs = of_padding[second][scores].astype(float) - of_padding[first][scores]
            differences = of_padding[second].assign(**pairs).dropna(how="all", subset=scores)
            others, name = exclude(own_keys, "padding"), f"padding {second} minus {first}"
            rows += _difference_rows(differences.reset_index(), others, scores, name)
    return pd.DataFrame(rows, columns=["difference", "protocol", "score", *Spread._fields])


def task_sizes(table: pd.DataFrame) -> list[int]:
    """Return the numbers of classes whose score the table has, the largest first."""
    return [int(name.removeprefix("score_")) for name in score_names(table)]


def exclude(keys: Sequence[str], *others: str) -> list[str]:
    """Return `keys` without `others`."""
    return [key for key in keys if key not in others]


def sorted_groups(
    frame: pd.DataFrame, keys: Sequence[str]
) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Group rows by keys and protocol: numbers in ascending order, all else by appearance."""
    by = [*keys, "protocol"]
    ranks = frame[by].copy()
    for key in by:
        if frame[key].dtype.kind not in "iuf":
            ranks[key], _ = pd.factorize(frame[key], use_na_sentinel=False)
    for _, group in frame.groupby([ranks[key] for key in by], dropna=False):
        yield {key: group[key].iloc[0] for key in by}, group


def spread_over_splits(values: pd.Series, group: pd.DataFrame) -> Spread:
    """Return mean, deviation and interval of `values` [splits], those that are defined.

    `group` has their runs' protocol and numbers of cycles.
    """
    values = values.astype(float).dropna()
    train = (group["train_cycles"] + group["val_cycles"]).mean()
    interval = nan
    if group["protocol"].iloc[0] not in FIXED_TEST_PROTOCOLS:  # it holds for random test sets only
        interval = corrected_interval(values.tolist(), train, group["test_cycles"].mean())
    return Spread(values.mean(), values.std(ddof=1), interval, len(values))


def _difference_rows(
    differences: pd.DataFrame, keys: Sequence[str], scores: Sequence[str], name: str
) -> list[dict[str, Any]]:
    rows = []
    for values, group in sorted_groups(differences, keys):
        combination = ", ".join(f"{key}={values[key]}" for key in keys)
        difference = f"{combination}: {name}" if combination else name
        for score in scores:
            spread = spread_over_splits(group[score], group)
            if spread.splits:
                labels = {"difference": difference, "protocol": values["protocol"], "score": score}
                rows.append(labels | spread._asdict())
    return rows


def _check(runs: pd.DataFrame, keys: Sequence[str]) -> None:
    place = [*keys, "protocol"]
    absent = [key for key in place if key not in runs]
    if absent:
        raise DataError(
            f"Expected the runs to have a column for each key, but {', '.join(absent)} is absent."
        )
    twice = runs[runs.duplicated(place)][place]
    if len(twice):
        raise DataError(
            f"Expected one run for each combination of {' '.join(place)}, but some come twice: "
            "name every swept key, or remove one.",
            tuple(" ".join(map(str, row)) for row in twice.to_numpy()),
        )
