"""The paper's protocol: a random split by cycle, which shares patients between the sets."""

import zlib

import numpy as np
import pandas as pd

from lungsound.data.labels import FOUR_CLASS, TWO_CLASS

TEST_FRACTION, VAL_FRACTION = 0.2, 0.2
# A label's index here seeds its draw; labels of other sets come after these, sorted.
FIRST_LABELS = (*FOUR_CLASS.labels, *TWO_CLASS.labels[1:])


def random_split(cycles: pd.DataFrame, seed: int) -> tuple[pd.Series, tuple[str, ...]]:
    """Split by cycle, stratified: 20 % of each class is test, 20 % of the rest val.

    The protocol of Nguyen & Pernkopf 2020, section IV.A. The order of the rows (columns label, key)
    does not matter. Patients are shared between the sets: `leakage.count_leakage` counts them.
    """
    sets = pd.Series("train", index=cycles.index, name="set", dtype="str")
    labels = dict.fromkeys([*FIRST_LABELS, *sorted(cycles["label"].unique())])
    for number, label in enumerate(labels):
        rows = np.flatnonzero(cycles["label"] == label)
        rows = rows[np.argsort(cycles["key"].to_numpy()[rows])]
        rows = np.random.default_rng([seed, zlib.crc32(b"split"), number]).permutation(rows)
        test = round(TEST_FRACTION * len(rows))
        val = round(VAL_FRACTION * (len(rows) - test))
        sets.iloc[rows[:test]] = "test"
        sets.iloc[rows[test : test + val]] = "val"
    return sets, ()
