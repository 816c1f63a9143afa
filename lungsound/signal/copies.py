"""The augmented copies of training cycles, and the random draws of each.

A caller that draws once for all epochs passes epoch 0.
"""

from collections.abc import Mapping
from itertools import product

import pandas as pd

from lungsound.signal.rng import make_rng

STRETCHED_LABELS = ("wheeze", "both")


def plan_copies(
    cycles: pd.DataFrame, stretch: bool, vtlp_copies: Mapping[str, int]
) -> pd.DataFrame:
    """List every copy of the training cycles (column `label`), ordered by cycle and copy.

    Columns: `row` (position in `cycles`), `copy` (its number within the cycle; 0 is the original),
    `stretched` and `warped`. With `stretch`, a wheeze or both cycle has one stretched copy. The
    original has `vtlp_copies[label]` VTLP copies and the stretched copy as many again (Nguyen &
    Pernkopf 2020, section III.B). Raises ValueError for a label without a number of VTLP copies.

    >>> cycles = pd.DataFrame({"label": ["wheeze", "normal"]})
    >>> print(plan_copies(cycles, True, {"normal": 0, "wheeze": 1}).to_string(index=False))
     row  copy  stretched  warped
       0     0      False   False
       0     1      False    True
       0     2       True   False
       0     3       True    True
       1     0      False   False
    """
    unknown = set(cycles["label"]) - set(vtlp_copies)
    if unknown:
        raise ValueError(f"Expected `vtlp_copies` of every label, but {sorted(unknown)} have none")
    copies = []
    for row, label in enumerate(cycles["label"]):
        warped = [False] + [True] * vtlp_copies[label]
        stretched = (False, True) if stretch and label in STRETCHED_LABELS else (False,)
        for copy, variant in enumerate(product(stretched, warped)):
            copies.append((row, copy, *variant))
    types = {"row": "int64", "copy": "int64", "stretched": "bool", "warped": "bool"}
    return pd.DataFrame(copies, columns=list(types)).astype(types)


def draw_rate(seed: int, key: int, epoch: int, limits: tuple[float, float]) -> float:
    """Draw the stretch rate of the cycle `key`; its VTLP copies share it."""
    return float(make_rng(seed, "stretch rate", key, epoch).uniform(*limits))


def draw_warp(
    seed: int,
    key: int,
    copy: int,
    epoch: int,
    alpha_limits: tuple[float, float],
    f_hi_limits: tuple[float, float],
) -> tuple[float, float]:
    """Draw the warp factor alpha and F_hi in Hz of a VTLP copy, for all its segments."""
    draws = make_rng(seed, "vtlp", key, copy, epoch)
    return float(draws.uniform(*alpha_limits)), float(draws.uniform(*f_hi_limits))


def draw_roll(seed: int, key: int, copy: int, segment: int, epoch: int, frames: int) -> int:
    """Draw the roll of a segment's log-mel, 0 to `frames` - 1 frames, for all its chunks."""
    return int(make_rng(seed, "roll", key, copy, segment, epoch).integers(frames))
