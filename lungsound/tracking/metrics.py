"""Convert the files of runs and studies to MLflow metrics. Users rely on the names."""

import csv
import re
from pathlib import Path
from typing import Any

from lungsound.results.biocas import BIOCAS_METRICS
from lungsound.scoring.scores import score_names

MetricPoint = tuple[str, float, int]  # name, value, step
FORBIDDEN = re.compile(r"[^\w\-. :]")  # in the name of a param, and in each part of a metric's
STUDY_SCORE = re.compile(r"score_\d+")
NUM_MEMBERS = "annealing.cycles"


def history_metrics(history: list[dict[str, Any]]) -> list[MetricPoint]:
    """Return every number of history.jsonl; the step is the epoch."""
    points = []
    for record in history:
        for name, value in record.items():
            if name not in ("epoch", "period") and isinstance(value, int | float):
                points.append((name, float(value), int(record["epoch"])))
    return points


def score_metrics(results: dict[str, Any]) -> list[MetricPoint]:
    """Return the scores of scores.json; the step is the member, the number of members, or 0."""
    scores = results["scores"]
    final, single = scores["ensemble"][-1]["test"], scores["single"]["test"]
    names = score_names(final)
    points: list[tuple[str, float | None, int]] = []
    for row in scores["members"]:
        for part in ("val", "test"):
            points.append((f"member/{part}_{names[0]}", row[part][names[0]], row["member"]))
    for row in scores["ensemble"]:
        for name in names:
            points.append((f"ensemble/test_{name}", row["test"][name], row["members"]))
    points += [(f"test/{name}", value, 0) for name, value in final.items() if name != "accuracy"]
    points += [(f"test/single_{name}", single[name], 0) for name in names]
    points.append(("test/macro_f1", scores.get("macro_f1"), 0))  # release 0.1 has neither
    for label, share in scores.get("recall", {}).items():
        points.append((f"test/recall_{FORBIDDEN.sub('_', label)}", share, 0))
    for name, (low, high) in results.get("intervals", {}).get("ensemble", {}).items():
        points += [(f"test/{name}_low", low, 0), (f"test/{name}_high", high, 0)]
    for kind in ("patients", "recordings", "duplicates"):
        points.append((f"leak/{kind}", results["leaks"][kind], 0))
    for row in results["biocas"]:
        if row["who"].startswith("ensemble"):
            for name in BIOCAS_METRICS:
                points.append((f"biocas/{row['part']}_{row['task']}_{name}", row[name], 0))
    return [(name, float(value), step) for name, value, step in points if value is not None]


def study_metrics(folder: Path, swept: list[str]) -> list[MetricPoint]:
    """Return the mean scores of a study's tables all*.csv; the step is M, or 0 if it is not swept.

    The name ends with the values of the other swept keys: study/score_4/zero/9s.
    """
    points = []
    for path in sorted(folder.glob("all*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        keys = [key for key in swept if key in rows[0] and key != NUM_MEMBERS]
        keys += ["protocol"] if "split" in swept else []
        for row in rows:
            values = [FORBIDDEN.sub("_", row[key]) for key in keys]
            for name in filter(STUDY_SCORE.fullmatch, row):
                if row[name]:
                    full_name = "/".join(["study", name, *values])
                    points.append((full_name, float(row[name]), int(row.get(NUM_MEMBERS, 0))))
    return points
