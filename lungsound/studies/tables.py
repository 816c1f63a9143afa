"""A study's runs as the paper's tables.

`table` is the result of `aggregate_over_splits`; `runs` has, besides the columns that it needs,
`members` and `parameters` (of one network).
"""

import io
import re
from collections.abc import Mapping, Sequence, Set
from importlib.resources import files
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from lungsound.results.report import markdown_table
from lungsound.scoring.scores import score_names
from lungsound.studies.statistics import (
    CONFIDENCE_LEVEL,
    PARTS,
    exclude,
    sorted_groups,
    task_sizes,
)

SHORT_NAMES = {"specificity": "Sp", "sensitivity": "Se", "score": "score", "mean": "mean"}
SCORE_COLUMN_PATTERN = re.compile(
    rf"(?:(?P<whose>\w+)_)?(?P<score>{'|'.join(SHORT_NAMES)})"
    r"(?:_(?P<classes>\d+))?(?P<interval>_interval)?"
)
CONSOLE_WIDTH = 80  # columns
LATEX_ESCAPES = str.maketrans({name: f"\\{name}" for name in "&%$#_{}"})
SEGMENT = r"^(?:(?P<chunks>\d{1,3})x)?(?P<seconds>\d+(?:\.\d+)?)s$"
# The settings of the paper's tables: its scores are shown only in rows that have them.
PAPER_TABLE2 = {"annealing": "constant", "protocol": "random"}
PAPER_TABLE3 = {**PAPER_TABLE2, "annealing": "cosine", "segment": "2x4.5s", "padding": "sample"}


def paper_table(number: int) -> pd.DataFrame:
    """Return the scores printed in the paper's Table II, III or IV. Raises ValueError otherwise."""
    if number not in (2, 3, 4):
        raise ValueError(
            f"Expected the number of a table of the paper, 2, 3 or 4, but got {number}."
        )
    with (files("lungsound.studies") / "paper_tables" / f"table{number}.csv").open() as file:
        return pd.read_csv(file)


def matches_settings(runs: pd.DataFrame, keys: Sequence[str], setting: Mapping[str, str]) -> bool:
    """Return whether all `runs` have the paper's `setting`, except for the swept `keys`."""
    return all((runs[name] == value).all() for name, value in setting.items() if name not in keys)


def has_paper_columns(table: pd.DataFrame) -> bool:
    """Return whether a row of `table2` or `table3` has a score of the paper."""
    return bool(table.filter(regex="^paper_").notna().any(axis=None))


def table2(table: pd.DataFrame, paper: bool) -> pd.DataFrame:
    """Return the paper's Table II from an aggregate over `segment`; shortest segments first.

    Columns: other keys, `segment`, `seconds` (of the whole segment: 2x4.5s is below 9s; NaN, and
    last, for a name without a length), `protocol`, and `splits`, and each `score_N` with
    `_std` and `_interval`, each per `padding` (`zero_score_2`) if that is swept. With `paper` its
    four scores (`paper_zero_score_2`): NaN if it has none, or the row's setting is not its own.
    """
    others = exclude(_key_columns(table), "segment", "padding")
    values = ["splits", *_score_columns(table)]
    paddings = []
    if "padding" in table:
        paddings = sorted(table["padding"].unique(), reverse=True)  # zero, tile, sample
    rows = []
    keys = [*others, "seconds", "chunks", "segment"]
    for row, group in sorted_groups(table.join(segment_lengths(table["segment"])), keys):
        for entry in group.to_dict("records"):
            prefix = f"{entry['padding']}_" if paddings else ""
            row |= {f"{prefix}{name}": entry[name] for name in values}
        rows.append(row)
    ours = [f"{padding}_{name}" for padding in paddings for name in values] or values
    wide = pd.DataFrame(rows, columns=[*others, "segment", "seconds", "protocol", *ours])
    wide = wide.astype({name: "Int64" for name in ours if name.endswith("splits")})
    paper_scores = paper_table(2).set_index("arrangement").rename({"sample_split": "sample"})
    for padding in ("zero", "sample") if paper else ():
        scores = paper_scores.loc[padding].set_index("segment")
        wide = _join_paper_scores(wide, scores, PAPER_TABLE2, f"paper_{padding}_")
    return wide


def table3(table: pd.DataFrame, paper: bool) -> pd.DataFrame:
    """Return the paper's Table III from an aggregate over `annealing.cycles`.

    Columns: the keys, `protocol`, `splits`, `specificity_2`, `sensitivity_2`, `score_2`, and the
    same for each other task that the runs have, with `_std`, the scores with `_interval` too. With
    `paper` its six columns (`paper_...`): NaN if it has none (M above 10), or the row's setting is
    not its own.
    """
    wide = table[[*_key_columns(table), "protocol", "splits"]].copy()
    for classes in reversed(task_sizes(table)):
        defined = table[f"score_{classes}"].notna()
        for part in ("", "_std"):
            wide[f"specificity_{classes}{part}"] = table[f"specificity{part}"].where(defined)
            wide[f"sensitivity_{classes}{part}"] = table[f"sensitivity_{classes}{part}"]
        names = [f"score_{classes}{part}" for part in PARTS]
        wide[names] = table[names]
    if not paper:
        return wide
    paper_scores = paper_table(3).set_index("cycles").rename_axis("annealing.cycles")
    return _join_paper_scores(wide, paper_scores, PAPER_TABLE3, "paper_")


def segment_lengths(segments: pd.Series) -> pd.DataFrame:
    """Return `seconds` of the whole segments ("2x4.5s" is 9 s; NaN if unknown), and `chunks`."""
    parts = segments.astype(str).str.extract(SEGMENT)
    chunks = parts["chunks"].fillna("1").astype(int)
    return pd.DataFrame({"seconds": chunks * parts["seconds"].astype(float), "chunks": chunks})


def table4(table: pd.DataFrame, runs: pd.DataFrame, paper: bool) -> pd.DataFrame:
    """Return the paper's Table IV from an aggregate over `annealing` and its runs.

    annealing=constant is the single CNN, any other a snapshot ensemble; `parameters` are those of
    all its members. Columns: `task`, `system`, other keys (`task` as `trained_task`), `protocol`,
    `splits`, `specificity`, `sensitivity`, `score` with `_std`, `score_interval`, `parameters`,
    `note`. With `paper` its rows below (`parameters` as printed), whose `note` marks quoted ones.
    """
    keys = [*_key_columns(table), "protocol"]
    sizes = runs.groupby(keys, sort=False, dropna=False)[["members", "parameters"]].max()
    ours = table.merge(sizes.reset_index(), on=keys, how="left").assign(note="this study")
    ours["parameters"] = (ours["members"] * ours["parameters"]).astype(object)
    ensembles = [f"snapshot ensemble of {members}" for members in ours["members"]]
    ours["system"] = np.where(ours["annealing"] == "constant", "single CNN", ensembles)
    ours = ours.rename(columns={"task": "trained_task"})
    others = ["trained_task" if key == "task" else key for key in keys]
    columns = ["task", "system", *exclude(others, "annealing", "annealing.cycles"), "splits"]
    for name in ("specificity", "sensitivity", "score"):
        columns += [name, f"{name}_std"]
    columns += ["score_interval", "parameters", "note"]
    blocks = []
    for classes in task_sizes(table):
        names: dict[str, str] = {}
        for name in SHORT_NAMES:
            names |= {f"{name}_{classes}{part}": f"{name}{part}" for part in PARTS}
        block = ours[ours[f"score_{classes}"].notna()].rename(columns=names)
        blocks.append(block.assign(task=f"{classes}-class")[columns])
    if paper:
        blocks.append(paper_table(4))
    return pd.concat(blocks, ignore_index=True)[columns].astype({"splits": "Int64"})


def markdown(table: pd.DataFrame, heading: str, notes: Sequence[str]) -> str:
    """Format a table of this module with its heading, and the notes below it, each a paragraph.

    Scores with three digits, mean ± std in one column, half the interval's width in its own; an
    undefined value is `-`. A column of undefined intervals is left out.
    """
    head, rows = _full_cells(table)
    text = markdown_table(head, rows) if rows else "The table has no rows."
    return "\n\n".join([f"## {heading}", text, *notes]) + "\n"


def latex(table: pd.DataFrame, heading: str, notes: Sequence[str]) -> str:
    r"""Format a table as `markdown` does, in LaTeX with booktabs; heading and notes: its caption.

    >>> print(latex(pd.DataFrame({"padding": ["zero"], "score_4": [0.5]}), "all: 1 %", []))
    \begin{table}
    \caption{all: 1 \%}
    \begin{tabular}{ll}
    \toprule
    padding & 4-class score \\
    \midrule
    zero & 0.500 \\
    \bottomrule
    \end{tabular}
    \end{table}
    <BLANKLINE>
    """
    head, rows = _full_cells(table)
    caption = " ".join([heading, *notes]).translate(LATEX_ESCAPES)
    cells = pd.DataFrame(rows, columns=head)
    return cells.to_latex(index=False, escape=True, caption=caption)


def console(table: pd.DataFrame, heading: str, notes: Sequence[str]) -> str:
    """Format a table for a terminal of 80 columns: the keys, and the scores.

    If a row would not fit on one line, the head takes a line per word, and then scores have no
    spread.
    """
    hidden = {"protocol", "seconds", "note", *table.filter(regex="^(above|below)_0_")}
    hidden |= {str(name) for name in table.filter(regex="_splits$")}
    scores = set()
    for name in map(str, table):
        found = SCORE_COLUMN_PATTERN.fullmatch(name)
        if found and found["score"] == "score" and not found["interval"]:
            scores.add(name)
        elif found:
            hidden.add(name)
    page = Console(file=io.StringIO(), width=CONSOLE_WIDTH, highlight=False, markup=False)
    any_width = page.options.update(max_width=1000)
    scores_only = table.drop(columns=[name for name in table if str(name).endswith("_std")])
    is_mean = any(name.startswith("minus_") for name in scores)
    for rows, has_short_head in ((table, False), (table, True), (scores_only, True)):
        shown = _console_table(scores_only if is_mean else rows, hidden, has_short_head)
        if page.measure(shown, options=any_width).maximum <= CONSOLE_WIDTH:
            break
    with page.capture() as text:
        page.print(heading, shown, *notes, sep="\n")
    return "\n".join(line.rstrip() for line in text.get().splitlines())


def _console_table(table: pd.DataFrame, hidden: Set[str], has_short_head: bool) -> Table:
    head, rows = _head_and_cells(table, hidden)
    shown = Table(box=box.SIMPLE_HEAD, padding=0)
    if has_short_head:
        head = [name.replace("minus ensemble", "minus first") for name in head]
        head = [name.replace(".", ".\n").replace(" ", "\n") for name in head]
    for name in head:
        # A setting is never cut, and the name of a system stays whole.
        shown.add_column(name, overflow="fold", no_wrap=name == "system")
    for row in rows:
        shown.add_row(*row)
    return shown


def _full_cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Return head and cells of all columns but those of undefined intervals."""
    table = table.rename(columns={"std": "mean_std", "interval": "mean_interval"})
    hidden = {str(name) for name in table.filter(regex="_interval$") if table[name].isna().all()}
    return _head_and_cells(table, hidden)


def _head_and_cells(table: pd.DataFrame, hidden: Set[str]) -> tuple[list[str], list[list[str]]]:
    """Return head and cells of the columns that are not `hidden`; a score has its spread in it."""
    spreads = {f"{name}_std" for name in table}
    columns = [str(name) for name in table if name not in hidden | spreads]
    rows = [[_cell(row, name) for name in columns] for row in table.to_dict("records")]
    return [_label(name) for name in columns], rows


def _key_columns(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table.columns[: table.columns.get_loc("protocol")]]


def _score_columns(table: pd.DataFrame) -> list[str]:
    return [f"{score}{part}" for score in reversed(score_names(table)) for part in PARTS]


def _join_paper_scores(
    wide: pd.DataFrame, paper: pd.DataFrame, setting: Mapping[str, str], prefix: str
) -> pd.DataFrame:
    """Add the paper's scores, indexed by one of the keys, to the rows with the paper's setting."""
    same = pd.Series(True, index=wide.index)
    for name in set(setting) & set(wide.columns):
        same &= wide[name] == setting[name]
    keys = wide[paper.index.name]
    return wide.assign(**{f"{prefix}{name}": keys.map(paper[name]).where(same) for name in paper})


def _label(column: str) -> str:
    found = SCORE_COLUMN_PATTERN.fullmatch(column)
    if not found:
        return column
    words = [
        (found["whose"] or "").replace("_", " "),
        f"{found['classes']}-class" if found["classes"] else "",
        SHORT_NAMES[found["score"]],
        f"{CONFIDENCE_LEVEL:.0%} ±" if found["interval"] else "",
    ]
    return " ".join(filter(None, words))


def _cell(row: Mapping[Any, Any], column: str) -> str:
    value = row[column]
    if isinstance(value, str):
        return _label(value) if column == "score" else value
    if pd.isna(value):
        return "-"
    if SCORE_COLUMN_PATTERN.fullmatch(column):
        signed = column == "mean" or column.startswith("minus_")
        text = f"{value:+.3f}" if signed else f"{value:.3f}"
        std = row.get(f"{column}_std", nan)
        return text if pd.isna(std) else f"{text} ± {std:.3f}"
    if isinstance(value, float):
        return f"{value:.10g}"
    return f"{value:,}" if column == "parameters" else str(value)
