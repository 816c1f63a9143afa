"""The paper's random split, split files, and the checks of classes."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lungsound.data.cycles import cycle_key
from lungsound.data.labels import FOUR_CLASS
from lungsound.data.readers.icbhi import read_annotations
from lungsound.data.splits.checks import SET_NAMES, check_classes
from lungsound.data.splits.leakage import count_leakage
from lungsound.data.splits.random import random_split
from lungsound.data.splits.table import check_names, file_split, split_table
from lungsound.errors import DataError

# Class -> cycles in ICBHI, copies per cycle, and the paper's count of copies of 80 % of them.
PAPER = {
    "normal": (3642, 2, 5827),
    "crackle": (1864, 4, 5965),
    "wheeze": (886, 10, 7088),
    "both": (506, 16, 6477),
}
STEM = "101_1b1_Al_sc_Meditron"


def cycles_of(recordings: dict[str, list[str]]) -> pd.DataFrame:
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


@pytest.fixture(scope="module")
def small() -> pd.DataFrame:
    labels = ["normal"] * 10 + ["crackle"] * 5 + ["wheeze"] * 5 + ["both"] * 5
    return cycles_of({f"{patient}_1b1_Al_sc_Meditron": labels for patient in range(101, 109)})


def test_full_database_is_split_by_the_papers_shares(real_data: Path) -> None:
    paths = sorted((real_data / "icbhi_annotations").glob("*_*_*_*_*.txt"))
    labels = {path.stem: [cycle.label for cycle in read_annotations(path)[0]] for path in paths}
    full = cycles_of(labels)
    sets = random_sets(full, seed=0)
    for label, (count, copies, published) in PAPER.items():
        shares = sets[full["label"] == label].value_counts()
        assert shares["test"] == pytest.approx(0.2 * count, abs=0.5)
        assert shares["val"] == pytest.approx(0.8 * 0.2 * count, abs=0.7)
        assert shares["train"] == pytest.approx(0.8 * 0.8 * count, abs=0.7)
        assert shares.sum() == count
        assert (count - shares["test"]) * copies == pytest.approx(published, abs=copies)
    report = count_leakage(full.assign(set=sets))
    tested = set(full["patient"][sets == "test"])
    shared = tested & set(full["patient"][sets != "test"])
    assert (report["patients"], report["test_patients"]) == (len(shared), len(tested))
    assert len(shared) > 0.9 * len(tested)


def test_every_cycle_is_in_one_set_and_seeds_differ(small: pd.DataFrame) -> None:
    splits = [random_sets(small, seed) for seed in range(10)]
    for sets in splits:
        assert set(sets) == set(SET_NAMES)
        assert sets.index.equals(small.index)
    assert len({tuple(sets) for sets in splits}) == 10
    pd.testing.assert_series_equal(random_sets(small, 4), splits[4])


def test_every_cycle_is_tested_equally_often_over_seeds(small: pd.DataFrame) -> None:
    tested = np.mean([random_sets(small, seed) == "test" for seed in range(300)], axis=0)
    assert tested.mean() == pytest.approx(0.2, abs=0.005)
    assert tested.min() > 0.1
    assert tested.max() < 0.3


def test_split_does_not_depend_on_order_index_or_other_classes(small: pd.DataFrame) -> None:
    expected = random_sets(small, seed=1)
    shuffled = small.sample(frac=1, random_state=0)
    pd.testing.assert_series_equal(random_sets(shuffled, seed=1).sort_index(), expected)
    renumbered = small.set_index(np.arange(len(small)) + 1000)
    assert random_sets(renumbered, seed=1).tolist() == expected.tolist()
    without = small[small["label"] != "normal"]
    pd.testing.assert_series_equal(random_sets(without, seed=1), expected[without.index])


def test_classes_of_equal_size_are_drawn_differently(small: pd.DataFrame) -> None:
    ordered = small.assign(set=random_sets(small, seed=1)).sort_values("key")
    draws = ordered[ordered["label"] != "normal"].groupby("label")["set"].agg(tuple)
    assert len(draws) == draws.nunique() == 3


# --- split files ---


def write_split(folder: Path, content: str | bytes) -> Path:
    path = folder / "mine.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_written_split_is_read_back_in_any_order(
    tmp_path: Path, small: pd.DataFrame, newline: str, mark: str
) -> None:
    sets = random_sets(small, seed=2)
    table = split_table(small, sets)
    assert list(table) == ["recording", "cycle", "patient", "label", "set", "content"]
    content = table.to_csv(index=False, lineterminator=newline)
    back, notes = file_split(small, write_split(tmp_path, mark + content))
    pd.testing.assert_series_equal(back, sets)
    assert notes == ()
    some = table.sample(frac=1, random_state=1)[["set", "cycle", "recording"]]
    path = write_split(tmp_path, mark + some.to_csv(index=False, lineterminator=newline))
    back, _ = file_split(small.sample(frac=1, random_state=5), path)
    pd.testing.assert_series_equal(back.sort_index(), sets)


def test_cycles_that_are_not_in_the_file_are_left_out(tmp_path: Path, small: pd.DataFrame) -> None:
    sets = random_sets(small, seed=2)
    content = split_table(small, sets).iloc[:-7].to_csv(index=False)
    back, notes = file_split(small, write_split(tmp_path, content))
    assert back.tolist() == [*sets.iloc[:-7], *[""] * 7]
    assert notes == ("mine.csv names 193 of 200 cycles: 7 left out",)
    assert split_table(small, back).to_csv(index=False) == content


def test_every_bad_line_of_a_split_file_is_reported(tmp_path: Path, small: pd.DataFrame) -> None:
    lines = [
        f"{STEM},0,train",
        f"{STEM},999,train",
        "gone,1,val",
        f"{STEM},0,val",
        f"{STEM},1,dev",
        f"{STEM},x,test",
        STEM,
        f"{STEM},{'9' * 5000},train",  # Python refuses to parse it
    ]
    path = write_split(tmp_path, "\n".join(["recording,cycle,set", *lines]))
    with pytest.raises(DataError) as error:
        file_split(small, path)
    assert str(path) in str(error.value)
    expected = [
        f"line 3: the database has no cycle '999' of recording '{STEM}', which has 0 to 24",
        "line 4: the database has no cycle '1' of recording 'gone'",  # and not what it has
        f"line 5: cycle 0 of recording {STEM} is named a second time",
        "line 6: set 'dev', expected one of train, val, test",
        "line 7: the database has no cycle 'x'",
        "line 8: set ''",
        "line 8: the database has no cycle ''",
        "line 9: the database has no cycle '999",
    ]
    for problem, start in zip(error.value.problems, expected, strict=True):
        assert problem.startswith(f"mine.csv, {start}")


@pytest.mark.parametrize("name", [f"{STEM}.wav", f"audio/{STEM}", "of another database"])
def test_names_that_fit_nothing_are_one_message(
    tmp_path: Path, small: pd.DataFrame, name: str
) -> None:
    lines = [f"{name},{cycle},train\n" for cycle in range(20)]
    path = write_split(tmp_path, "recording,cycle,set\n" + "".join(lines))
    message = (
        f"it names {name!r}, the database {STEM!r}. Expected names .* without folder and suffix"
    )
    with pytest.raises(DataError, match=message) as error:
        file_split(small, path)
    assert error.value.problems == ()
    assert str(path) in str(error.value)


@pytest.mark.parametrize("fitting", [2, 9, 10])
def test_names_of_which_most_fit_nothing_are_refused(tmp_path: Path, fitting: int) -> None:
    """Half of them may: the file of the whole database fits a part of it, and one of a part all."""
    path, names = tmp_path / "mine.csv", [str(patient) for patient in range(101, 121)]
    listed = names[:fitting] + [f"audio/{name}" for name in names[fitting:]]
    fault = f"{fitting} of the 20 recordings .* names 'audio/{names[fitting]}', the database '1"
    refusal = pytest.raises(DataError, match=fault) if fitting < 10 else nullcontext()
    with refusal:
        check_names(path, set(listed), set(names))
    check_names(path, set(names), set(names[:fitting]))
    check_names(path, set(names[:fitting]), set(names))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("recording;cycle;set\na;0;train\n", "line 1: the header is 'recording;cycle;set'"),
        ("recording,cycle\na,0\n", "set missing"),
        ("", "recording and cycle and set missing"),
        (b"PAR1\xff\xfe\x80", "not a text file"),
        (None, "cannot be read: No such file"),
    ],
)
def test_file_that_is_not_a_split_is_refused(
    tmp_path: Path, small: pd.DataFrame, content: str | bytes | None, message: str
) -> None:
    path = tmp_path / "mine.csv" if content is None else write_split(tmp_path, content)
    with pytest.raises(DataError, match=r"mine\.csv.*split\.file") as error:
        file_split(small, path)
    assert message in str(error.value)


# --- classes ---


def check_moved(cycles: pd.DataFrame, label: str, from_set: str, to: str) -> tuple[str, ...]:
    """`check_classes` after all cycles of a class in `from_set` went to the set `to`."""
    sets = random_sets(cycles, seed=0)
    sets[(cycles["label"] == label) & (sets == from_set)] = to
    return check_classes(cycles["label"], sets, FOUR_CLASS.labels)


def test_complete_split_has_no_notes(small: pd.DataFrame) -> None:
    assert check_moved(small, "none", "train", "val") == ()


def test_a_class_without_a_cycle_is_a_note(small: pd.DataFrame) -> None:
    """The database lacks it, or the table of the split leaves all its cycles out."""
    (note,) = check_moved(small[small["label"] != "both"], "none", "train", "val")
    assert note.startswith("class both has no cycle in this split: it is not learnt")
    sets = random_sets(small, seed=0).where(small["label"] != "both", "")
    assert check_classes(small["label"], sets, FOUR_CLASS.labels) == (note,)


@pytest.mark.parametrize("lacking", ["val", "test"])
def test_class_missing_in_val_or_test_is_a_note(small: pd.DataFrame, lacking: str) -> None:
    (note,) = check_moved(small, "wheeze", lacking, "train")
    assert note.startswith(f"class wheeze has no {lacking} cycle")


@pytest.mark.parametrize("to", ["val", "test", ""])
def test_class_without_a_training_cycle_is_an_error(small: pd.DataFrame, to: str) -> None:
    with pytest.raises(DataError) as error:
        check_moved(small, "both", "train", to)
    (problem,) = error.value.problems
    assert problem.startswith("class both has no training cycle (0 in train, ")
    assert problem.endswith(" in all)")


def test_empty_set_is_an_error(small: pd.DataFrame) -> None:
    sets = random_sets(small, 0).replace("val", "train")
    with pytest.raises(DataError, match="the val set is empty"):
        check_classes(small["label"], sets, FOUR_CLASS.labels)
