"""A study's runs as the paper's tables: mean, spread and interval over splits, paired differences,
Tables II to IV.

`runs` has one row for each finished run: a column for each swept key, `protocol`, the scores on the
test set (SCORES, the whole ensemble), `single_score_4` and `single_score_2` (the member that is
best on validation), `members`, `parameters` (of one network), `train_cycles`, `val_cycles` and
`test_cycles`. A score that is undefined is NaN or its column absent. `table` is what
`aggregate_over_splits` makes of it.
"""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from math import nan, sqrt
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from lungsound.errors import DataError
from lungsound.results.report import markdown_table

SPLIT_KEYS = ("split.seed", "split.fold")  # keys that tell splits of one protocol apart
FIXED_TEST_PROTOCOLS = (
    "official",
    "official_clean",
    "file",
)  # protocols whose splits have one test set: no spread over such
TASK_SIZES = "247"  # of the tasks, each a block of columns or rows where the runs have it
SCORES = (
    "specificity",
    *(f"{name}_{classes}" for name in ("sensitivity", "score") for classes in "742"),
)
CONFIDENCE_LEVEL = 0.95
SHORT_NAMES = {"specificity": "Sp", "sensitivity": "Se", "score": "score", "mean": "mean"}
SCORE_COLUMN_PATTERN = re.compile(
    rf"(?:(?P<whose>\w+)_)?(?P<score>{'|'.join(SHORT_NAMES)})(?:_(?P<classes>[247]))?(?P<interval>_interval)?"
)
SEGMENT = re.compile(r"(?:(?P<chunks>\d+)x)?(?P<seconds>\d+(?:\.\d+)?)s")
# What the paper's tables were measured with: their figures stand beside no row that says otherwise.
PAPER_TABLE2 = {"annealing": "constant", "protocol": "random"}
PAPER_TABLE3 = {
    "annealing": "cosine",
    "segment": "2x4.5s",
    "padding": "sample",
    "protocol": "random",
}


def corrected_interval(
    values: Sequence[float],
    train_cycles: float,
    test_cycles: float,
    level: float = CONFIDENCE_LEVEL,
) -> float:
    """Half the width of the interval of the mean of k scores from k splits that overlap.

    t_{k-1} · s · √(1/k + test/train), s with k - 1 degrees of freedom (Nadeau & Bengio 2003).
    `train_cycles`: what learning sees, validation too; `test_cycles`: what it is scored on. nan for
    fewer than two values. Raises ValueError where there is no training cycle, or the level is not
    between 0 and 1.
    """
    if train_cycles <= 0 or not 0 < level < 1:
        raise ValueError(
            f"Expected train_cycles > 0 and 0 < level < 1, but got {train_cycles} and {level}."
        )
    if len(values) < 2:
        return nan
    quantile = float(student.ppf((1 + level) / 2, len(values) - 1))
    return (
        quantile
        * float(np.std(values, ddof=1))
        * sqrt(1 / len(values) + test_cycles / train_cycles)
    )


def aggregate_over_splits(runs: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """One row for each combination of the swept `keys` (without the split's) and protocol.

    Columns: the keys, `protocol`, `splits` (the number of runs), and for each of SCORES that `runs`
    has its mean under its own name, `_std` (k - 1 degrees of freedom, NaN for one split) and
    `_interval` (`corrected_interval`). Where a score is NaN in some splits, these are over the
    others. Numbers in ascending order, all else as it appears.

    Raises DataError for a key that is no column, and for two runs of one combination on one split.
    """
    _check(runs, keys)
    scores = [score for score in SCORES if score in runs]
    rows = []
    for named, group in _sorted_groups(runs, _exclude(keys, *SPLIT_KEYS)):
        row = {**named, "splits": len(group)}
        for score in scores:
            spread = _mean_std_interval(group[score], group)
            row |= {
                score: spread["mean"],
                f"{score}_std": spread["std"],
                f"{score}_interval": spread["interval"],
            }
        rows.append(row)
    figures = [f"{score}{part}" for score in scores for part in ("", "_std", "_interval")]
    return pd.DataFrame(
        rows, columns=[*_exclude(keys, *SPLIT_KEYS), "protocol", "splits", *figures]
    )


def paired_differences(runs: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Differences between two scores of one split, over the splits: mean, std, interval
    (`corrected_interval`).

    `difference` says which: for every combination the ensemble minus the best single member of the
    same run, and, where `padding` is swept, sample minus zero of the same other keys and split.
    Columns: `difference`, `protocol`, `score` (such as score_4), `mean`, `std`, `interval`,
    `splits` (those with both scores). A difference that no split has is left out. Raises DataError
    as `aggregate_over_splits` does.
    """
    _check(runs, keys)
    scores = [f"score_{classes}" for classes in reversed(TASK_SIZES) if f"score_{classes}" in runs]
    rows = _difference_rows(
        runs, _exclude(keys, *SPLIT_KEYS), scores, "single_{}", "ensemble minus best single member"
    )
    if "padding" in keys:
        same = [*_exclude(keys, "padding"), "protocol"]
        sample, zero = (runs[runs["padding"] == padding] for padding in ("sample", "zero"))
        theirs = zero[[*same, *scores]].rename(columns={score: f"zero_{score}" for score in scores})
        pairs = sample.merge(theirs, on=same)
        rows += _difference_rows(
            pairs,
            _exclude(keys, *SPLIT_KEYS, "padding"),
            scores,
            "zero_{}",
            "padding sample minus zero",
        )
    return pd.DataFrame(
        rows, columns=["difference", "protocol", "score", "mean", "std", "interval", "splits"]
    )


def paper_table(number: int) -> pd.DataFrame:
    """The paper's Table II, III or IV (2, 3 or 4) as checked by hand. Raises ValueError for any
    other number.
    """
    if number not in (2, 3, 4):
        raise ValueError(
            f"Expected the number of a table of the paper, 2, 3 or 4, but got {number}."
        )
    with (files("lungsound.studies") / "paper_tables" / f"table{number}.csv").open() as file:
        return pd.read_csv(file)


def matches_settings(runs: pd.DataFrame, keys: Sequence[str], setting: Mapping[str, str]) -> bool:
    """Whether `runs` have what a table of the paper was measured with, as far as it is not among
    the swept `keys`.
    """
    return all((runs[name] == value).all() for name, value in setting.items() if name not in keys)


def has_paper_columns(table: pd.DataFrame) -> bool:
    """Whether a row of `table2` or `table3` has a figure of the paper beside it."""
    return bool(table.filter(regex="^paper_").notna().any(axis=None))


def table2(table: pd.DataFrame, paper: bool) -> pd.DataFrame:
    """The paper's Table II from an aggregate over `segment`: a row for each segment option, the
    shortest first.

    `seconds` is the whole segment's length, so that 2x4.5s stands below 9s; NaN, and last, for a
    name that tells none. Columns: other keys, `segment`, `seconds`, `protocol`, and `splits`,
    `score_2` and `score_4` with `_std` and `_interval`, each for every `padding` (`zero_score_2`),
    or without prefix where padding is not swept. With `paper` its four scores
    (`paper_zero_score_2`): NaN where it has none, or where a row's setting is not the paper's.
    """
    lengths = pd.DataFrame(
        [_segment_length(name) for name in table["segment"]], table.index, ["seconds", "chunks"]
    )
    others = _exclude(_key_columns(table), "segment", "padding")
    figures = [
        "splits",
        *(name for classes in TASK_SIZES for name in _score_columns(table, f"score_{classes}")),
    ]
    swept = (
        sorted(table["padding"].unique(), reverse=True) if "padding" in table else []
    )  # zero, then sample
    rows = []
    for named, group in _sorted_groups(
        table.join(lengths), [*others, "seconds", "chunks", "segment"]
    ):
        for entry in group.to_dict("records"):
            named |= {
                f"{entry['padding']}_{name}" if swept else name: entry[name] for name in figures
            }
        rows.append(named)
    ours = [f"{padding}_{name}" for padding in swept for name in figures] or figures
    wide = pd.DataFrame(rows, columns=[*others, "segment", "seconds", "protocol", *ours])
    wide = wide.astype({name: "Int64" for name in ours if name.endswith("splits")})
    paper_scores = paper_table(2).set_index("arrangement").rename({"sample_split": "sample"})
    for padding in ("zero", "sample") if paper else ():
        wide = _join_paper_scores(
            wide, paper_scores.loc[padding].set_index("segment"), PAPER_TABLE2, f"paper_{padding}_"
        )
    return wide


def table3(table: pd.DataFrame, paper: bool) -> pd.DataFrame:
    """The paper's Table III from an aggregate over `annealing.cycles`: specificity, sensitivity,
    score for each task.

    Columns: the keys, `protocol`, `splits`, `specificity_2`, `sensitivity_2`, `score_2`, and the
    same for four classes where the runs have them, with `_std`, the scores with `_interval` too.
    With `paper`, its six columns (`paper_...`): NaN where it has none (M above 10), or where a
    row's setting is not the paper's.
    """
    wide = table[[*_key_columns(table), "protocol", "splits"]].copy()
    for classes in TASK_SIZES:
        if f"score_{classes}" in table:
            defined = table[f"score_{classes}"].notna()
            for part in ("", "_std"):
                wide[f"specificity_{classes}{part}"] = table[f"specificity{part}"].where(defined)
                wide[f"sensitivity_{classes}{part}"] = table[f"sensitivity_{classes}{part}"]
            for name in _score_columns(table, f"score_{classes}"):
                wide[name] = table[name]
    quoted = paper_table(3).set_index("cycles").rename_axis("annealing.cycles")
    return _join_paper_scores(wide, quoted, PAPER_TABLE3, "paper_") if paper else wide


def table4(table: pd.DataFrame, runs: pd.DataFrame, paper: bool) -> pd.DataFrame:
    """The paper's Table IV from an aggregate over `annealing` and its runs: systems, their scores
    and parameters.

    annealing=constant is the single CNN, any other a snapshot ensemble; `parameters` are those of
    all its members. Columns: `task`, `system`, other keys (`task` as `trained_task`), `protocol`,
    `splits`, `specificity`, `sensitivity`, `score` with `_std`, `score_interval`, `parameters`,
    `note`. With `paper`, its rows below (`parameters` as it prints them), whose `note` says which
    it only quotes.
    """
    place = [*_key_columns(table), "protocol"]
    sizes = (
        runs.groupby(place, sort=False, dropna=False)[["members", "parameters"]].max().reset_index()
    )
    ours = table.merge(sizes, on=place, how="left").assign(note="this study")
    ours["parameters"] = (ours["members"] * ours["parameters"]).astype(object)
    ensembles = [f"snapshot ensemble of {members}" for members in ours["members"]]
    ours["system"] = np.where(ours["annealing"] == "constant", "single CNN", ensembles)
    ours = ours.rename(columns={"task": "trained_task"})
    others = _exclude(
        ["trained_task" if key == "task" else key for key in place], "annealing", "annealing.cycles"
    )
    figures = [
        f"{name}{part}" for name in ("specificity", "sensitivity", "score") for part in ("", "_std")
    ]
    columns = [
        "task",
        "system",
        *others,
        "splits",
        *figures,
        "score_interval",
        "parameters",
        "note",
    ]
    blocks = [paper_table(4)] if paper else []
    for classes in TASK_SIZES:  # each before what is there: four classes come first
        if f"score_{classes}" in table:
            names = {
                f"{name}_{classes}{part}": f"{name}{part}"
                for name in SHORT_NAMES
                for part in ("", "_std", "_interval")
            }
            block = (
                ours[ours[f"score_{classes}"].notna()]
                .rename(columns=names)
                .assign(task=f"{classes}-class")
            )
            blocks.insert(0, block[columns])
    return pd.concat(blocks, ignore_index=True)[columns].astype({"splits": "Int64"})


def markdown(table: pd.DataFrame, heading: str, notes: Sequence[str]) -> str:
    """A table of this module under its heading, the notes below it, each a paragraph.

    Scores with three digits, mean ± std in one column, the interval's half width in its own; what
    is undefined is `-`. An interval that no row has gets no column.
    """
    table = table.rename(columns={"std": "mean_std", "interval": "mean_interval"})
    stds = {f"{name}_std" for name in table}
    empty = {name for name in table if str(name).endswith("_interval") and table[name].isna().all()}
    shown = [str(name) for name in table if name not in stds | empty]
    rows = [[_cell(row, name) for name in shown] for row in table.to_dict("records")]
    drawn = (
        markdown_table([_label(name) for name in shown], rows) if rows else "The table has no rows."
    )
    return "\n\n".join([f"## {heading}", drawn, *notes]) + "\n"


def _check(runs: pd.DataFrame, keys: Sequence[str]) -> None:
    place = [*keys, "protocol"]
    absent = [key for key in place if key not in runs]
    if absent:
        raise DataError(
            f"Expected the runs to have a column for each key, but {', '.join(absent)} is absent."
        )
    twice = runs[runs.duplicated(place)][place].astype(str).agg(" ".join, axis="columns")
    if len(twice):
        what = f"one run for each combination of {' '.join(place)}"
        raise DataError(
            f"Expected {what}, but some come twice: name every swept key, or remove one.",
            tuple(twice),
        )


def _exclude(keys: Sequence[str], *others: str) -> list[str]:
    return [key for key in keys if key not in others]


def _key_columns(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table.columns[: table.columns.get_loc("protocol")]]


def _score_columns(table: pd.DataFrame, score: str) -> list[str]:
    return [f"{score}{part}" for part in ("", "_std", "_interval") if score in table]


def _sorted_groups(
    frame: pd.DataFrame, keys: Sequence[str]
) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """The rows of each combination of keys and protocol: numbers in ascending order, all else as it
    appears.
    """
    place = [*keys, "protocol"]
    groups = list(frame.groupby(place, sort=False, dropna=False))
    named = pd.DataFrame([values for values, _ in groups], columns=place)
    ranks = {
        key: named[key]
        if named[key].dtype.kind in "iuf"
        else pd.factorize(named[key], use_na_sentinel=False)[0]
        for key in place
    }
    order = pd.DataFrame(ranks).sort_values(place).index
    records = named.to_dict("records")
    return [
        ({str(key): value for key, value in records[number].items()}, groups[number][1])
        for number in order
    ]


def _mean_std_interval(values: pd.Series, group: pd.DataFrame) -> dict[str, Any]:
    """Over the splits whose value is defined; the sizes of the group's splits may differ a little:
    their means.
    """
    values = values.astype(float).dropna()
    train, test = (group["train_cycles"] + group["val_cycles"]).mean(), group["test_cycles"].mean()
    fixed = (
        group["protocol"].iloc[0] in FIXED_TEST_PROTOCOLS
    )  # the interval's correction is for test sets that are drawn
    interval = nan if fixed else corrected_interval(values.tolist(), train, test)
    return {
        "mean": values.mean(),
        "std": values.std(ddof=1),
        "interval": interval,
        "splits": len(values),
    }


def _difference_rows(
    runs: pd.DataFrame, keys: Sequence[str], scores: Sequence[str], against: str, what: str
) -> list[dict[str, Any]]:
    rows = []
    for named, group in _sorted_groups(runs, keys):
        where = ", ".join(f"{key}={named[key]}" for key in keys)
        label = {"difference": f"{where}: {what}" if where else what, "protocol": named["protocol"]}
        for score in scores:
            spread = _mean_std_interval(
                group[score].astype(float) - group[against.format(score)].astype(float), group
            )
            rows += [{**label, "score": score, **spread}] if spread["splits"] else []
    return rows


def _segment_length(segment: str) -> tuple[float, int]:
    """Seconds of the whole segment, and its chunks."""
    found = SEGMENT.fullmatch(str(segment))
    if not found:
        return nan, 1
    chunks = int(found["chunks"] or 1)
    return chunks * float(found["seconds"]), chunks


def _join_paper_scores(
    wide: pd.DataFrame, paper: pd.DataFrame, setting: Mapping[str, str], prefix: str
) -> pd.DataFrame:
    """`wide` and the paper's figures, whose index is one of its keys, in the rows that have the
    paper's setting.
    """
    same = pd.Series(True, index=wide.index)
    for name in set(setting) & set(wide.columns):
        same &= wide[name] == setting[name]
    columns = {
        f"{prefix}{name}": wide[paper.index.name].map(paper[name]).where(same) for name in paper
    }
    return wide.assign(**columns)


def _label(column: str) -> str:
    found = SCORE_COLUMN_PATTERN.fullmatch(column)
    if not found:
        return column
    classes = f"{found['classes']}-class" if found["classes"] else ""
    words = [(found["whose"] or "").replace("_", " "), classes, SHORT_NAMES[found["score"]]]
    return " ".join(
        word for word in [*words, f"{CONFIDENCE_LEVEL:.0%} ±" if found["interval"] else ""] if word
    )


def _cell(row: Mapping[Any, Any], column: str) -> str:
    value = row[column]
    if isinstance(value, str):
        return _label(value) if column == "score" else value
    if pd.isna(value):
        return "-"
    if not SCORE_COLUMN_PATTERN.fullmatch(column):
        grouped = f"{value:,}" if column == "parameters" else str(value)
        return f"{value:.10g}" if isinstance(value, float) else grouped
    std = row.get(f"{column}_std", nan)
    return f"{value:{'+' if column == 'mean' else ''}.3f}" + (
        "" if pd.isna(std) else f" ± {std:.3f}"
    )
