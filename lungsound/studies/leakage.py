"""What several splits share with training, as one line."""

import math
from collections.abc import Mapping, Sequence

from lungsound.data.splits.leakage import INITIAL_WEIGHTS

LEAKAGE_COUNTS = ("patients", "test_patients", "recordings", "test_recordings", "duplicates")


def leakage_line(counts: Sequence[Mapping[str, int] | None], lines: Sequence[str]) -> str:
    """Return the leakage of several splits as ranges; as sentences if one has no counts (0.1)."""
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        return " ".join(dict.fromkeys(lines))
    ranges = {}
    for name in LEAKAGE_COUNTS:
        values = [count[name] for count in known]
        low, high = min(values), max(values)
        ranges[name] = str(low) if low == high else f"{low} TO {high}"
    if any(count["patients"] for count in known):
        line = (
            f"{_leaked(known, 'patients')} AND {_leaked(known, 'recordings')} ARE ALSO IN "
            "TRAINING OR VALIDATION: these scores say nothing about new patients."
        )
    else:
        patients = ranges["test_patients"].lower()
        line = f"No patient of the {patients} in test is also in training or validation."
    if any(count["duplicates"] for count in known):
        line += (
            " SOUNDS OF TEST THAT ARE ALSO IN TRAINING OR VALIDATION under another name or line: "
            f"{ranges['duplicates']}."
        )
    weights = ["".join(sentence.partition(INITIAL_WEIGHTS)[1:]) for sentence in lines]
    return line + "".join(dict.fromkeys(weights))


def _leaked(counts: Sequence[Mapping[str, int]], name: str) -> str:
    """Return how many of the test patients, or recordings, leak: as a share if splits differ."""
    pairs = {(count[name], count[f"test_{name}"]) for count in counts}
    if len(pairs) == 1:
        ((leaked, total),) = pairs
        return f"{leaked} OF {total} TEST {name.upper()}"
    shares = [100 * leaked / total for leaked, total in pairs if total]
    low, high = math.floor(min(shares)), math.ceil(max(shares))
    share = f"{low} %" if low == high else f"{low} TO {high} %"
    return f"{share} OF EACH SPLIT'S TEST {name.upper()}"
