"""history.jsonl: the numbers of each epoch, one line each."""

import json
from typing import Any


def parse_history(history: bytes) -> list[dict[str, Any]]:
    """A history's lines, one an epoch from 1. Raises ValueError for one that is not an epoch's
    numbers.
    """
    records = [json.loads(line) for line in history.splitlines()]
    for epoch, record in enumerate(records, start=1):
        if (
            not isinstance(record, dict)
            or record.get("epoch") != epoch
            or not isinstance(record.get("period"), int)
        ):
            raise ValueError(f"line {epoch}: expected the numbers of epoch {epoch}")
        # Whole numbers beyond 64 bits may be no floats.
        if not all(
            isinstance(x, float) or (isinstance(x, int) and abs(x) < 2**63) for x in record.values()
        ):
            raise ValueError(f"line {epoch}: expected numbers alone")
    return records
