"""The plan of augmented copies, and the draws."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lungsound.signal.copies import draw_rate, draw_roll, draw_warp, plan_copies
from lungsound.signal.rng import make_rng

PAPER = {"normal": 1, "crackle": 3, "wheeze": 4, "both": 7}
NONE = dict.fromkeys(PAPER, 0)


def cycles_of(*labels: str) -> pd.DataFrame:
    # An index that is not the position, as a training set cut out of a database has.
    return pd.DataFrame({"label": labels}, index=range(100, 100 + len(labels)))


def test_the_plan_for_80_percent_of_the_full_database(real_data: Path) -> None:
    paths = sorted((real_data / "icbhi_annotations").glob("*_*_*_*_*.txt"))
    lines = pd.concat([pd.read_csv(path, sep="\t", header=None) for path in paths])
    names = np.array(["normal", "crackle", "wheeze", "both"])
    cycles = pd.DataFrame({"label": names[lines[2] + 2 * lines[3]]})
    assert len(cycles) == 6898
    train = cycles.groupby("label", group_keys=False).sample(frac=0.8, random_state=0)
    plan = plan_copies(train, stretch=True, vtlp_copies=PAPER)
    planned = train["label"].iloc[plan["row"]].value_counts()
    # The paper multiplies 0.8 of a cycle too: half the copies of one cycle away at most.
    for label, paper, copies_of_one in zip(
        names, (5827, 5965, 7088, 6477), (2, 4, 10, 16), strict=True
    ):
        assert planned[label] % copies_of_one == 0
        assert abs(planned[label] - paper) <= copies_of_one / 2 + 0.5


def test_the_copies_of_each_class() -> None:
    cycles = cycles_of("both", "normal", "wheeze", "crackle")
    plan = plan_copies(cycles, stretch=True, vtlp_copies=PAPER)
    assert list(plan.columns) == ["row", "copy", "stretched", "warped"]
    for row, number in enumerate((16, 2, 10, 4)):
        assert plan.loc[plan["row"] == row, "copy"].tolist() == list(range(number))
    kinds = plan.groupby(["row", "stretched", "warped"]).size().to_dict()
    assert kinds == {
        (0, False, False): 1, (0, False, True): 7, (0, True, False): 1, (0, True, True): 7,
        (1, False, False): 1, (1, False, True): 1,
        (2, False, False): 1, (2, False, True): 4, (2, True, False): 1, (2, True, True): 4,
        (3, False, False): 1, (3, False, True): 3,
    }  # fmt: skip
    originals = plan[plan["copy"] == 0]
    assert not originals[["stretched", "warped"]].to_numpy().any()


def test_no_augmentation_is_the_originals_alone() -> None:
    plan = plan_copies(cycles_of("both", "normal", "wheeze"), stretch=False, vtlp_copies=NONE)
    assert plan.to_numpy().tolist() == [[row, 0, False, False] for row in range(3)]
    empty = plan_copies(cycles_of(), stretch=True, vtlp_copies=PAPER)
    assert empty.dtypes.to_dict() == plan.dtypes.to_dict()


def test_stretch_and_vtlp_alone() -> None:
    cycles = cycles_of("normal", "crackle", "wheeze", "both")
    assert plan_copies(cycles, True, NONE).groupby("row").size().tolist() == [1, 1, 2, 2]
    assert plan_copies(cycles, False, PAPER).groupby("row").size().tolist() == [2, 4, 5, 8]


def test_a_label_without_a_number_of_copies_is_refused() -> None:
    with pytest.raises(ValueError, match="'wheeze'"):
        plan_copies(cycles_of("normal", "wheeze"), True, {"normal": 1})


def test_draws_depend_on_their_arguments_alone() -> None:
    def draws() -> list[float]:
        warp = draw_warp(1, 7, 2, 0, (0.9, 1.1), (3200, 3800))
        return [draw_rate(1, 7, 0, (0.9, 1.1)), *warp, draw_roll(1, 7, 2, 0, 5, 386)]

    first = draws()
    np.random.seed(3)
    draw_roll(1, 8, 0, 0, 0, 386)
    assert draws() == first


def test_every_argument_of_a_draw_counts() -> None:
    limits, f_hi_limits = (0.9, 1.1), (3200.0, 3800.0)

    def zeros_and_each_one(arguments: int) -> list[list[int]]:
        return [[0] * arguments, *np.eye(arguments, dtype=int).tolist()]

    rolls = {draw_roll(*each, frames=10**9) for each in zeros_and_each_one(5)}
    warps = {draw_warp(*each, limits, f_hi_limits) for each in zeros_and_each_one(4)}
    rates = {draw_rate(*each, limits) for each in zeros_and_each_one(3)}
    assert (len(rolls), len(warps), len(rates)) == (6, 5, 4)


def test_streams_differ_where_numpy_alone_would_join_the_numbers() -> None:
    numbers: list[tuple[int, ...]] = [(), (0,), (0, 0), (2**32, 1), (0, 1, 1), (2**64 - 1,)]
    streams = [make_rng(0, "a", *each) for each in numbers] + [make_rng(1, "a"), make_rng(0, "b")]
    assert len({int(stream.integers(2**62)) for stream in streams}) == len(streams)
    # A table's key, an unsigned numpy number, names the same stream as the number it holds.
    key = pd.Series([2**63 + 1], dtype="uint64")[0]
    assert make_rng(0, "a", key).random() == make_rng(0, "a", 2**63 + 1).random()
    for out_of_range in (-1, 2**64):
        with pytest.raises(OverflowError):
            make_rng(0, "a", out_of_range)


def test_draws_fill_their_limits_evenly() -> None:
    keys = range(2000)
    warps = np.array([draw_warp(0, key, 1, 0, (0.9, 1.1), (3200, 3800)) for key in keys])
    rates = np.array([draw_rate(0, key, 0, (0.9, 1.1)) for key in keys])
    alphas, limits = warps.T
    for values, low, high in ((alphas, 0.9, 1.1), (limits, 3200, 3800), (rates, 0.9, 1.1)):
        assert low <= values.min() <= values.max() <= high
        # Tenths of the range hold 200 ± 13.4 draws each.
        assert np.abs(np.histogram(values, 10, (low, high))[0] - 200).max() < 5 * 13.4
    assert abs(np.corrcoef(warps.T)[0, 1]) < 0.1
    assert {draw_roll(0, key, 0, 0, 0, 7) for key in keys} == set(range(7))
