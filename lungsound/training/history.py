"""history.jsonl: one line per epoch, with its metrics and the machine that trained it."""

import json
from itertools import groupby
from typing import Any

EpochRecord = dict[str, Any]


def parse_history(history: bytes) -> list[EpochRecord]:
    """Return a history's lines, one per epoch from 1.

    Raises ValueError for a line that is not an epoch's metrics, with or without a `machine`.
    """
    records = [json.loads(line) for line in history.splitlines()]
    for epoch, record in enumerate(records, start=1):
        if not isinstance(record, dict) or record.get("epoch") != epoch:
            raise ValueError(f"line {epoch}: expected the numbers of epoch {epoch}")
        is_text = isinstance(record.get("machine", ""), str)
        numbers = [value for name, value in record.items() if name != "machine"]
        is_period = isinstance(record.get("period"), int)
        if not (is_text and is_period and all(map(_is_number, numbers))):
            raise ValueError(f"line {epoch}: expected a period, numbers and the machine as text")
    return records


def machine_changes(history: list[EpochRecord]) -> list[tuple[str, str]]:
    """Return ("epochs 1-12", machine) for each run of epochs that one machine trained.

    The machine is "an unknown machine" for epochs of release 0.1.
    """
    stretches = []
    for machine, group in groupby(history, lambda record: record.get("machine", "")):
        epochs = [record["epoch"] for record in group]
        stretches.append((f"epochs {epochs[0]}-{epochs[-1]}", machine or "an unknown machine"))
    return stretches


def _is_number(value: Any) -> bool:
    if isinstance(value, int):  # larger integers overflow a float
        return abs(value) < 2**63
    return isinstance(value, float)
