"""Splits: shares and disjointness at the database's full size, what a split file may say, classes
that are missing.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lungsound.data.cycles import cycle_key
from lungsound.data.labels import FOUR_CLASS
from lungsound.data.readers.icbhi import parse_name, read_annotations
from lungsound.data.splits.checks import SET_NAMES, check_classes
from lungsound.data.splits.leakage import count_leakage
from lungsound.data.splits.random import random_split
from lungsound.data.splits.table import file_split, split_table
from lungsound.errors import DataError

COUNTS = {"normal": 3642, "crackle": 1864, "wheeze": 886, "both": 506}


def table(recordings: dict[str, list[str]]) -> pd.DataFrame:
    """The columns that splits read, from recording -> labels of its cycles."""
    rows = [
        (name, name.split("_")[0], cycle, label, cycle_key(name, cycle))
        for name, labels in recordings.items()
        for cycle, label in enumerate(labels)
    ]
    cycles = pd.DataFrame(rows, columns=["recording", "patient", "cycle", "label", "key"])
    cycles["content"] = "sound of " + cycles["recording"]
    return cycles.astype({"key": "uint64"})


def random_sets(cycles: pd.DataFrame, seed: int) -> pd.Series:
    sets, notes = random_split(cycles, seed)
    assert notes == ()
    return sets


def check_labels(cycles: pd.DataFrame, sets: pd.Series) -> tuple[str, ...]:
    return check_classes(cycles["label"], sets, FOUR_CLASS.labels)


@pytest.fixture(scope="module")
def small() -> pd.DataFrame:
    labels = ["normal"] * 10 + ["crackle"] * 5 + ["wheeze"] * 5 + ["both"] * 5
    return table({f"{patient}_1b1_Al_sc_Meditron": labels for patient in range(101, 109)})


@pytest.fixture
def full(real_data: Path) -> pd.DataFrame:
    paths = sorted((real_data / "icbhi_annotations").glob("*_*_*_*_*.txt"))
    cycles = table(
        {path.stem: [cycle.label for cycle in read_annotations(path)[0]] for path in paths}
    )
    assert cycles["patient"].tolist() == [parse_name(name).patient for name in cycles["recording"]]
    return cycles


def test_full_database_is_split_by_the_papers_shares(full: pd.DataFrame) -> None:
    sets = random_sets(full, seed=0)
    for label, count in COUNTS.items():
        shares = sets[full["label"] == label].value_counts()
        assert shares["test"] == pytest.approx(0.2 * count, abs=0.5)
        assert shares["val"] == pytest.approx(0.8 * 0.2 * count, abs=0.7)
        assert shares["train"] == pytest.approx(0.8 * 0.8 * count, abs=0.7)
        assert shares.sum() == count
    # What the paper's own counts of copies start from: 80 % of each class (N x 2, C x 4, W x 2 x 5,
    # B x 2 x 8).
    kept = full["label"][sets != "test"].value_counts()
    for label, copies, published in (
        ("normal", 2, 5827),
        ("crackle", 4, 5965),
        ("wheeze", 10, 7088),
        ("both", 16, 6477),
    ):
        assert kept[label] * copies == pytest.approx(published, abs=copies)


def test_the_random_protocol_shares_patients_and_counts_them(full: pd.DataFrame) -> None:
    sets = random_sets(full, seed=3)
    report = count_leakage(full.assign(set=sets))
    shared, tested = report["patients"], report["test_patients"]
    patients = {name: set(full["patient"][sets == name]) for name in SET_NAMES}
    assert tested == len(patients["test"])
    assert shared == sum(
        patient in patients["train"] | patients["val"] for patient in patients["test"]
    )
    assert 0.9 * tested < shared <= tested


def test_every_cycle_is_in_one_set_and_seeds_differ(small: pd.DataFrame) -> None:
    splits = [random_sets(small, seed) for seed in range(10)]
    assert all(set(sets) == set(SET_NAMES) and sets.index.equals(small.index) for sets in splits)
    assert len({tuple(sets) for sets in splits}) == 10
    pd.testing.assert_series_equal(random_sets(small, 4), splits[4])


def test_over_many_seeds_every_cycle_is_tested_equally_often(small: pd.DataFrame) -> None:
    tested = np.mean([random_sets(small, seed) == "test" for seed in range(300)], axis=0)
    assert tested.mean() == pytest.approx(0.2, abs=0.005)
    assert tested.min() > 0.1
    assert tested.max() < 0.3


def test_the_split_does_not_depend_on_the_rows_order_or_index(small: pd.DataFrame) -> None:
    expected = random_sets(small, seed=1)
    shuffled = small.sample(frac=1, random_state=0)
    pd.testing.assert_series_equal(random_sets(shuffled, seed=1).sort_index(), expected)
    relabelled = small.set_index(np.arange(len(small)) + 1000)
    assert random_sets(relabelled, seed=1).tolist() == expected.tolist()


def test_one_class_is_drawn_without_regard_to_the_others(small: pd.DataFrame) -> None:
    expected = random_sets(small, seed=1)
    without = small[small["label"] != "normal"]
    pd.testing.assert_series_equal(random_sets(without, seed=1), expected[without.index])


def test_classes_of_equal_size_are_drawn_differently(small: pd.DataFrame) -> None:
    ordered = random_sets(small, seed=1)[small.sort_values("key").index]
    drawn = {
        label: tuple(ordered[small["label"][ordered.index] == label])
        for label in ("crackle", "wheeze", "both")
    }
    assert len(set(drawn.values())) == 3


@pytest.mark.parametrize("count", range(1, 12))
def test_small_classes_always_keep_training_cycles(count: int) -> None:
    cycles = table({"101_1b1_Al_sc_Meditron": ["wheeze"] * count})
    counts = random_sets(cycles, seed=0).value_counts()
    test = int(count / 5 + 0.5)
    val = int((count - test) / 5 + 0.5)
    assert [counts.get(name, 0) for name in SET_NAMES] == [count - test - val, val, test]
    assert counts["train"] >= 1


# --- split files ---


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "mine.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_written_split_is_taken_back(
    tmp_path: Path, small: pd.DataFrame, newline: str, mark: str
) -> None:
    sets = random_sets(small, seed=2)
    content = split_table(small, sets).to_csv(index=False, lineterminator=newline)
    assert content.startswith("recording,cycle,patient,label,set")
    back, notes = file_split(small, written(tmp_path, mark + content))
    pd.testing.assert_series_equal(back, sets)
    assert notes == ()


def test_a_split_file_may_be_in_any_order_and_follows_the_database(
    tmp_path: Path, small: pd.DataFrame
) -> None:
    sets = random_sets(small, seed=2)
    content = (
        split_table(small, sets)
        .sample(frac=1, random_state=1)[["set", "cycle", "recording"]]
        .to_csv(index=False)
    )
    shuffled = small.sample(frac=1, random_state=5)
    back, _ = file_split(shuffled, written(tmp_path, content))
    pd.testing.assert_series_equal(back.sort_index(), sets)


def test_cycles_the_file_does_not_name_are_left_out_with_a_note(
    tmp_path: Path, small: pd.DataFrame
) -> None:
    sets = random_sets(small, seed=2)
    content = split_table(small, sets).iloc[:-7].to_csv(index=False)
    back, notes = file_split(small, written(tmp_path, content))
    assert back.iloc[-7:].tolist() == [""] * 7
    assert back.iloc[:-7].tolist() == sets.iloc[:-7].tolist()
    assert notes == ("mine.csv names 193 of 200 cycles: 7 left out",)
    assert split_table(small, back).to_csv(index=False) == content


def test_every_bad_line_of_a_split_file_is_named(tmp_path: Path, small: pd.DataFrame) -> None:
    name = "101_1b1_Al_sc_Meditron"
    lines = [
        f"{name},0,train",
        f"{name},999,train",
        "gone,1,val",
        f"{name},0,val",
        f"{name},1,dev",
        f"{name},x,test",
        name,
    ]
    path = written(tmp_path, "recording,cycle,set\n" + "\n".join(lines) + "\n")
    with pytest.raises(DataError) as error:
        file_split(small, path)
    assert str(path) in str(error.value)
    for beginning in (
        f"mine.csv, line 3: the database has no cycle '999' of recording '{name}'",
        "mine.csv, line 4: the database has no cycle '1' of recording 'gone'",
        f"mine.csv, line 5: cycle 0 of recording {name} is named a second time",
        "mine.csv, line 6: set 'dev', expected one of train, val, test",
        "mine.csv, line 7: the database has no cycle 'x'",
        "mine.csv, line 8: the database has no cycle ''",
        "mine.csv, line 8: set ''",
    ):
        assert sum(problem.startswith(beginning) for problem in error.value.problems) == 1, (
            beginning
        )
    assert len(error.value.problems) == 7


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("recording;cycle;set\na;0;train\n", "line 1: the header is 'recording;cycle;set'"),
        ("recording,cycle\na,0\n", "set missing"),
        ("", "recording and cycle and set missing"),
        (b"PAR1\xff\xfe\x80", "not a text file"),
    ],
)
def test_a_file_that_is_no_split_is_refused(
    tmp_path: Path, small: pd.DataFrame, content: str | bytes, said: str
) -> None:
    with pytest.raises(DataError) as error:
        file_split(small, written(tmp_path, content))
    assert said in str(error.value)
    assert "mine.csv" in str(error.value)


def test_a_split_file_that_is_not_there_is_named(tmp_path: Path, small: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"mine\.csv cannot be read: No such file.*split\.file"):
        file_split(small, tmp_path / "mine.csv")


# --- classes ---


def moved(cycles: pd.DataFrame, label: str, from_sets: list[str], to: str) -> pd.Series:
    sets = random_sets(cycles, seed=0)
    sets[(cycles["label"] == label) & sets.isin(from_sets)] = to
    return sets


def test_complete_split_has_nothing_to_say(small: pd.DataFrame) -> None:
    assert check_labels(small, random_sets(small, 0)) == ()


@pytest.mark.parametrize("lacking", ["val", "test"])
def test_class_missing_in_val_or_test_is_a_note(small: pd.DataFrame, lacking: str) -> None:
    (note,) = check_labels(small, moved(small, "wheeze", [lacking], "train"))
    assert note.startswith(f"class wheeze has no {lacking} cycle")


@pytest.mark.parametrize("where", ["val", "test", ""])
def test_class_without_a_training_cycle_is_an_error(small: pd.DataFrame, where: str) -> None:
    with pytest.raises(DataError) as error:
        check_labels(small, moved(small, "both", ["train"], where))
    assert "class both has no training cycle (0 in train, " in str(error.value)
    assert " in all)" in str(error.value)
    assert len(error.value.problems) == 1


def test_a_class_the_database_lacks_is_no_matter(small: pd.DataFrame) -> None:
    rest = small[small["label"] != "both"]
    assert check_labels(rest, random_sets(rest, 0)) == ()


def test_an_empty_set_is_an_error(small: pd.DataFrame) -> None:
    sets = random_sets(small, 0).replace("val", "train")
    with pytest.raises(DataError, match="the val set is empty"):
        check_labels(small, sets)


def test_a_number_of_thousands_of_digits_is_no_cycle(tmp_path: Path) -> None:
    """Python refuses to read it, in words of its own."""
    path = tmp_path / "split.csv"
    path.write_text(f"recording,cycle,set\n101_1b1_Al_sc_Meditron,{'9' * 5000},train\n")
    cycles = pd.DataFrame({"recording": ["101_1b1_Al_sc_Meditron"], "cycle": [0]})
    with pytest.raises(DataError, match=r"split\.csv, line 2: the database has no cycle"):
        file_split(cycles, path)
