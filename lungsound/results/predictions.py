"""predictions.parquet: each member's probabilities of every validation and test cycle."""

import io
from collections.abc import Iterable, Sequence
from math import nan

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from lungsound.data.labels import FOUR_CLASS, LabelSet, own_label_set

CYCLE_COLUMNS = ["recording", "patient", "cycle", "start_seconds", "end_seconds", "label", "set"]
# If the database has them. Of a recording; `part` and `event_type` are SPRSound's.
OPTIONAL_COLUMNS = [
    *("part", "event_type", "location", "mode", "device", "sex", "diagnosis"),
    AGE := "age",  # in years, NaN if unknown
]
INTEGER_COLUMNS = ["cycle", "member"]


def predictions_table(
    cycles: pd.DataFrame, members: Sequence[Tensor], labels: LabelSet, synthetic: bool
) -> pd.DataFrame:
    """Return a table with one row per cycle and member, from which every score is computed.

    `cycles` has CYCLE_COLUMNS and `target`, the index in `labels` of the true class; `members` has
    each member's probabilities [cycles, K], in the order of `cycles`. In the table `label` is the
    true class, and members count from 1. Its `attrs` have the label order, and whether the data are
    synthetic.
    """
    known = {name for name in cycles if not cycles[name].isin(["", nan]).all()}
    extra = [name for name in OPTIONAL_COLUMNS if name in known]
    label = [labels.labels[target] for target in cycles["target"]]
    rows = cycles[[*CYCLE_COLUMNS, *extra]].assign(label=pd.Series(label, cycles.index, "str"))
    tables = []
    for member, probabilities in enumerate(members, start=1):
        columns = dict(zip(probability_columns(labels), probabilities.cpu().numpy().T, strict=True))
        tables.append(rows.assign(member=member, **columns))
    table = pd.concat(tables, ignore_index=True)
    table.attrs = {"label_order": list(labels.labels), "data": "SYNTHETIC" if synthetic else "real"}
    return table


def probability_columns(labels: LabelSet) -> list[str]:
    """Return the names of the columns with the probabilities of `labels`."""
    return [f"p_{label}" for label in labels.labels]


def predicted_label_set(columns: Iterable[str]) -> LabelSet | None:
    """Return the label set whose probabilities are among `columns`; None if there is none."""
    names = [name.removeprefix("p_") for name in columns if name.startswith("p_")]
    try:
        return own_label_set(names)
    except ValueError:
        return None


def encode_predictions(table: pd.DataFrame) -> bytes:
    """Return the table as parquet."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def parse_predictions(content: bytes) -> pd.DataFrame:
    """Return the table.

    Raises an exception for content that `encode_predictions` did not make. Only known columns are
    read: no metadata of pandas or other programs.
    """
    with pq.ParquetFile(pa.BufferReader(content)) as file:
        columns = _validated_columns(file.schema_arrow)
        if file.metadata.num_rows > len(content):  # compressed repeats could fill the memory
            raise ValueError(f"{file.metadata.num_rows} rows in {len(content)} bytes")
        table = file.read(columns=columns)
    if any(table[name].null_count for name in columns if name != AGE):
        raise ValueError("a value is missing")
    frame: pd.DataFrame = table.replace_schema_metadata(None).to_pandas()
    return frame


def _validated_columns(schema: pa.Schema) -> list[str]:
    """Return the known columns; ValueError if one is missing, repeated or of another type."""
    probabilities = probability_columns(predicted_label_set(schema.names) or FOUR_CLASS)
    optional = [name for name in OPTIONAL_COLUMNS if name in schema.names]
    columns = [*CYCLE_COLUMNS, *optional, "member", *probabilities]
    for name in columns:
        if schema.names.count(name) != 1:
            raise ValueError(f"expected one column {name}, but got {schema.names.count(name)}")
        kind = schema.field(name).type
        if name in INTEGER_COLUMNS:
            type_matches = pa.types.is_integer(kind)
        elif name in probabilities or name == AGE or name.endswith("_seconds"):
            type_matches = pa.types.is_floating(kind)
        else:
            type_matches = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if not type_matches:
            raise ValueError(f"the column {name} holds {kind}")
    return columns
