"""Format a run's scores: a table for the console, and report.md."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from lungsound.scoring.scores import score_names

SET_TITLES = {"val": "validation", "test": "test"}
LEGEND = "Sp: specificity. Se: sensitivity. score: the ICBHI score, (Sp + Se) / 2."
Intervals = dict[str, Any] | None
NAME_WIDTH, NUMBER_WIDTH = 18, 6  # of the console table, 79 columns for two scores


def score_columns(summary: dict[str, Any]) -> dict[str, str]:
    """Return score names and headings, for the task's own classes and the coarsest label set."""
    scores = score_names(summary["ensemble"][-1]["test"])
    sizes = [name.rpartition("_")[2] for name in dict.fromkeys([scores[0], scores[-1]])]
    sensitivities = {f"sensitivity_{size}": f"Se {size}" for size in sizes}
    return {"specificity": "Sp", **sensitivities, **{f"score_{n}": f"score {n}" for n in sizes}}


def legend(columns: Iterable[str]) -> str:
    """Explain the headings of the columns of `score_columns`."""
    sizes = [name.rpartition("_")[2] for name in columns if name.startswith("score_")]
    return f"{LEGEND}\n{', '.join(sizes)}: the number of classes."


def scores_table(summary: dict[str, Any], intervals: Intervals, heading: str, leak: str) -> str:
    """Format the scores of `summarize` for the console, below the line `leak` on leakage.

    One row per member, per ensemble of the first m members, m = 1 ... M, and for the single member
    that is best on validation; validation on the left, test on the right. Below them the ends of
    the whole ensemble's `intervals` (`score_intervals`, or None). At most 80 columns wide, except
    for `heading` and `leak`.
    """
    columns = score_columns(summary)
    block = NUMBER_WIDTH * len(columns)
    rule = "-" * (NAME_WIDTH + len(SET_TITLES) * block + 1)
    titles = " ".join(f"{name:^{block}}" for name in SET_TITLES.values())
    measures, _, classes = zip(*(name.partition(" ") for name in columns.values()), strict=True)
    lines = [heading, leak, "", " " * NAME_WIDTH + titles.rstrip()]
    lines += [_console_row("", [cells] * len(SET_TITLES)) for cells in (measures, classes)]
    for group in _rows(summary):
        lines.append(rule)
        for name, entry in group:
            lines.append(_console_row(name, [_cells(entry[key], columns) for key in SET_TITLES]))
    if ends := _interval_ends(intervals, columns):
        lines.append(rule)
        for title, values in zip(("95 % from", "     to"), zip(*ends, strict=True), strict=True):
            lines.append(_console_row(title, [[""] * len(columns), values]))
    sentence = textwrap.wrap(class_scores(summary), width=79)
    notes = [line for text in interval_notes(intervals) for line in textwrap.wrap(text, width=79)]
    return "\n".join([*lines, rule, legend(columns), *notes, *sentence, *_notes(summary)])


def report_markdown(
    summary: dict[str, Any],
    intervals: Intervals,
    facts: Mapping[str, str],
    heading: str,
    leak: str,
    leaks: Sequence[Sequence[str]],
    more: Sequence[str],
    figures: Sequence[str],
) -> str:
    """Format the run's `report.md`.

    It has what leaks (the line `leak` and the rows of counts `leaks`), the result, the run's
    metadata `facts`, all scores, the sections `more`, and the figures (paths from the report).
    """
    parts = [
        f"# {heading}",
        f"**{leak}**",
        _result(summary),
        class_scores(summary),
        *_notes(summary),
        markdown_table(["", ""], facts.items()),
        "## Scores",
        scores_markdown(summary, intervals),
        *more,
        "## What occurs in more than one set",
        markdown_table(["", "patients", "recordings", "sounds under two names"], leaks),
        *(["## Figures"] if figures else []),
        *(f"![{figure}]({figure})" for figure in figures),
    ]
    return "\n\n".join(parts) + "\n"


def scores_markdown(summary: dict[str, Any], intervals: Intervals) -> str:
    """Format all scores as a Markdown table, with its legend and notes on the intervals."""
    columns = score_columns(summary)
    names = [f"{SET_TITLES[key]} {name}" for key in SET_TITLES for name in columns.values()]
    scores = []
    for group in _rows(summary):
        for name, entry in group:
            cells = [_cells(entry[key], columns) for key in SET_TITLES]
            scores.append([name, *chain(*cells)])
    if ends := _interval_ends(intervals, columns):
        texts = [f"{low} to {high}" for low, high in ends]
        scores.append(["95 % interval", *[""] * len(columns), *texts])
    table = markdown_table(["", *names], scores)
    return "\n\n".join([table, legend(columns), *interval_notes(intervals)])


def _interval_ends(intervals: Intervals, columns: Iterable[str]) -> list[tuple[str, str]]:
    """Return the ends of the ensemble's interval of each column; none if there are no intervals."""
    if intervals is None or not intervals["ensemble"]:
        return []
    ends = [intervals["ensemble"].get(name, (None, None)) for name in columns]
    return [(format_score(low), format_score(high)) for low, high in ends]


def interval_notes(intervals: Intervals) -> list[str]:
    """Return sentences on the intervals by patient, and on ensemble minus single member."""
    if intervals is None:
        return []
    if intervals["problem"]:
        return [f"No intervals by patient: {intervals['problem']}."]
    notes = [
        f"95 %: of the ensemble's test scores, by bootstrap over {intervals['patients']} patients."
    ]
    for name, row in intervals["difference"].items():
        size = name.removeprefix("score_")
        notes.append(
            f"Ensemble minus single member, {size}-class score: {row['value']:+.3f} "
            f"({row['low']:+.3f} to {row['high']:+.3f}, p = {row['permutation']:.3f})."
        )
    return notes


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table; a | in a cell is escaped."""
    lines = []
    for line in (head, ["---"] * len(head), *rows):
        cells = [cell.replace("|", "\\|") for cell in line]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _console_row(name: str, blocks: Iterable[Iterable[str]]) -> str:
    aligned = ["".join(f"{cell:>{NUMBER_WIDTH}}" for cell in block) for block in blocks]
    return f"{name:<{NAME_WIDTH}}" + " ".join(aligned)


def _rows(summary: dict[str, Any]) -> list[list[tuple[str, dict[str, Any]]]]:
    single = summary["single"]
    return [
        [(f"member {entry['member']}", entry) for entry in summary["members"]],
        [(f"ensemble of {entry['members']}", entry) for entry in summary["ensemble"]],
        [(f"single: member {single['member']}", single)],
    ]


def _cells(scores: Mapping[str, float | None], columns: Iterable[str]) -> list[str]:
    return [format_score(scores[name]) for name in columns]


def format_score(score: float | None) -> str:
    """Format a score with three digits; - for an undefined one."""
    return "-" if score is None else f"{score:.3f}"


def _result(summary: dict[str, Any]) -> str:
    ensemble, single = summary["ensemble"][-1], summary["single"]
    names = [name for name in score_columns(summary) if name.startswith("score")]
    columns = zip(
        names, _cells(ensemble["test"], names), _cells(single["test"], names), strict=True
    )
    parts = []
    for name, score, single_score in columns:
        member = f"single member {single['member']}, chosen on validation: {single_score}"
        parts.append(f"{name.removeprefix('score_')}-class score {score} ({member})")
    return f"Test, ensemble of {ensemble['members']}: {'; '.join(parts)}."


def class_scores(summary: dict[str, Any]) -> str:
    """Return a sentence on the ensemble's macro F1 and recalls in test; "" of release 0.1."""
    if "recall" not in summary:
        return ""
    recalls = [f"{label} {format_score(value)}" for label, value in summary["recall"].items()]
    f1 = format_score(summary["macro_f1"])
    return f"Test, the whole ensemble: macro F1 {f1}; recall: {', '.join(recalls)}."


def _notes(summary: dict[str, Any]) -> list[str]:
    return [
        f"No cycle of the class {', '.join(classes)} in the {SET_TITLES[key]} set: "
        "its scores are over the others."
        for key, classes in summary["missing"].items()
        if classes
    ]
