"""A study's tables: against plain arithmetic, pandas' own pivots, and the paper's tables."""

import itertools
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lungsound.errors import DataError
from lungsound.studies.report import build_tables
from lungsound.studies.statistics import (
    aggregate_over_splits,
    corrected_interval,
    paired_differences,
)
from lungsound.studies.tables import console, markdown, paper_table, table2, table3, table4

# Quantiles of Student's t at 97.5 %, from any printed table.
T_975 = {1: 12.706, 2: 4.303, 4: 2.776, 9: 2.262}
CYCLES = {"train_cycles": 4400, "val_cycles": 1100, "test_cycles": 1375}  # test is a quarter
M, SEED = "annealing.cycles", "split.seed"


def run_of(number: int, **keys: Any) -> dict[str, Any]:
    """A run with scores that differ from every other number's, and from score to score."""
    sp, se_4, se_2 = 0.8 + 0.001 * number, 0.6 + 0.002 * (number % 7), 0.7 - 0.003 * (number % 5)
    scores = {"specificity": sp, "sensitivity_4": se_4, "sensitivity_2": se_2}
    scores |= {"score_4": (sp + se_4) / 2, "score_2": (sp + se_2) / 2}
    scores["single_score_4"] = 0.65 + 0.001 * (number % 3)
    scores["single_score_2"] = 0.72 + 0.002 * (number % 4)
    run = {"members": keys.get(M, 8), "parameters": 1000, "protocol": "random"}
    return {**run, **CYCLES, **scores, **keys}


def runs_of(**keys: Sequence[Any]) -> pd.DataFrame:
    """A run for each combination; the keys' dots are written `__`."""
    names = [name.replace("__", ".") for name in keys]
    runs = []
    for number, values in enumerate(itertools.product(*keys.values())):
        runs.append(run_of(number, **dict(zip(names, values, strict=True))))
    return pd.DataFrame(runs)


def half_width(values: Sequence[float], ratio: float = 0.25) -> float:
    splits = len(values)
    return T_975[splits - 1] * statistics.stdev(values) * math.sqrt(1 / splits + ratio)


def test_interval_by_hand() -> None:
    scores, root = [0.7, 0.8, 0.9], 0.763763  # mean 0.8, s = 0.1; sqrt(1/3 + 1/4)
    assert corrected_interval(scores, 5500, 1375) == pytest.approx(4.302653 * 0.1 * root, abs=1e-6)
    at_90 = corrected_interval(scores, 5500, 1375, 0.9)
    assert at_90 == pytest.approx(2.919986 * 0.1 * root, abs=1e-6)
    uncorrected = corrected_interval(scores, 80, 0)
    assert uncorrected == pytest.approx(4.302653 * 0.1 / math.sqrt(3), abs=1e-6)


def test_interval_of_equal_scores_is_zero_and_of_two_splits_undefined() -> None:
    assert corrected_interval([0.5, 0.5, 0.5], 80, 20) == 0
    for scores in ([0.7, 0.9], [0.8], []):  # of the first it would be 1.1
        assert math.isnan(corrected_interval(scores, 80, 20))


@pytest.mark.parametrize(("train", "level"), [(0, 0.95), (80, 0), (80, 1), (80, 95)])
def test_interval_refuses_what_is_no_size_or_level(train: int, level: float) -> None:
    with pytest.raises(ValueError, match="Expected"):
        corrected_interval([0.7, 0.8], train, 20, level)


def test_aggregate_equals_plain_arithmetic() -> None:
    runs = runs_of(annealing__cycles=[10, 2, 3], padding=["zero", "sample"], split__seed=[0, 1, 2])
    table = aggregate_over_splits(runs, [M, "padding", SEED])
    scores = ["specificity", "sensitivity_4", "sensitivity_2", "score_4", "score_2"]
    columns = [f"{score}{part}" for score in scores for part in ("", "_std", "_interval")]
    assert list(table.columns) == [M, "padding", "protocol", "splits", *columns]
    places = table[[M, "padding"]].itertuples(index=False, name=None)
    assert list(places) == list(itertools.product([2, 3, 10], ["zero", "sample"]))
    for row in table.to_dict("records"):
        same = runs[(runs[M] == row[M]) & (runs["padding"] == row["padding"])]
        assert row["splits"] == len(same) == 3
        for score in scores:
            values = same[score].tolist()
            assert row[score] == pytest.approx(statistics.mean(values))
            assert row[f"{score}_std"] == pytest.approx(statistics.stdev(values))
            assert row[f"{score}_interval"] == pytest.approx(half_width(values), rel=1e-3)


def test_the_interval_counts_validation_as_training_and_takes_mean_sizes() -> None:
    runs = runs_of(split__seed=[0, 1, 2])
    sizes = {"train_cycles": [90, 100, 95], "val_cycles": [30, 20, 25]}
    runs = runs.assign(**sizes, test_cycles=[50, 70, 60])
    row = aggregate_over_splits(runs, [SEED]).iloc[0]
    expected = half_width(runs["score_4"].tolist(), 60 / 120)
    assert row["score_4_interval"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("protocol", ["official", "official_clean", "file"])
def test_one_test_set_has_no_interval(protocol: str) -> None:
    """Other seeds draw another validation part there, and are scored on the same test cycles."""
    runs = runs_of(annealing__cycles=[2], split__seed=[0, 1, 2]).assign(protocol=protocol)
    row = aggregate_over_splits(runs, [M, SEED]).iloc[0]
    assert math.isnan(row["score_4_interval"])
    assert row["score_4_std"] > 0
    assert paired_differences(runs, [M, SEED])["interval"].isna().all()


def test_the_order_of_runs_shapes_only_what_is_text() -> None:
    runs = runs_of(features__f_max=[8000.0, 500.0], segment=["9s", "10s"], split__seed=[1, 0])
    keys = ["features.f_max", "segment", SEED]
    expected = aggregate_over_splits(runs, keys)
    assert expected["features.f_max"].tolist() == [500.0, 500.0, 8000.0, 8000.0]
    assert expected["segment"].tolist() == ["9s", "10s"] * 2
    turned = aggregate_over_splits(runs[::-1], keys)
    assert turned["segment"].tolist() == ["10s", "9s"] * 2
    order = ["features.f_max", "segment"]
    first, second = (one.sort_values(order, ignore_index=True) for one in (expected, turned))
    pd.testing.assert_frame_equal(first, second)


def test_a_missing_value_of_a_key_is_a_setting_of_its_own() -> None:
    runs = runs_of(padding=["tile", None, "zero", None], split__seed=[0, 1])
    runs[SEED] = range(len(runs))
    for missing in (None, math.nan):
        runs["padding"] = runs["padding"].where(runs["padding"].notna(), missing).astype(object)
        table = aggregate_over_splits(runs, ["padding", SEED])
        assert table["padding"].fillna("none").tolist() == ["tile", "none", "zero"]
        assert table["splits"].tolist() == [2, 4, 2]


def test_protocols_are_never_averaged_together() -> None:
    runs = runs_of(annealing__cycles=[2], split__seed=[0, 1, 2, 3])
    runs["protocol"] = ["random", "file", "random", "file"]
    runs[SEED] = [0, 0, 1, 1]
    table = aggregate_over_splits(runs, [M, SEED])
    assert table["protocol"].tolist() == ["random", "file"]
    assert table["splits"].tolist() == [2, 2]
    expected = [runs["score_4"][[0, 2]].mean(), runs["score_4"][[1, 3]].mean()]
    assert table["score_4"].tolist() == pytest.approx(expected)
    differences = paired_differences(runs, [M, SEED])
    assert differences["protocol"].tolist() == ["random", "random", "file", "file"]


def test_one_split_has_a_mean_and_no_spread() -> None:
    runs = runs_of(annealing__cycles=[2, 3])
    table = aggregate_over_splits(runs, [M])
    assert table["splits"].tolist() == [1, 1]
    assert table["score_2"].tolist() == runs["score_2"].tolist()
    assert table[["score_2_std", "score_2_interval"]].isna().all(axis=None)
    assert paired_differences(runs, [M])[["std", "interval"]].isna().all(axis=None)
    text = markdown(table, "heading", [])
    assert "±" not in text
    assert "nan" not in text


def test_an_undefined_score_is_left_out_of_its_own_mean_alone() -> None:
    runs = runs_of(split__seed=[0, 1, 2, 3])
    runs["specificity"] = [0.5, None, 0.6, 0.7]
    row = aggregate_over_splits(runs, [SEED]).iloc[0]
    assert (row["splits"], row["specificity"]) == (4, pytest.approx(0.6))
    assert row["specificity_interval"] == pytest.approx(half_width([0.5, 0.6, 0.7]), rel=1e-3)
    assert row["score_4"] == pytest.approx(runs["score_4"].mean())


def test_two_class_runs_have_no_four_class_column_and_stand_beside_four_class_runs() -> None:
    runs = runs_of(task=["four_class", "two_class"], annealing__cycles=[2, 3], split__seed=[0, 1])
    four = ["sensitivity_4", "score_4", "single_score_4"]
    runs.loc[runs["task"] == "two_class", four] = math.nan
    keys = ["task", M, SEED]
    both = table3(aggregate_over_splits(runs, keys), paper=False)
    for name in ("specificity_4", "score_4"):
        assert both[name].notna().tolist() == [True, True, False, False]
    assert both["specificity_2"].notna().all()
    assert len(paired_differences(runs, keys)) == 2 * 2 + 2
    alone = runs[runs["task"] == "two_class"].drop(columns=four)
    table = aggregate_over_splits(alone, [M, SEED])
    scores = paired_differences(alone, [M, SEED])["score"]
    assert not [name for name in (*table, *table3(table, paper=False), *scores) if "_4" in name]


def test_own_labels_have_the_score_of_their_classes_in_every_table() -> None:
    runs = runs_of(annealing__cycles=[2, 3], segment=["9s"], annealing=["cosine"], split__seed=[0])
    runs = runs.rename(columns=lambda name: name.replace("_4", "_3"))
    tables = build_tables(runs, [M, "segment", "annealing", SEED], paper=False)
    assert list(tables) == ["table3", "table2", "table4", "all", "differences"]
    for name in ("table3", "table2", "all"):
        assert tables[name]["score_3"].tolist() == runs["score_3"].tolist()
        assert "3-class score" in console(tables[name], name, [])
        assert "3-class score" in markdown(tables[name], name, [])
    for name in ("table3", "all"):
        assert tables[name]["sensitivity_3"].tolist() == runs["sensitivity_3"].tolist()
    assert tables["table4"]["task"].tolist() == ["3-class"] * 2 + ["2-class"] * 2
    assert set(tables["differences"]["score"]) == {"score_3", "score_2"}


@pytest.mark.parametrize("function", [aggregate_over_splits, paired_differences])
def test_runs_that_do_not_fit_the_keys_are_refused(function: Any) -> None:
    runs = runs_of(annealing__cycles=[2, 3], split__seed=[0, 1])
    with pytest.raises(DataError, match="padding"):
        function(runs, [M, "padding", SEED])
    with pytest.raises(DataError, match="twice") as error:
        function(runs, [SEED])
    assert error.value.problems == ("0 random", "1 random")


def test_ensemble_minus_single_by_hand() -> None:
    runs = runs_of(annealing__cycles=[2], split__seed=[0, 1, 2])
    runs["score_4"], runs["single_score_4"] = [0.75, 0.76, 0.77], [0.74, 0.74, 0.74]
    rows = paired_differences(runs, [M, SEED])
    name = "annealing.cycles=2: ensemble minus best single member"
    assert set(rows["difference"]) == {name}
    row = rows[rows["score"] == "score_4"].iloc[0]
    assert row[["mean", "std", "splits"]].tolist() == pytest.approx([0.02, 0.01, 3])
    assert row["interval"] == pytest.approx(T_975[2] * 0.01 * math.sqrt(1 / 3 + 1 / 4), rel=1e-3)
    assert paired_differences(runs.assign(members=1), [M, SEED]).empty


def test_threshold_minus_largest_probability_by_hand() -> None:
    runs = runs_of(split__seed=[0, 1, 2])
    runs["score_2"], runs["threshold_score_2"] = [0.8, 0.81, 0.82], [0.85, 0.84, None]
    rows = paired_differences(runs, [SEED]).set_index("difference")
    row = rows.loc["threshold of validation minus largest probability"]
    assert (row["score"], row["splits"]) == ("score_2", 2)
    assert row[["mean", "std"]].tolist() == pytest.approx([0.04, 0.01 * math.sqrt(2)])


@pytest.mark.parametrize("seed", [None, 0])
def test_paddings_are_paired_by_split_and_keys(seed: int | None) -> None:
    """In any order of the runs."""
    runs = runs_of(
        padding=["tile", "zero", "sample"], annealing__cycles=[3, 2], split__seed=[0, 1, 2]
    )
    wide = runs.pivot(index=[M, SEED], columns="padding", values="score_2")
    expected = {}
    for first, second in (("zero", "sample"), ("zero", "tile"), ("sample", "tile")):
        for m in (2, 3):
            name = f"annealing.cycles={m}: padding {second} minus {first}"
            expected[name] = (wide[second] - wide[first]).loc[m].tolist()
    runs = runs if seed is None else runs.sample(frac=1, random_state=seed)
    rows = paired_differences(runs, ["padding", M, SEED]).query("score == 'score_2'")
    rows = rows[rows["difference"].str.contains(": padding ")].set_index("difference")
    assert list(rows.index) == list(expected)
    for name, values in expected.items():
        assert rows["mean"][name] == pytest.approx(statistics.mean(values))
        assert rows["std"][name] == pytest.approx(statistics.stdev(values))
        assert rows["interval"][name] == pytest.approx(half_width(values), rel=1e-3)


def test_what_has_no_partner_is_no_pair() -> None:
    runs = runs_of(padding=["zero", "sample"], segment=["3s", "9s"], split__seed=[0, 1, 2])
    lost = (runs["segment"] == "3s") & (runs["padding"] == "zero")  # 9s loses split 1, 3s all
    lost |= (runs["segment"] == "9s") & (runs["padding"] == "zero") & (runs[SEED] == 1)
    rows = paired_differences(runs[~lost], ["padding", "segment", SEED])
    rows = rows[rows["difference"].str.endswith("sample minus zero")]
    assert rows["difference"].unique().tolist() == ["segment=9s: padding sample minus zero"]
    assert rows["splits"].tolist() == [2, 2]
    kept = runs[(runs["segment"] == "9s") & (runs[SEED] != 1)].groupby("padding")["score_4"].mean()
    assert rows["mean"].tolist()[0] == pytest.approx(kept["sample"] - kept["zero"])
    alone = paired_differences(runs[runs["padding"] == "zero"], ["padding", "segment", SEED])
    assert not alone["difference"].str.endswith("sample minus zero").any()


@pytest.mark.parametrize("number", [2, 3, 4])
def test_the_papers_tables_are_those_checked_by_hand(number: int, real_data: Path) -> None:
    checked = real_data.parent / "paper" / f"table{number}.csv"
    if not checked.exists():
        pytest.skip(f"no {checked}")
    pd.testing.assert_frame_equal(paper_table(number), pd.read_csv(checked))


def test_the_papers_tables_hold_what_the_paper_says_in_its_text() -> None:
    assert [len(paper_table(number)) for number in (2, 3, 4)] == [23, 9, 10]
    best = paper_table(3).set_index("cycles").loc[8]  # 78.4 % and 83.7 %: the paper's conclusions
    assert (best["score_4"], best["score_2"]) == (0.784, 0.837)
    for number in (1, 5):
        with pytest.raises(ValueError, match="2, 3 or 4"):
            paper_table(number)


def test_table3_has_the_papers_layout_and_figures() -> None:
    runs = runs_of(annealing__cycles=[12, 10, 8, 2], split__seed=[0, 1, 2])
    every = aggregate_over_splits(runs, [M, SEED])
    table = table3(every, paper=True).set_index(M)
    six = [f"{name}_{task}" for task in "24" for name in ("specificity", "sensitivity", "score")]
    assert [name for name in table if name in six] == six
    paper = table.filter(like="paper_")
    assert list(paper.columns) == [f"paper_{name}" for name in six]
    assert table.index.tolist() == [2, 8, 10, 12]
    assert list(paper.loc[8]) == [0.873, 0.801, 0.837, 0.873, 0.694, 0.784]
    assert paper.loc[12].isna().all()
    means = runs.groupby(M).mean(numeric_only=True)
    for name in six:
        source = "specificity" if name.startswith("specificity") else name
        assert table[name].tolist() == pytest.approx(means[source].tolist())
        deviations = runs.groupby(M)[source].std().tolist()
        assert table[f"{name}_std"].tolist() == pytest.approx(deviations)
    assert table["score_2_interval"].tolist() == every["score_2_interval"].tolist()
    ours = table.reset_index().filter(regex="^(?!paper_)")
    pd.testing.assert_frame_equal(table3(every, paper=False), ours)


def test_the_papers_scores_are_beside_no_other_setting() -> None:
    runs = runs_of(padding=["zero", "sample"], annealing__cycles=[8])
    table = table3(aggregate_over_splits(runs, ["padding", M]), True)
    assert table["paper_score_4"].isna().tolist() == [True, False]
    runs = runs_of(annealing__cycles=[8]).assign(protocol="file")
    assert table3(aggregate_over_splits(runs, [M]), True)["paper_score_4"].isna().all()
    runs = runs_of(segment=["9s"], annealing=["cosine", "constant"])
    table = table2(aggregate_over_splits(runs, ["segment", "annealing"]), True)
    cosine, constant = table["paper_zero_score_4"]
    assert math.isnan(cosine)
    assert constant == 0.769


def test_table2_is_the_papers_by_length_and_padding() -> None:
    names = ["9s", "3x3s", "10s", "2x4.5s", "4x2s", "8s", "2x2.5s", "3s"]
    runs = runs_of(padding=["sample", "zero"], segment=names, split__seed=[0, 1])
    every = aggregate_over_splits(runs, ["padding", "segment", SEED])
    table = table2(every, paper=True).set_index("segment")
    lengths = {"3s": 3, "2x2.5s": 5, "8s": 8, "4x2s": 8, "9s": 9, "2x4.5s": 9, "3x3s": 9, "10s": 10}
    assert list(table["seconds"].items()) == list(lengths.items())
    scores = ("score_2", "score_4")
    four = [f"{padding}_{score}" for padding in ("zero", "sample") for score in scores]
    assert [name for name in table if name in four] == four
    for padding, score in itertools.product(("zero", "sample"), ("score_2", "score_4")):
        ours = runs[runs["padding"] == padding].groupby("segment")[score]
        assert table[f"{padding}_{score}"].to_dict() == pytest.approx(ours.mean().to_dict())
        assert table[f"{padding}_{score}_std"].to_dict() == pytest.approx(ours.std().to_dict())
    paper = table[[f"paper_{name}" for name in four]]
    assert list(paper.loc["9s"]) == [0.827, 0.769, 0.825, 0.768]
    assert list(paper.loc["2x4.5s"])[2:] == [0.832, 0.776]  # split: sample padding alone
    assert list(paper.loc["2x4.5s"].isna()) == [True, True, False, False]
    assert paper.loc["10s"].isna().all()


def test_table2_without_padding_and_with_gaps() -> None:
    runs = runs_of(segment=["2x2s", "4s"])
    table = table2(aggregate_over_splits(runs, ["segment"]), paper=False)
    assert table["segment"].tolist() == ["4s", "2x2s"]
    assert table["score_4"].tolist() == runs["score_4"].tolist()[::-1]
    assert not table.filter(regex="^(paper|zero|sample)").columns.size
    gaps = runs_of(padding=["zero", "sample"], segment=["long", "3s"])
    gaps = gaps[(gaps["padding"] == "zero") | (gaps["segment"] == "3s")]
    table = table2(aggregate_over_splits(gaps, ["padding", "segment"]), paper=False)
    assert table["segment"].tolist() == ["3s", "long"]  # a name without a length is last
    for name in ("seconds", "sample_score_2", "sample_splits"):
        assert table[name].isna().tolist() == [False, True]
    assert markdown(table, "heading", []).splitlines()[-1].endswith("| - | - | - |")


def test_table2_keeps_other_keys_apart() -> None:
    runs = runs_of(segment=["9s", "3s"], padding=["zero", "sample"], annealing__cycles=[2, 3])
    table = table2(aggregate_over_splits(runs, ["segment", "padding", M]), paper=True)
    places = list(zip(table[M], table["segment"], strict=True))
    assert places == [(2, "3s"), (2, "9s"), (3, "3s"), (3, "9s")]
    wanted = runs.set_index([M, "segment", "padding"])["score_4"]
    for row in table.to_dict("records"):
        assert row["sample_score_4"] == pytest.approx(wanted[row[M], row["segment"], "sample"])


def test_table4_counts_the_parameters_of_all_members() -> None:
    runs = runs_of(annealing=["constant", "cosine"], split__seed=[0, 1])
    runs.loc[runs["annealing"] == "constant", "members"] = 1
    keys = ["annealing", SEED]
    table = table4(aggregate_over_splits(runs, keys), runs, paper=False)
    assert table["task"].tolist() == ["4-class", "4-class", "2-class", "2-class"]
    assert table["system"].tolist() == ["single CNN", "snapshot ensemble of 8"] * 2
    assert table["parameters"].tolist() == [1000, 8000] * 2
    means = runs.groupby("annealing").mean(numeric_only=True)
    for name in ("sensitivity", "score"):
        expected = [*means[f"{name}_4"], *means[f"{name}_2"]]
        assert table[name].tolist() == pytest.approx(expected)
    assert table["specificity"].tolist() == pytest.approx([*means["specificity"]] * 2)
    assert set(table["note"]) == {"this study"}
    beside = table4(aggregate_over_splits(runs, keys), runs, paper=True)
    quoted = beside[4:].reset_index(drop=True)
    columns = ["task", "system", "specificity", "sensitivity", "score", "parameters", "note"]
    pd.testing.assert_frame_equal(quoted[columns], paper_table(4)[columns], check_dtype=False)
    assert beside[:4][columns].to_dict("records") == table[columns].to_dict("records")
    assert sum(note == "quoted by the paper" for note in beside["note"]) == 4
    text = markdown(beside, "heading", [])
    assert "| 4-class | snapshot ensemble of 8 | random | 2 |" in text
    assert "| 8,000 | this study |" in text
    assert "| 39M | the paper's ensemble |" in text


def test_table4_over_two_class_runs_and_several_ensembles() -> None:
    runs = runs_of(annealing=["cosine"], annealing__cycles=[2, 10])
    runs = runs.drop(columns=["score_4", "sensitivity_4"])
    table = table4(aggregate_over_splits(runs, ["annealing", M]), runs, paper=False)
    assert table["task"].tolist() == ["2-class", "2-class"]
    assert table["system"].tolist() == ["snapshot ensemble of 2", "snapshot ensemble of 10"]
    assert table["parameters"].tolist() == [2000, 10000]


def test_table4_tells_a_two_class_network_from_the_two_classes_of_another() -> None:
    runs = runs_of(annealing=["constant"], task=["four_class", "two_class"])
    runs.loc[runs["task"] == "two_class", ["sensitivity_4", "score_4"]] = math.nan
    table = table4(aggregate_over_splits(runs, ["annealing", "task"]), runs, paper=True)[:3]
    shown = list(zip(table["task"], table["trained_task"], strict=True))
    assert shown == [("4-class", "four_class"), ("2-class", "four_class"), ("2-class", "two_class")]


def test_markdown_by_hand() -> None:
    table = pd.DataFrame(
        {
            M: [2, 10],
            "optimizer.lr": [1e-4, 0.5],
            "note": ["a|b", None],
            "specificity_2": [0.86949, math.nan],
            "specificity_2_std": [0.0126, math.nan],
            "score_4": [0.7, 0.81],
            "score_4_std": [0.01, math.nan],
            "score_4_interval": [0.0204, math.nan],
            "score_2_interval": [math.nan, math.nan],
            "paper_score_4": [0.774, math.nan],
        }
    )
    assert markdown(table, "SYNTHETIC study", ["One note.", "Another."]) == (
        "## SYNTHETIC study\n\n"
        "| annealing.cycles | optimizer.lr | note | 2-class Sp | 4-class score "
        "| 4-class score 95% ± | paper 4-class score |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        "| 2 | 0.0001 | a\\|b | 0.869 ± 0.013 | 0.700 ± 0.010 | 0.020 | 0.774 |\n"
        "| 10 | 0.5 | - | - | 0.810 | - | - |\n\n"
        "One note.\n\nAnother.\n"
    )


def test_markdown_of_differences_shows_the_sign() -> None:
    row = {"score": "score_4", "mean": 0.0123, "std": 0.004, "interval": 0.006, "splits": 3}
    rows = pd.DataFrame([row])
    lines = markdown(rows, "heading", []).splitlines()
    assert lines[2] == "| score | mean | mean 95% ± | splits |"
    assert lines[4] == "| 4-class score | +0.012 ± 0.004 | 0.006 | 3 |"
    empty = markdown(rows[:0], "heading", ["note"])
    assert empty == "## heading\n\nThe table has no rows.\n\nnote\n"


def test_a_table_for_the_console_fits_80_columns() -> None:
    runs = runs_of(padding=["sample", "zero"], segment=["9s", "2x4.5s"], split__seed=[0, 1, 2])
    every = aggregate_over_splits(runs, ["padding", "segment", SEED])
    heading = "table2: " + "a long sentence about leaks " * 5
    text = console(table2(every, paper=True), heading, ["The note."])
    assert max(map(len, text.splitlines())) <= 80
    assert text.endswith("The note.")
    scores = every[["score_2", "score_4"]].to_numpy().ravel()
    assert all(f"{score:.3f}" in text for score in scores)
    assert not any(word in text for word in ("Sp", "95%", "…"))
    paths = ["/data/here/first", "/data/here/second"]
    keys = {"annealing__max_lr": [0.1], "annealing__epochs_per_cycle": [3], "data__root": paths}
    several = runs_of(**keys, trainer__batch_size=[16])
    names = [name.replace("__", ".") for name in [*keys, "trainer__batch_size"]]
    text = console(aggregate_over_splits(several, names), "all", [])
    assert "…" not in text  # folded, not cut
    assert max(map(len, text.splitlines())) <= 80
    runs = runs_of(annealing__cycles=[2], split__seed=[0, 1])
    rows = table3(aggregate_over_splits(runs, [M, SEED]), paper=False)
    spread = console(rows, "table3", []).splitlines()[-1]
    assert f"{rows['score_4'][0]:.3f} ± {rows['score_4_std'][0]:.3f}" in spread
    keys = {"augment__stretch": ["phase_vocoder"], "padding": ["sample"], "segment": ["2x4.5s"]}
    runs = runs_of(annealing__cycles=[2, 10], annealing=["average"], **keys, split__seed=[0, 1])
    names = [M, "annealing", "augment.stretch", "padding", "segment", SEED]
    wide = console(aggregate_over_splits(runs, names), "all", []).splitlines()
    assert [line.split()[0] for line in wide[-2:]] == ["2", "10"]  # a line per row
    assert not any("±" in line for line in wide)
