"""The numbers of release 0.1, whose arithmetic was checked from outside, are still those of today.

release_0_1.json was written by commit aa9a161 from the run that `finished_run` makes (SMALL,
OMP_NUM_THREADS=1). Other processors round otherwise in float32's last digits, and four epochs of
training spread that; a wrong wire moves probabilities by far more than the tolerance.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

LABELS = ("normal", "crackle", "wheeze", "both")
TOLERANCE = 5e-4
CYCLE = ["recording", "cycle", "member", "set"]


@pytest.fixture(scope="module")
def expected() -> dict[str, list[Any]]:
    """`predictions`: recording, cycle, member, set, probabilities; `history`: epochs."""
    stored = Path(__file__).with_name("release_0_1.json").read_text()
    content: dict[str, list[Any]] = json.loads(stored)
    return content


def test_probabilities_are_those_of_release_0_1(
    finished_run: Path, expected: dict[str, list[Any]]
) -> None:
    columns = [*CYCLE, *(f"p_{label}" for label in LABELS)]
    table = pd.read_parquet(finished_run / "predictions.parquet")
    table = table.sort_values(["recording", "cycle", "member"], ignore_index=True)
    reference = pd.DataFrame(expected["predictions"], columns=columns)
    assert table[CYCLE].to_numpy().tolist() == reference[CYCLE].to_numpy().tolist()
    found, wanted = (frame[columns[4:]].to_numpy(dtype=float) for frame in (table, reference))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE)


def test_history_is_that_of_release_0_1(finished_run: Path, expected: dict[str, list[Any]]) -> None:
    lines = (finished_run / "history.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == len(expected["history"])
    for record, reference in zip(records, expected["history"], strict=True):
        assert record["lr"] == pytest.approx(reference["lr"], rel=1e-12)
        for name, value in reference.items():
            assert record[name] == pytest.approx(value, abs=10 * TOLERANCE), name
