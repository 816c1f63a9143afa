"""A run's BioCAS challenge scores on SPRSound's test parts, from its predictions table alone."""

from math import isnan
from typing import Any

import pandas as pd
import torch

from lungsound.data.labels import LabelSet
from lungsound.results.report import markdown_table
from lungsound.results.summary import (
    member_numbers,
    member_probabilities,
    predicted_labels,
    summarize,
)
from lungsound.scoring.biocas import TASKS, biocas_scores
from lungsound.scoring.scores import fold_confusion

BIOCAS_METRICS = ("SE", "SP", "AS", "HS", "Score")
LEGEND = (
    "BioCAS 2022, by event. Task 1-1: normal or adventitious; 1-2: seven types. "
    "SE: share of all adventitious events\npredicted as their class. "
    "SP: share of normal events predicted as normal. AS: (SE + SP) / 2. "
    "HS: harmonic mean of SE and SP.\nScore: (AS + HS) / 2."
)


def biocas_scores_by_part(predictions: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one row per test part, task and system.

    A system is the ensemble, or the single member that is best on validation. Keys: part, task,
    who (the system), events, BIOCAS_METRICS, and `recall`: class -> its recall. An undefined score
    is None. No rows for databases without event types.
    """
    if "event_type" not in predictions:
        return []
    labels, members = predicted_labels(predictions), member_numbers(predictions)
    single = int(summarize(predictions)["single"]["member"])
    place = members.index(single)
    chosen = {
        f"ensemble of {len(members)}": slice(None),
        f"single: member {single}": slice(place, place + 1),
    }
    test_rows = predictions[
        (predictions["set"] == "test") & (predictions["event_type"].fillna("") != "")
    ]
    parts = {str(part): rows for part, rows in test_rows.groupby("part")}
    if len(parts) > 1:
        parts["all"] = test_rows
    return [
        {"part": part, "who": system, **row}
        for part, rows in parts.items()
        for system, member_slice in chosen.items()
        for row in _rows(
            member_probabilities(rows, labels, members).confusion(member_slice), labels
        )
    ]


def biocas_table(rows: list[dict[str, Any]]) -> str:
    """Format the rows as a Markdown table, scores with three decimals."""
    classes = list(rows[0]["recall"])
    head = ["part", "task", "", "events", *BIOCAS_METRICS, *(f"recall {name}" for name in classes)]
    lines = [
        [
            row["part"],
            row["task"],
            row["who"],
            str(row["events"]),
            *(_cell(row[name]) for name in BIOCAS_METRICS),
        ]
        + [_cell(row["recall"][name]) for name in classes]
        for row in rows
    ]
    return markdown_table(head, lines)


def _rows(confusion: torch.Tensor, labels: LabelSet) -> list[dict[str, Any]]:
    counts = confusion.tolist()
    recall = {
        label: row[number] / sum(row) if sum(row) else None
        for number, (label, row) in enumerate(zip(labels.labels, counts, strict=True))
    }
    rows = []
    for coarser in reversed(labels.chain):
        if coarser.name in TASKS:
            scores = biocas_scores(fold_confusion(confusion, labels, coarser))
            figures = {name: None if isnan(score) else score for name, score in scores.items()}
            events = int(confusion.sum())
            rows.append(
                {"task": TASKS[coarser.name], "events": events, **figures, "recall": recall}
            )
    return rows


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
