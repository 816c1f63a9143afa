"""predictions.parquet: each member's probabilities for each validation and test cycle. Every score follows from it."""

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from lungsound.data.labels import SPRSOUND_LABELS, TWO_CLASS_LABELS, labels_of
from lungsound.files import read_file, write_file

CYCLE_COLUMNS = ["recording", "patient", "cycle", "start_seconds", "end_seconds", "label", "set"]
SPRSOUND_COLUMNS = ["part", "event_type"]  # where the database has them


def predictions_table(cycles: pd.DataFrame, members: Sequence[Tensor], synthetic: bool) -> pd.DataFrame:
    """One row per cycle and member.

    `label` is the true class of the task. `cycles` has CYCLE_COLUMNS; `members` holds each member's probabilities
    [cycles, K], in the cycles' order. Members count from 1. The label order, and whether the data are synthetic, travel
    in the table's `attrs`.
    """
    labels = labels_of(members[0].shape[1])
    more = [name for name in SPRSOUND_COLUMNS if name in cycles and (cycles[name] != "").any()]
    tables = []
    for member, probabilities in enumerate(members, start=1):
        columns = {f"p_{label}": probabilities[:, i].cpu().numpy() for i, label in enumerate(labels)}
        tables.append(cycles[[*CYCLE_COLUMNS, *more]].assign(member=member, **columns))
    table = pd.concat(tables, ignore_index=True)
    if labels == SPRSOUND_LABELS:
        table["label"] = table["event_type"]
    if labels == TWO_CLASS_LABELS:
        table["label"] = table["label"].where(table["label"] == "normal", "abnormal")
    table.attrs = {"label_order": list(labels), "data": "SYNTHETIC" if synthetic else "real"}
    return table


def write_predictions(table: pd.DataFrame, path: Path) -> None:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_file(path, buffer.getvalue())


def read_predictions(path: Path) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(read_file(path)))
