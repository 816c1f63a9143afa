"""Splits by patient and the databases' own, at full size: who is in which set, and who is not."""

import re
from collections import Counter
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.runs import compose_settings

from lungsound.config.schema import Config
from lungsound.data.cycles import cycle_key
from lungsound.data.database import Database, assign_split
from lungsound.data.readers.icbhi import read_annotations
from lungsound.data.readers.sprsound import read_sprsound
from lungsound.data.registry import DATABASES
from lungsound.data.splits.checks import SET_NAMES
from lungsound.data.splits.official import (
    OFFICIAL_SPLIT_FILENAME,
    SplitResult,
    column_split,
    find_official_file,
    official_icbhi,
    official_sprsound,
    sprsound_train_part,
)
from lungsound.data.splits.patient import patient_split
from lungsound.data.splits.protocols import run_protocol
from lungsound.errors import DataError

PAIR = ("41279835_14.1_0_p1_2945", "41279835_14.1_0_p1_2050")  # one sound, in training and in test
SHARED = ["156", "218"]  # patients on both sides of ICBHI's own split
FOLDS, SEEDS = range(5), (0, 7)
UNKNOWN_NOTE = "patients are unknown: validation is a fifth of the training recordings"
DATABASE_SIZES = {"icbhi": (6898, 126), "sprsound": (7660, 247)}  # cycles, patients


def cycles_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The columns that protocols read."""
    cycles = pd.DataFrame(rows)
    keys = [cycle_key(*name) for name in zip(cycles["recording"], cycles["cycle"], strict=True)]
    content = cycles["recording"].replace(PAIR[1], PAIR[0])
    return cycles.assign(key=np.array(keys, "uint64"), content=content)


@pytest.fixture(scope="module")
def icbhi(real_data: Path) -> pd.DataFrame:
    rows = [
        {
            "recording": path.stem,
            "patient": path.stem[:3],
            "cycle": cycle.line,
            "label": cycle.label,
        }
        for path in sorted((real_data / "icbhi_annotations").glob("*_*_*_*_*.txt"))
        for cycle in read_annotations(path)[0]
    ]
    return cycles_of(rows).assign(part="", event_type="")


@pytest.fixture(scope="module")
def sprsound(real_data: Path) -> pd.DataFrame:
    rows = [
        {"recording": one.name, "patient": one.patient, "part": one.part, "cycle": cycle.line}
        | {"label": cycle.label, "event_type": cycle.event_type}
        for one in read_sprsound(real_data / "sprsound").recordings
        for cycle in one.cycles
    ]
    return cycles_of(rows)


@pytest.fixture(scope="module")
def with_inter(sprsound: pd.DataFrame) -> pd.DataFrame:
    """And an inter part: the training part again, as other children's other recordings."""
    other = sprsound[sprsound["part"] == "train"].iloc[:600].assign(part="inter")
    other = other.assign(recording="9" + other["recording"], patient="9" + other["patient"])
    return pd.concat([sprsound, cycles_of(other.to_dict("records"))], ignore_index=True)


@pytest.fixture(scope="module")
def file(real_data: Path) -> Path:
    return real_data / OFFICIAL_SPLIT_FILENAME


@pytest.fixture(scope="module")
def folds(icbhi: pd.DataFrame, sprsound: pd.DataFrame) -> Any:
    """`folds(database, fold, seed)`: the sets by patient, each made once."""
    databases = {"icbhi": icbhi, "sprsound": sprsound}
    return cache(lambda database, fold, seed: patient_split(databases[database], seed, 5, fold)[0])


def official(cycles: pd.DataFrame, file: Path, clean: bool = False, seed: int = 0) -> SplitResult:
    return official_icbhi(cycles, seed, "/not/read", file, clean)


def patients(cycles: pd.DataFrame, sets: pd.Series, *names: str) -> set[str]:
    return set(cycles["patient"][sets.isin(names)])


def val_as_train(sets: pd.Series) -> pd.Series:
    return sets.replace("val", "train")


def val_share(sets: pd.Series) -> float:
    return float((sets == "val").sum() / sets.isin(["train", "val"]).sum())


# --- by patient ---


@pytest.mark.parametrize(("database", "column"), [("icbhi", "label"), ("sprsound", "event_type")])
@pytest.mark.parametrize("seed", SEEDS)
def test_folds_share_no_patient_and_classes_are_even(
    request: pytest.FixtureRequest, folds: Any, database: str, column: str, seed: int
) -> None:
    """No fold's share of a class is off a fifth by more than half of what one patient has of it.

    A patient who has more than a fifth is in some fold, which nobody can help.
    """
    cycles = request.getfixturevalue(database)
    assert (len(cycles), cycles["patient"].nunique()) == DATABASE_SIZES[database]
    shares = pd.crosstab(cycles["patient"], cycles[column], normalize="columns")
    allowed = np.maximum(shares.max() / 2, shares.max() - 0.2)
    tested: Counter[str] = Counter()
    for fold in FOLDS:
        sets = folds(database, fold, seed)
        assert set(sets) == set(SET_NAMES)
        assert cycles["patient"].groupby(sets).nunique().sum() == cycles["patient"].nunique()
        assert val_share(sets) == pytest.approx(0.2, abs=0.025)
        in_test = patients(cycles, sets, "test")
        tested.update(in_test)
        test = shares.loc[sorted(in_test)].sum()
        assert ((test - 0.2).abs() <= allowed + 1e-12).all(), (test, allowed)
    assert tested == Counter(set(cycles["patient"]))  # each once


def test_folds_differ_more_than_seeds(icbhi: pd.DataFrame, folds: Any) -> None:
    one, other = (folds("icbhi", 0, seed) for seed in SEEDS)
    assert not one.equals(other)
    for fold, another in ((0, 1), (2, 4)):
        tested = [patients(icbhi, folds("icbhi", number, 0), "test") for number in (fold, another)]
        assert not tested[0] & tested[1]


def test_order_and_index_of_the_rows_do_not_matter(
    icbhi: pd.DataFrame, sprsound: pd.DataFrame, file: Path
) -> None:
    for cycles, protocol in (
        (icbhi, lambda cycles: patient_split(cycles, 7, 5, 1)),
        (icbhi, lambda cycles: official(cycles, file, clean=True, seed=7)),
        (sprsound, lambda cycles: official_sprsound(cycles, 3, None, clean=True)),
    ):
        shuffled = cycles.sample(frac=1, random_state=7)
        expected, _ = protocol(cycles)
        pd.testing.assert_series_equal(protocol(shuffled)[0].sort_index(), expected)
        renumbered, _ = protocol(shuffled.reset_index(drop=True))
        assert renumbered.tolist() == expected[shuffled.index].tolist()


@pytest.mark.parametrize(
    ("kept", "folds", "message"),
    [
        (4, 5, "^Expected at least 5 patients for 5 folds by patient, but got 4"),
        (20, 21, "^Expected at least 21 patients for 21 folds by patient, but got 20"),
        (5, 5, r"^No validation set can be cut from training by patient\. .* but got 4"),
    ],
)
def test_too_few_patients_is_an_error(
    icbhi: pd.DataFrame, kept: int, folds: int, message: str
) -> None:
    few = icbhi[icbhi["patient"].isin(sorted(set(icbhi["patient"]))[:kept])]
    with pytest.raises(DataError, match=message):
        patient_split(few, 0, folds, 0)


def test_classes_too_small_for_the_folds_are_an_error(icbhi: pd.DataFrame) -> None:
    few = icbhi.groupby("label").head(1).reset_index(drop=True)
    few = few.assign(patient=["1", "2", "3", "4"])
    with pytest.raises(DataError, match="No 3 folds by patient can be made of 4 cycles"):
        patient_split(few, 0, 3, 0)


# --- ICBHI's own ---


def test_official_split_of_the_full_database(icbhi: pd.DataFrame, file: Path) -> None:
    sets, notes = official(icbhi, file)
    lines = pd.read_csv(file, sep=r"\s+", names=["recording", "set"])
    listed = lines.set_index(lines["recording"].str.rsplit("_", n=1).str[0])["set"]
    expected = icbhi["recording"].str.rsplit("_", n=1).str[0].map(listed)
    sides = val_as_train(sets)
    assert sides.tolist() == expected.tolist()
    assert sides.value_counts().to_dict() == {"train": 4142, "test": 2756}
    recordings = icbhi["recording"].groupby(sides).nunique()
    assert recordings.to_dict() == {"train": 539, "test": 381}
    match = "226_1b1_Pl_sc_Meditron is taken for 226_1b1_Pl_sc_LittC2SE"
    assert notes == (f"{OFFICIAL_SPLIT_FILENAME}: {match}",)
    assert patients(icbhi, sides, "test") & patients(icbhi, sides, "train") == set(SHARED)


def test_clean_split_takes_two_patients_out_of_test(icbhi: pd.DataFrame, file: Path) -> None:
    plain, _ = official(icbhi, file)
    clean, notes = official(icbhi, file, clean=True)
    out = icbhi[clean == ""]
    assert (out["recording"].nunique(), len(out), sorted(set(out["patient"]))) == (12, 120, SHARED)
    assert set(plain[out.index]) == {"test"}
    pd.testing.assert_series_equal(clean.drop(out.index), plain.drop(out.index))
    reason = "of patients who are also in training (156, 218)"
    assert notes[1:] == (f"left out of test: 12 recordings, 120 cycles, {reason}",)
    assert not patients(icbhi, clean, "test") & patients(icbhi, clean, "train", "val")


def test_official_validation_is_of_other_patients_by_seed(icbhi: pd.DataFrame, file: Path) -> None:
    splits = [official(icbhi, file, seed=seed)[0] for seed in range(4)]
    for sets in splits:
        val = patients(icbhi, sets, "val")
        assert not val & (patients(icbhi, sets, "train", "test") | set(SHARED))
        assert val_share(sets) == pytest.approx(0.2, abs=0.025)
        assert set(icbhi["label"][sets == "val"]) == {"normal", "crackle", "wheeze", "both"}
        pd.testing.assert_series_equal(val_as_train(sets), val_as_train(splits[0]))
    assert patients(icbhi, splits[0], "val") != patients(icbhi, splits[1], "val")


@pytest.mark.parametrize("clean", [False, True])
def test_patients_of_both_sides_are_not_in_validation(
    tmp_path: Path, icbhi: pd.DataFrame, clean: bool
) -> None:
    """Of the published two none may happen to be drawn: here it is most of them."""
    recordings = icbhi.drop_duplicates("recording")
    several = recordings["patient"].duplicated() & (recordings["patient"] < "180")
    is_test = several | (recordings["patient"] > "215")
    lines = recordings["recording"] + np.where(is_test, " test", " train")
    (tmp_path / "mine.txt").write_text("\n".join(lines))
    both = set(recordings["patient"][several])
    sets, notes = official(icbhi, tmp_path / "mine.txt", clean)
    assert len(both) > 40
    assert patients(icbhi, sets, "val")
    assert not patients(icbhi, sets, "val") & both
    assert both <= patients(icbhi, sets, "train")
    assert bool(both & patients(icbhi, sets, "test")) == (not clean) == (notes == ())


def test_devices_of_another_release_are_matched_and_noted(icbhi: pd.DataFrame, file: Path) -> None:
    expected, _ = official(icbhi, file)
    renamed = icbhi["recording"].str.replace(r"_(AKGC417L|Litt3200)$", "_Other", regex=True)
    sets, notes = official(icbhi.assign(recording=renamed), file)
    pd.testing.assert_series_equal(sets, expected)
    changed = sorted(set(icbhi["recording"][renamed != icbhi["recording"]]))
    assert len(notes) == len(changed) + 1 > 400
    other = changed[0].rsplit("_", 1)[0] + "_Other"
    assert notes[0] == f"{OFFICIAL_SPLIT_FILENAME}: {changed[0]} is taken for {other}"


def test_recordings_on_one_side_alone_are_noted(icbhi: pd.DataFrame, file: Path) -> None:
    """Those that the file does not name, and those whose name could be two of the file."""
    some = icbhi[~icbhi["recording"].isin(sorted(set(icbhi["recording"]))[100:130])]
    unknown = some.iloc[:3].assign(recording="999_1b1_Al_sc_Meditron", patient="999")
    alike = some[some["recording"] == "226_1b1_Pl_sc_LittC2SE"]
    alike = alike.assign(recording="226_1b1_Pl_sc_Other")
    sets, notes = official(pd.concat([some, unknown, alike], ignore_index=True), file)
    lost = ["226_1b1_Pl_sc_LittC2SE", "226_1b1_Pl_sc_Other", "999_1b1_Al_sc_Meditron"]
    assert (sets == "").sum() == 3 + 2 * len(alike)
    assert set(sets.iloc[len(some) :]) == {""}
    assert notes == (
        f"{OFFICIAL_SPLIT_FILENAME} does not name 3 recordings, which are left out: "
        f"{', '.join(lost)}",
        f"31 of the 920 recordings in {OFFICIAL_SPLIT_FILENAME} are not in use",
    )


LINE = "expected a recording and train or test"


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        ("a_1b1_Al_sc_X train\n\nb_1b1_Al_sc_X dev\n", [f"line 3: {LINE}: 'b_1b1"]),
        ("a_1b1_Al_sc_X\n", [f"line 1: {LINE}"]),
        ("a train test\nb\ttest\nc TEST\n", ["line 1: ", "line 3: "]),
        ("a_1b1_Al_sc_X train\na_1b1_Al_sc_Y test\n", ["line 2: a_1b1_Al_sc_Y is named a second"]),
        ("", ["it is empty"]),
        (" \n\n", ["it is empty"]),
        ("x" * 9999, [f"line 1: {LINE}: 'xxx"]),
    ],
)
def test_every_bad_line_of_the_official_file_is_reported(
    tmp_path: Path, icbhi: pd.DataFrame, content: str, problems: list[str]
) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(content)
    with pytest.raises(DataError) as error:
        official(icbhi, path)
    assert str(error.value).startswith(f"The official split {path} cannot be used (split.file):")
    for problem, message in zip(error.value.problems, problems, strict=True):
        assert message in problem
        assert len(problem) < 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot be read: No such file or directory \(split\.file\)"),
        (b"\xff\xfe\x80", r"mine\.txt is not a text file: .*split\.file"),
        (
            b"501_1b1_Al_sc_X train\n",
            r"None of the 1 recordings .*mine\.txt .* names '501_1b1_Al_sc_X', the database '101_",
        ),
    ],
)
def test_unusable_official_file_is_refused(
    tmp_path: Path, icbhi: pd.DataFrame, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "mine.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        official(icbhi, tmp_path / "mine.txt")


def test_official_file_may_have_a_byte_order_mark(
    tmp_path: Path, icbhi: pd.DataFrame, file: Path
) -> None:
    content = b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "marked.txt").write_bytes(content)
    assert (official(icbhi, tmp_path / "marked.txt")[0] == "test").sum() == 2756


@pytest.mark.parametrize("level", ["audio_and_txt_files", ".", ".."])
def test_official_file_is_found_beside_the_database(tmp_path: Path, level: str) -> None:
    root = tmp_path / "icbhi"
    (root / "audio_and_txt_files").mkdir(parents=True)
    (root / "audio_and_txt_files" / "101_1b1_Al_sc_Meditron.wav").write_bytes(b"")
    message = rf"split=official: expected {OFFICIAL_SPLIT_FILENAME} in .*split\.file=PATH"
    with pytest.raises(DataError, match=message):
        find_official_file(root)
    place = root / level / OFFICIAL_SPLIT_FILENAME
    place.write_bytes(b"\xff")
    assert find_official_file(root).samefile(place)
    with pytest.raises(DataError, match=r"^The official split .* is not a text file"):
        official_icbhi(pd.DataFrame({"recording": []}), 0, root)
    place.write_text("")
    with pytest.raises(DataError, match=f"The official split .*{OFFICIAL_SPLIT_FILENAME} cannot"):
        official_icbhi(pd.DataFrame({"recording": []}), 0, root)


# --- SPRSound's own ---


@pytest.mark.parametrize("part", [None, "intra"])
def test_intra_is_the_test_part_that_is_present(sprsound: pd.DataFrame, part: str | None) -> None:
    sets, notes = official_sprsound(sprsound, 0, part)
    counts = pd.crosstab(sprsound["part"], sets)
    assert counts.loc["intra"].to_dict() == {"test": 1004, "train": 0, "val": 0}
    assert (counts.loc["train", "test"], counts.loc["train"].sum()) == (0, 6656)
    assert notes == ()


INTER_MISSING = "but there is no inter, only intra, train"


@pytest.mark.parametrize(
    ("part", "present", "message"),
    [
        ("inter", {"train", "intra"}, f"inter: .* train and inter of SPRSound, {INTER_MISSING}"),
        ("both", {"train", "intra"}, f"both: .* train and inter and intra of .*, {INTER_MISSING}"),
        (None, {"train"}, "null: .* train and inter or intra .* no inter and no intra, only train"),
        (None, {"intra"}, "null: .* train and intra .* there is no train, only intra"),
    ],
)
def test_missing_part_is_an_error(
    sprsound: pd.DataFrame, part: str | None, present: set[str], message: str
) -> None:
    cycles = sprsound[sprsound["part"].isin(present)]
    with pytest.raises(DataError, match=f"^split.part={message}$"):
        official_sprsound(cycles, 0, part)


@pytest.mark.parametrize(
    ("part", "tested"), [("inter", {"inter"}), ("intra", {"intra"}), ("both", {"inter", "intra"})]
)
def test_chosen_part_is_tested_and_the_other_is_left_out(
    with_inter: pd.DataFrame, part: str, tested: set[str]
) -> None:
    sets, _ = official_sprsound(with_inter, 0, part)
    assert set(with_inter["part"][sets == "test"]) == tested
    assert set(with_inter["part"][sets == ""]) == {"inter", "intra"} - tested
    assert set(with_inter["part"][sets.isin(["train", "val"])]) == {"train"}
    default, _ = official_sprsound(with_inter, 0)
    assert default.equals(sets) == (part == "both")


@pytest.mark.parametrize("seed", [0, 1])
def test_validation_is_the_same_for_every_test_part(
    sprsound: pd.DataFrame, with_inter: pd.DataFrame, seed: int
) -> None:
    training = sprsound["part"] == "train"
    sets, _ = official_sprsound(sprsound, seed, "intra")
    for part, clean in (("inter", False), ("both", True)):
        others, _ = official_sprsound(with_inter, seed, part, clean)
        assert others[: len(sprsound)][training].equals(sets[training])


def test_clean_takes_the_sound_in_both_parts_out_of_test(sprsound: pd.DataFrame) -> None:
    plain, _ = official_sprsound(sprsound, 0)
    clean, notes = official_sprsound(sprsound, 0, clean=True)
    copies = sprsound["recording"] == PAIR[1]
    assert set(plain[copies]) == {"test"}
    assert clean.equals(plain.mask(copies, ""))
    reason = "that lie in training under another name"
    assert notes == (f"left out of test: 1 recordings, {copies.sum()} cycles, {reason}",)
    once = sprsound.assign(content=sprsound["recording"])
    assert official_sprsound(once, 0, clean=True)[1] == ()


# --- a table's column `set`, which is the part of its cycles ---


def test_the_column_set_is_the_split(sprsound: pd.DataFrame) -> None:
    sets = pd.Series(np.resize(["train", "val", "test", ""], len(sprsound)), dtype="str")
    found, notes = column_split(sprsound.assign(part=sets), 0)
    assert found.tolist() == sets.tolist()
    (note,) = notes
    assert note == f"the column set is empty for {(sets == '').sum()} cycles: they are left out"


@pytest.mark.parametrize("by", ["patient", "recording"])
def test_a_column_without_val_has_its_validation_from_train(
    sprsound: pd.DataFrame, by: str
) -> None:
    """By patient, none of whom is in test; by recording if patients are unknown."""
    tested = sprsound["part"] == "intra"
    cycles = sprsound.assign(part=tested.map({True: "test", False: "train"}))
    if by == "recording":
        cycles["patient"] = ""
    sets, notes = column_split(cycles, 0)
    assert (sets[tested] == "test").all()
    val = set(cycles[by][sets == "val"])
    assert val
    assert not val & set(cycles[by][sets != "val"])
    assert not cycles["recording"][sets == "train"].isin(cycles["recording"][sets == "val"]).any()
    assert notes == (UNKNOWN_NOTE,) * (by == "recording")


def test_test_parts_decide_nothing_in_a_choice(with_inter: pd.DataFrame) -> None:
    trained = with_inter["part"] == "train"
    for fold in range(5):
        sets, _ = sprsound_train_part(with_inter, 0, 5, fold)
        assert (sets[~trained] == "").all()
        expected, _ = patient_split(with_inter[trained].reset_index(drop=True), 0, 5, fold)
        assert sets[trained].tolist() == expected.tolist()


def test_what_a_table_lacks_is_named(sprsound: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"split=column: expected a column `set` in data\.table"):
        column_split(sprsound.assign(part=""), 0)
    with pytest.raises(DataError, match=r"split=patient: .* patients are unknown: add the column"):
        patient_split(sprsound.assign(patient=""), 0, 5, 0)


# --- every protocol, as a run gets it ---


def configure(*overrides: str) -> Config:
    return compose_settings("data.root=/there", *overrides)


@pytest.mark.parametrize(
    ("database", "split"),
    [
        ("icbhi", "split=patient"),
        ("icbhi", "split=patient split.fold=3 split.folds=4"),
        ("icbhi", "split=official split.file={file}"),
        ("icbhi", "split=official_clean split.file={file}"),
        ("sprsound", "split=patient split.fold=2"),
        ("sprsound", "split=train_part split.fold=2"),
        ("sprsound", "split=official split.part=inter"),
        ("sprsound", "split=official_clean"),
    ],
)
def test_validation_of_every_protocol_by_patient(
    icbhi: pd.DataFrame, with_inter: pd.DataFrame, file: Path, database: str, split: str
) -> None:
    cycles = {"icbhi": icbhi, "sprsound": with_inter}[database]
    settings = configure(f"data={database}", *split.format(file=file).split())
    protocol = DATABASES[database].all_protocols[settings.split.protocol]
    sets, _ = run_protocol(protocol, cycles, {**vars(settings.split), "root": "/there"})
    val = patients(cycles, sets, "val")
    assert not val & patients(cycles, sets, "train")
    # The intra part is of children who are in training, by its definition.
    intra = cycles["part"] == "intra"
    assert not val & patients(cycles[~intra], sets[~intra], "test")
    has_intra = (sets[intra] == "test").any() and "official" in split
    assert bool(val & patients(cycles, sets, "test")) == has_intra
    assert val_share(sets) == pytest.approx(0.2, abs=0.03)


def assign_sprsound(cycles: pd.DataFrame, *overrides: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """SPRSound's own split, as a run gets it."""
    settings = configure("data=sprsound", "split=official", *overrides)
    spec, store = DATABASES["sprsound"], SimpleNamespace()
    database = Database(spec, False, 0, cycles, store, "", ())  # type: ignore[arg-type]
    labels = spec.task(settings.task.classes)
    return assign_split(database, labels, "official", vars(settings.split))


@pytest.mark.parametrize("seed", range(3))
def test_validation_without_stridor_is_noted(sprsound: pd.DataFrame, seed: int) -> None:
    """Of training's two children with stridor one has 14 of 15 events: val cannot have a fifth."""
    used, notes = assign_sprsound(sprsound, "task=sprsound_seven", f"split.seed={seed}")
    counts = pd.crosstab(used["event_type"], used["set"])
    assert counts.index[counts["val"] == 0].tolist() == ["Stridor"]
    assert (counts[["train", "test"]] > 0).all(axis=None)
    (note,) = notes
    assert re.fullmatch(r"class Stridor has no val cycle: .*", note)
    targets = dict(zip(used["target"], used["event_type"], strict=True))
    kinds = ["Normal", "Fine Crackle", "Coarse Crackle", "Wheeze", "Rhonchi", "Stridor"]
    assert [targets[index] for index in range(7)] == [*kinds, "Wheeze+Crackle"]


def test_four_classes_have_no_notes(sprsound: pd.DataFrame) -> None:
    used, notes = assign_sprsound(sprsound)
    assert notes == ()
    targets = used.groupby("label")["target"].unique().map(list).to_dict()
    assert targets == {"normal": [0], "crackle": [1], "wheeze": [2], "both": [3]}


def test_training_without_a_class_is_an_error(sprsound: pd.DataFrame) -> None:
    one = sprsound[(sprsound["event_type"] != "Stridor") | (sprsound["part"] == "intra")]
    with pytest.raises(DataError) as error:
        assign_sprsound(one.reset_index(drop=True), "task=sprsound_seven")
    counts = "(0 in train, 0 in val, 2 in test; 2 in all)"
    assert error.value.problems == (f"class Stridor has no training cycle {counts}",)
