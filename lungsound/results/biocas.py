"""A run's BioCAS challenge scores on SPRSound's test parts, from its predictions table alone."""

from typing import Any

import pandas as pd
import torch

from lungsound.data.labels import TWO_CLASS, LabelSet
from lungsound.results.calibration import abnormal_scores, is_abnormal, validation_thresholds
from lungsound.results.comparison import ensemble_answers
from lungsound.results.report import markdown_table
from lungsound.results.summary import (
    defined,
    member_numbers,
    member_probabilities,
    predicted_labels,
    summarize,
)
from lungsound.scoring.biocas import TASKS, biocas_scores
from lungsound.scoring.scores import class_recalls, confusion_matrix, fold_confusion

BIOCAS_METRICS = ("SE", "SP", "AS", "HS", "Score")
LEGEND = (
    "BioCAS 2022, by event. Task 1-1: normal or adventitious; 1-2: seven types.\n"
    "SE: share of all adventitious events predicted as their class. SP: share of\n"
    "normal events predicted as normal. AS: (SE + SP) / 2. HS: harmonic mean of SE\n"
    "and SP. Score: (AS + HS) / 2."
)
AT_THRESHOLD = (
    "threshold T: the ensemble's answer is adventitious where 1 − p_normal is T or\n"
    "more; T has the best AS on validation."
)


def biocas_scores_by_part(predictions: pd.DataFrame) -> list[dict[str, Any]]:
    """Score the ensemble and the member that is best on validation, per test part and task.

    For Task 1-1 also the ensemble at the threshold that is best on validation, if that has normal
    and adventitious cycles. A row has the keys part, task, who, events, BIOCAS_METRICS, and
    `recall` of each of the model's classes (None at a threshold). An undefined score is None. Test
    cycles without event types have no row.
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
    has_type = predictions["event_type"].fillna("") != ""
    test_rows = predictions[(predictions["set"] == "test") & has_type]
    parts = {str(part): rows for part, rows in test_rows.groupby("part")}
    if len(parts) > 1:
        parts["all"] = test_rows
    thresholds = validation_thresholds(predictions) if TWO_CLASS in labels.chain else {}
    scored = []
    for part, rows in parts.items():
        probabilities = member_probabilities(rows, labels, members)
        for system, member_slice in chosen.items():
            confusion = probabilities.confusion(member_slice)
            scored += [{"part": part, "who": system, **row} for row in _rows(confusion, labels)]
        if thresholds:
            scored.append({"part": part, **_threshold_row(rows, labels, thresholds["best_score"])})
    return scored


def biocas_section(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table and its legend; nothing without rows."""
    if not rows:
        return []
    has_threshold = any(row["who"].startswith("threshold") for row in rows)
    return [biocas_table(rows), LEGEND, *[AT_THRESHOLD] * has_threshold]


def biocas_table(rows: list[dict[str, Any]]) -> str:
    """Format the rows as a Markdown table, every score with three decimals."""
    classes = list(rows[0]["recall"])
    head = ["part", "task", "", "events", *BIOCAS_METRICS, *(f"recall {name}" for name in classes)]
    lines = []
    for row in rows:
        scores = [row[name] for name in BIOCAS_METRICS]
        recalls = [row["recall"][name] for name in classes]
        names = [row["part"], row["task"], row["who"], str(row["events"])]
        lines.append(names + [_cell(value) for value in scores + recalls])
    return markdown_table(head, lines)


def _threshold_row(rows: pd.DataFrame, labels: LabelSet, threshold: float) -> dict[str, Any]:
    answers = ensemble_answers(rows)
    truth = torch.from_numpy(is_abnormal(answers)).long()
    called = torch.from_numpy(abnormal_scores(answers) >= threshold).long()
    (row,) = _rows(confusion_matrix(truth, called, len(TWO_CLASS)), TWO_CLASS)
    return {"who": f"threshold {threshold:.3f}", **row, "recall": dict.fromkeys(labels.labels)}


def _rows(confusion: torch.Tensor, labels: LabelSet) -> list[dict[str, Any]]:
    recall = defined(class_recalls(confusion, labels))
    rows = []
    for task in reversed([coarser for coarser in labels.chain if coarser.name in TASKS]):
        scores = defined(biocas_scores(fold_confusion(confusion, labels, task)))
        first = {"task": TASKS[task.name], "events": int(confusion.sum())}
        rows.append({**first, **scores, "recall": recall})
    return rows


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
