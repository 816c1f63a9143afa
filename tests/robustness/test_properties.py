"""Properties of splits for any table of cycles, and in any order of its rows."""

import tempfile
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from lungsound.data.cycles import cycle_key
from lungsound.data.labels import FOUR_CLASS
from lungsound.data.splits.patient import patient_split
from lungsound.data.splits.random import random_split

set_hypothesis_home_dir(tempfile.gettempdir())  # nothing cached in the project's folder


def deterministic_settings(examples: int) -> Callable[[Any], Any]:
    """The same examples every time, however long one takes; none is kept or made smaller."""
    phases = [Phase.explicit, Phase.generate]
    return settings(
        max_examples=examples, derandomize=True, deadline=None, database=None, phases=phases
    )


@st.composite
def cycle_tables(draw: st.DrawFn, everyone: tuple[int, ...] = ()) -> pd.DataFrame:
    """Cycles of some of twelve patients, of any classes; `everyone` is there for certain."""
    patients = [*everyone, *draw(st.lists(st.integers(1, 12), min_size=1, max_size=90))]
    names = st.sampled_from(FOUR_CLASS.labels)
    labels = draw(st.lists(names, min_size=len(patients), max_size=len(patients)))
    recordings = [f"{patient}_1b1_Al_sc_Meditron" for patient in patients]
    keys = [cycle_key(name, line) for line, name in enumerate(recordings)]
    table = pd.DataFrame({"patient": list(map(str, patients)), "label": labels, "event_type": ""})
    return table.assign(key=np.array(keys, dtype="uint64"))


@deterministic_settings(40)
@given(
    cycles=cycle_tables(), seed=st.integers(0, 2**32 - 1), order=st.randoms(use_true_random=False)
)
def test_a_random_split_has_the_papers_shares_of_each_class_in_any_order(
    cycles: pd.DataFrame, seed: int, order: Any
) -> None:
    sets, _ = random_split(cycles, seed)
    assert sets.index.equals(cycles.index)
    assert set(sets) <= {"train", "val", "test"}  # each cycle in one
    for label, rows in sets.groupby(cycles["label"]):
        counts, number = Counter(rows), int((cycles["label"] == label).sum())
        assert abs(counts["test"] - 0.2 * number) <= 0.5
        assert abs(counts["val"] - 0.2 * (number - counts["test"])) <= 0.5
    shuffled = cycles.sample(frac=1, random_state=order.randrange(2**32))
    assert random_split(shuffled, seed)[0].sort_index().equals(sets)


@deterministic_settings(8)
@given(
    cycles=cycle_tables(everyone=5 * tuple(range(1, 13))),
    seed=st.integers(0, 2**32 - 1),
    folds=st.integers(2, 4),
    order=st.randoms(use_true_random=False),
)
def test_patients_are_in_one_set_and_in_test_once_over_the_folds(
    cycles: pd.DataFrame, seed: int, folds: int, order: Any
) -> None:
    patients = set(cycles["patient"])
    tested: Counter[str] = Counter()
    for fold in range(folds):
        sets, _ = patient_split(cycles, seed, folds, fold)
        by_set = [set(cycles["patient"][sets == name]) for name in ("train", "val", "test")]
        assert sum(map(len, by_set)) == len(patients)
        assert set().union(*by_set) == patients
        tested.update(by_set[2])
        shuffled = cycles.sample(frac=1, random_state=order.randrange(2**32))
        assert patient_split(shuffled, seed, folds, fold)[0].sort_index().equals(sets)
    assert tested == Counter(patients)
