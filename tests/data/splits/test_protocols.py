"""Protocols by patient and the databases' own, at the databases' full size: who is in which set,
and who is not.
"""

import re
from collections import Counter
from functools import cache
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.runs import compose_config

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
    find_official_file,
    official_sprsound,
)
from lungsound.data.splits.official import official_icbhi as official_split
from lungsound.data.splits.patient import patient_split
from lungsound.data.splits.protocols import run_protocol
from lungsound.errors import DataError
from lungsound.runs.validation import validate_config

PAIR = ("41279835_14.1_0_p1_2945", "41279835_14.1_0_p1_2050")  # one sound, in training and in test
SHARED = ["156", "218"]  # patients on both sides of ICBHI's own split
FOLDS, SEEDS = range(5), (0, 7)


def settings(*overrides: str) -> Config:
    with compose_config(*overrides) as (cfg, _):
        return validate_config(cfg)


def official_icbhi(cycles: pd.DataFrame, seed: int, file: Path, clean: bool) -> SplitResult:
    return official_split(cycles, seed, "/not/read", file, clean)


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The columns that protocols read."""
    cycles = pd.DataFrame(rows)
    keys = [cycle_key(*name) for name in zip(cycles["recording"], cycles["cycle"], strict=True)]
    return cycles.assign(
        key=np.array(keys, "uint64"), content=cycles["recording"].replace(PAIR[1], PAIR[0])
    )


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
    return table(rows).assign(part="", event_type="")


@pytest.fixture(scope="module")
def sprsound(real_data: Path) -> pd.DataFrame:
    return table(
        [
            {"recording": one.name, "patient": one.patient, "part": one.part, "cycle": cycle.line}
            | {"label": cycle.label, "event_type": cycle.event_type}
            for one in read_sprsound(real_data / "sprsound").recordings
            for cycle in one.cycles
        ]
    )


@pytest.fixture(scope="module")
def with_inter(sprsound: pd.DataFrame) -> pd.DataFrame:
    """And an inter part: the training part again, as other children's other recordings."""
    other = sprsound[sprsound["part"] == "train"].iloc[:600].assign(part="inter")
    other = other.assign(recording="9" + other["recording"], patient="9" + other["patient"])
    return pd.concat([sprsound, table(other.to_dict("records"))], ignore_index=True)


@pytest.fixture(scope="module")
def file(real_data: Path) -> Path:
    return real_data / OFFICIAL_SPLIT_FILENAME


@pytest.fixture(scope="module")
def named(file: Path) -> pd.Series:
    """The official file by pandas: the first four fields of a recording's name -> train or test."""
    lines = pd.read_csv(file, sep=r"\s+", names=["recording", "set"])
    return lines.set_index(lines["recording"].str.rsplit("_", n=1).str[0])["set"]


@pytest.fixture(scope="module")
def folds(icbhi: pd.DataFrame, sprsound: pd.DataFrame) -> Any:
    """`folds(database, fold, seed)`: the sets by patient, each made once."""
    databases = {"icbhi": icbhi, "sprsound": sprsound}
    return cache(lambda database, fold, seed: patient_split(databases[database], seed, 5, fold)[0])


def patients(cycles: pd.DataFrame, sets: pd.Series, name: str) -> set[str]:
    return set(cycles["patient"][sets == name])


# --- by patient ---


@pytest.mark.parametrize("database", ["icbhi", "sprsound"])
@pytest.mark.parametrize("seed", SEEDS)
def test_no_patient_is_in_two_sets_and_each_is_tested_once(
    request: pytest.FixtureRequest, folds: Any, database: str, seed: int
) -> None:
    cycles = request.getfixturevalue(database)
    assert (len(cycles), cycles["patient"].nunique()) == {
        "icbhi": (6898, 126),
        "sprsound": (7660, 247),
    }[database]
    tested: Counter[str] = Counter()
    for fold in FOLDS:
        sets = folds(database, fold, seed)
        assert set(sets) == set(SET_NAMES)
        assert cycles["patient"].groupby(sets).nunique().sum() == cycles["patient"].nunique()
        tested.update(patients(cycles, sets, "test"))
        assert (sets == "val").sum() / (sets != "test").sum() == pytest.approx(0.2, abs=0.025)
    assert tested == Counter(set(cycles["patient"]))


@pytest.mark.parametrize(("database", "column"), [("icbhi", "label"), ("sprsound", "event_type")])
@pytest.mark.parametrize("seed", SEEDS)
def test_classes_are_as_even_as_whole_patients_allow(
    request: pytest.FixtureRequest, folds: Any, database: str, column: str, seed: int
) -> None:
    """No fold's share of a class is off a fifth by more than half of what one patient may hold of
    it.

    A patient who holds more than a fifth is in some fold, which nobody can help.
    """
    cycles = request.getfixturevalue(database)
    shares = pd.crosstab(cycles["patient"], cycles[column], normalize="columns")
    allowed = np.maximum(shares.max() / 2, shares.max() - 0.2)
    for fold in FOLDS:
        test = shares.loc[sorted(patients(cycles, folds(database, fold, seed), "test"))].sum()
        assert ((test - 0.2).abs() <= allowed + 1e-12).all(), (test, allowed)


def test_folds_differ_more_than_seeds(icbhi: pd.DataFrame, folds: Any) -> None:
    """And seeds do something."""
    assert not folds("icbhi", 0, SEEDS[0]).equals(folds("icbhi", 0, SEEDS[1]))
    tested = {
        (fold, seed): patients(icbhi, folds("icbhi", fold, seed), "test")
        for fold in FOLDS
        for seed in SEEDS
    }
    for fold, other in ((0, 1), (2, 4)):
        assert not tested[fold, SEEDS[0]] & tested[other, SEEDS[0]]


@pytest.mark.parametrize("seed", SEEDS)
def test_neither_the_rows_order_nor_their_index_matters(
    icbhi: pd.DataFrame, file: Path, seed: int
) -> None:
    shuffled = icbhi.sample(frac=1, random_state=seed)
    renumbered = shuffled.reset_index(drop=True)
    for protocol in (
        lambda cycles: patient_split(cycles, seed, 5, 1)[0],
        lambda cycles: official_icbhi(cycles, seed, file, clean=True)[0],
    ):
        expected = protocol(icbhi)
        pd.testing.assert_series_equal(protocol(shuffled).sort_index(), expected)
        assert protocol(renumbered).tolist() == expected[shuffled.index].tolist()


def test_the_rows_order_does_not_matter_in_sprsounds_own_split(sprsound: pd.DataFrame) -> None:
    expected, _ = official_sprsound(sprsound, 3, None, clean=True)
    sets, _ = official_sprsound(sprsound.sample(frac=1, random_state=3), 3, None, clean=True)
    pd.testing.assert_series_equal(sets.sort_index(), expected)


@pytest.mark.parametrize(("kept", "count", "said"), [(4, 5, "got 4"), (20, 21, "got 20")])
def test_fewer_patients_than_folds_is_an_error(
    icbhi: pd.DataFrame, kept: int, count: int, said: str
) -> None:
    few = icbhi[icbhi["patient"].isin(sorted(set(icbhi["patient"]))[:kept])]
    with pytest.raises(
        DataError,
        match=f"Expected at least {count} patients for {count} folds by patient, but {said}",
    ):
        patient_split(few, 0, count, 0)


def test_too_few_patients_for_a_validation_set_says_what_for(icbhi: pd.DataFrame) -> None:
    few = icbhi[icbhi["patient"].isin(["101", "102", "103", "104", "105"])]
    with pytest.raises(
        DataError, match=r"No validation set can be cut from training by patient\. .* but got 4"
    ):
        patient_split(few, 0, 5, 0)


def test_classes_too_small_for_the_folds_are_an_error(icbhi: pd.DataFrame) -> None:
    few = icbhi.groupby("label").head(1).reset_index(drop=True)
    few = few.assign(patient=["1", "2", "3", "4"])
    with pytest.raises(DataError, match="No 3 folds by patient can be made of 4 cycles"):
        patient_split(few, 0, 3, 0)


# --- ICBHI's own ---


def with_val_as_train(sets: pd.Series) -> pd.Series:
    return sets.replace("val", "train")


def test_the_official_split_of_the_full_database(
    icbhi: pd.DataFrame, file: Path, named: pd.Series
) -> None:
    sets, notes = official_icbhi(icbhi, 0, file, clean=False)
    expected = icbhi["recording"].str.rsplit("_", n=1).str[0].map(named)
    assert with_val_as_train(sets).tolist() == expected.tolist()
    cycles = with_val_as_train(sets).value_counts()
    recordings = icbhi["recording"].groupby(with_val_as_train(sets)).nunique()
    assert cycles.to_dict() == {"train": 4142, "test": 2756}
    assert recordings.to_dict() == {"train": 539, "test": 381}
    assert notes == (
        f"{OFFICIAL_SPLIT_FILENAME}: 226_1b1_Pl_sc_Meditron is taken for 226_1b1_Pl_sc_LittC2SE",
    )
    assert (
        sorted(patients(icbhi, sets, "test") & patients(icbhi, with_val_as_train(sets), "train"))
        == SHARED
    )


def test_the_clean_split_takes_two_patients_out_of_test(icbhi: pd.DataFrame, file: Path) -> None:
    official, _ = official_icbhi(icbhi, 0, file, clean=False)
    clean, notes = official_icbhi(icbhi, 0, file, clean=True)
    assert with_val_as_train(clean).value_counts().to_dict() == {
        "train": 4142,
        "test": 2636,
        "": 120,
    }
    out = icbhi[clean == ""]
    assert (out["recording"].nunique(), sorted(set(out["patient"]))) == (12, SHARED)
    assert set(official[out.index]) == {"test"}
    pd.testing.assert_series_equal(
        clean.drop(out.index), official.drop(out.index)
    )  # one training for both
    reason = "of patients who are also in training (156, 218)"
    assert notes[1:] == (f"left out of test: 12 recordings, 120 cycles, {reason}",)
    assert not patients(icbhi, clean, "test") & (
        patients(icbhi, clean, "train") | patients(icbhi, clean, "val")
    )


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_official_validation_is_patients_of_nothing_else(
    icbhi: pd.DataFrame, file: Path, clean: bool, seed: int
) -> None:
    sets, _ = official_icbhi(icbhi, seed, file, clean)
    val = patients(icbhi, sets, "val")
    assert val and not val & (
        patients(icbhi, sets, "train") | patients(icbhi, sets, "test") | set(SHARED)
    )
    assert (sets == "val").sum() / 4142 == pytest.approx(0.2, abs=0.025)
    assert set(icbhi["label"][sets == "val"]) == {"normal", "crackle", "wheeze", "both"}


@pytest.mark.parametrize("clean", [False, True])
def test_no_patient_of_test_validates_however_many_are_on_both_sides(
    tmp_path: Path, icbhi: pd.DataFrame, clean: bool
) -> None:
    """Of the published two none may happen to be drawn: here it is most of them."""
    recordings = icbhi.drop_duplicates("recording")
    several = recordings["patient"].duplicated() & (recordings["patient"] < "180")
    lines = recordings["recording"] + np.where(
        several | (recordings["patient"] > "215"), " test", " train"
    )
    (tmp_path / "mine.txt").write_text("\n".join(lines))
    both = set(recordings["patient"][several])
    sets, notes = official_icbhi(icbhi, 0, tmp_path / "mine.txt", clean)
    assert len(both) > 40
    assert patients(icbhi, sets, "val") and not patients(icbhi, sets, "val") & both
    assert both <= patients(icbhi, sets, "train")
    assert bool(both & patients(icbhi, sets, "test")) == (not clean) == (notes == ())


def test_seeds_choose_other_validation_patients_and_nothing_else(
    icbhi: pd.DataFrame, file: Path
) -> None:
    one, other = (official_icbhi(icbhi, seed, file, clean=False)[0] for seed in (0, 1))
    assert patients(icbhi, one, "val") != patients(icbhi, other, "val")
    pd.testing.assert_series_equal(with_val_as_train(one), with_val_as_train(other))


def test_devices_of_another_release_are_matched_and_listed(icbhi: pd.DataFrame, file: Path) -> None:
    expected, _ = official_icbhi(icbhi, 0, file, clean=False)
    renamed = icbhi["recording"].str.replace(r"_(AKGC417L|Litt3200)$", "_Other", regex=True)
    sets, notes = official_icbhi(icbhi.assign(recording=renamed), 0, file, clean=False)
    pd.testing.assert_series_equal(sets, expected)
    changed = sorted(set(icbhi["recording"][renamed != icbhi["recording"]]))
    assert len(notes) == len(changed) + 1 > 400
    other = changed[0].rsplit("_", 1)[0] + "_Other"
    assert notes[0] == f"{OFFICIAL_SPLIT_FILENAME}: {changed[0]} is taken for {other}"


def test_a_name_that_could_be_two_recordings_is_neither(icbhi: pd.DataFrame, file: Path) -> None:
    twice = icbhi[icbhi["recording"] == "226_1b1_Pl_sc_LittC2SE"].assign(
        recording="226_1b1_Pl_sc_Other"
    )
    sets, notes = official_icbhi(pd.concat([icbhi, twice], ignore_index=True), 0, file, clean=False)
    alike = ["226_1b1_Pl_sc_LittC2SE", "226_1b1_Pl_sc_Other"]
    assert set(icbhi["recording"][sets[: len(icbhi)] == ""]) == {alike[0]}
    assert notes == (
        f"{OFFICIAL_SPLIT_FILENAME} does not name 2 recordings, which are left out: "
        f"{', '.join(alike)}",
        f"1 of the 920 recordings in {OFFICIAL_SPLIT_FILENAME} are not in use",
    )


def test_recordings_on_one_side_alone_are_told(icbhi: pd.DataFrame, file: Path) -> None:
    some = icbhi[~icbhi["recording"].isin(sorted(set(icbhi["recording"]))[100:130])]
    unknown = some.iloc[:3].assign(recording="999_1b1_Al_sc_Meditron", patient="999")
    sets, notes = official_icbhi(
        pd.concat([some, unknown], ignore_index=True), 0, file, clean=False
    )
    assert sets.iloc[-3:].tolist() == [""] * 3
    assert (sets == "").sum() == 3
    assert notes[1:] == (
        f"{OFFICIAL_SPLIT_FILENAME} does not name 1 recordings, which are left out: "
        "999_1b1_Al_sc_Meditron",
        f"30 of the 920 recordings in {OFFICIAL_SPLIT_FILENAME} are not in use",
    )


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        (
            "a_1b1_Al_sc_X train\n\nb_1b1_Al_sc_X dev\n",
            ["line 3: expected a recording and train or test: 'b_1b1"],
        ),
        ("a_1b1_Al_sc_X\n", ["line 1: expected a recording and train or test"]),
        ("a train test\nb\ttest\nc TEST\n", ["line 1: ", "line 3: "]),
        (
            "a_1b1_Al_sc_X train\na_1b1_Al_sc_Y test\n",
            ["line 2: a_1b1_Al_sc_Y is named a second time, after line 1"],
        ),
        ("", ["it is empty"]),
        (" \n\n", ["it is empty"]),
        ("x" * 9999, ["line 1: expected a recording and train or test: 'xxx"]),
    ],
)
def test_every_broken_line_of_the_official_file_is_named(
    tmp_path: Path, icbhi: pd.DataFrame, content: str, problems: list[str]
) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(content)
    with pytest.raises(DataError) as error:
        official_icbhi(icbhi, 0, path, clean=False)
    assert str(error.value).startswith(f"The official split {path} cannot be used (split.file):")
    assert len(error.value.problems) == len(problems)
    for problem, said in zip(error.value.problems, problems, strict=True):
        assert said in problem and len(problem) < 200


def test_a_file_that_is_none_is_refused(tmp_path: Path, icbhi: pd.DataFrame, file: Path) -> None:
    with pytest.raises(
        DataError, match=r"cannot be read: No such file or directory \(split\.file\)"
    ):
        official_icbhi(icbhi, 0, tmp_path / "gone.txt", clean=False)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(DataError, match=r"binary\.txt is not a text file: .*split\.file"):
        official_icbhi(icbhi, 0, tmp_path / "binary.txt", clean=False)
    (tmp_path / "marked.txt").write_bytes(
        b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n")
    )
    sets, _ = official_icbhi(icbhi, 0, tmp_path / "marked.txt", clean=False)
    assert (sets == "test").sum() == 2756


def test_a_file_about_other_recordings_leaves_nothing_to_train_on(
    tmp_path: Path, icbhi: pd.DataFrame
) -> None:
    (tmp_path / "other.txt").write_text("501_1b1_Al_sc_X train\n502_1b1_Al_sc_X test\n")
    with pytest.raises(
        DataError, match=r"No validation set can be cut from training by patient\. .* but got 0"
    ):
        official_icbhi(icbhi, 0, tmp_path / "other.txt", clean=False)


@pytest.mark.parametrize("level", ["audio_and_txt_files", ".", ".."])
def test_the_file_is_found_beside_the_database(tmp_path: Path, level: str) -> None:
    folder = tmp_path / "icbhi" / "audio_and_txt_files"
    folder.mkdir(parents=True)
    (folder / "101_1b1_Al_sc_Meditron.wav").write_bytes(b"")
    with pytest.raises(
        DataError,
        match=rf"split=official: expected {OFFICIAL_SPLIT_FILENAME} in .*split\.file=PATH",
    ):
        find_official_file(tmp_path / "icbhi")
    place = tmp_path / "icbhi" / level / OFFICIAL_SPLIT_FILENAME
    place.write_text("")
    assert find_official_file(tmp_path / "icbhi").samefile(place)
    with pytest.raises(DataError, match=f"The official split .*{OFFICIAL_SPLIT_FILENAME} cannot"):
        official_split(pd.DataFrame({"recording": []}), 0, tmp_path / "icbhi")


# --- SPRSound's own ---


def test_intra_is_what_there_is(sprsound: pd.DataFrame) -> None:
    for part in (None, "intra"):
        sets, notes = official_sprsound(sprsound, 0, part, clean=False)
        counts = pd.crosstab(sprsound["part"], sets)
        assert counts.loc["intra"].to_dict() == {"test": 1004, "train": 0, "val": 0}
        assert (counts.loc["train", "test"], counts.loc["train"].sum()) == (0, 6656)
        assert notes == ()


@pytest.mark.parametrize("part", ["inter", "both"])
def test_a_part_that_is_asked_for_and_not_there_is_an_error(
    sprsound: pd.DataFrame, part: str
) -> None:
    with pytest.raises(DataError) as error:
        official_sprsound(sprsound, 0, part, clean=False)
    wanted = {"inter": "train and inter", "both": "train and inter and intra"}[part]
    assert str(error.value) == (
        f"split.part={part}: expected the parts {wanted} of SPRSound, but there is no inter, "
        "only intra, train"
    )


@pytest.mark.parametrize(
    ("there", "lacking"), [("train", "no inter and no intra"), ("intra", "no train")]
)
def test_a_side_that_is_not_there_is_an_error(
    sprsound: pd.DataFrame, there: str, lacking: str
) -> None:
    with pytest.raises(DataError) as error:
        official_sprsound(sprsound[sprsound["part"] == there], 0, None, clean=False)
    assert str(error.value).startswith("split.part=null: expected the parts train and ")
    assert str(error.value).endswith(f"but there is {lacking}, only {there}")


@pytest.mark.parametrize(
    ("part", "tested"), [("inter", {"inter"}), ("intra", {"intra"}), ("both", {"inter", "intra"})]
)
def test_the_part_asked_for_is_tested_and_the_other_is_left_out(
    with_inter: pd.DataFrame, part: str, tested: set[str]
) -> None:
    sets, _ = official_sprsound(with_inter, 0, part, clean=False)
    assert set(with_inter["part"][sets == "test"]) == tested
    assert set(with_inter["part"][sets == ""]) == {"inter", "intra"} - tested
    assert set(with_inter["part"][sets.isin(["train", "val"])]) == {"train"}
    nothing_said, _ = official_sprsound(with_inter, 0, None, clean=False)
    assert nothing_said.equals(sets) == (part == "both")


def test_validation_is_by_patient_and_the_same_whatever_is_tested(
    sprsound: pd.DataFrame, with_inter: pd.DataFrame
) -> None:
    """Chosen without a look at the test parts: what is trained is one thing for all of them."""
    training = sprsound["part"] == "train"
    for seed in (0, 1):
        sets, _ = official_sprsound(sprsound, seed, "intra", clean=False)
        assert not patients(sprsound, sets, "val") & patients(sprsound, sets, "train")
        assert (sets == "val").sum() / 6656 == pytest.approx(0.2, abs=0.025)
        for part, clean in (("inter", False), ("both", True)):
            others, _ = official_sprsound(with_inter, seed, part, clean)
            assert others[: len(sprsound)][training].equals(sets[training])


def test_clean_takes_the_sound_that_is_in_both_out_of_test(sprsound: pd.DataFrame) -> None:
    official, _ = official_sprsound(sprsound, 0, None, clean=False)
    clean, notes = official_sprsound(sprsound, 0, None, clean=True)
    assert set(sprsound["recording"][clean == ""]) == {PAIR[1]}
    assert set(official[sprsound["recording"] == PAIR[1]]) == {"test"}
    kept = clean != ""
    assert clean[kept].equals(official[kept])
    events = (sprsound["recording"] == PAIR[1]).sum()
    assert notes == (
        f"left out of test: 1 recordings, {events} cycles, that lie in training under another name",
    )
    once = sprsound.assign(content=sprsound["recording"])
    assert official_sprsound(once, 0, None, clean=True)[1] == ()


# --- every protocol, as a run gets it ---


def configured_sets(cycles: pd.DataFrame, *overrides: str) -> SplitResult:
    chosen = settings("data.root=/there", *overrides)
    protocol = DATABASES[chosen.data.name].all_protocols[chosen.split.protocol]
    return run_protocol(protocol, cycles, {**vars(chosen.split), "root": chosen.data.root})


BY_PATIENT = {
    "icbhi": [
        "split=patient",
        "split=patient split.fold=3 split.folds=4",
        "split=official",
        "split=official_clean",
    ],
    "with_inter": [
        "split=patient split.fold=2",
        "split=official split.part=inter",
        "split=official_clean",
    ],
}


@pytest.mark.parametrize(
    ("database", "split"), [(name, split) for name, some in BY_PATIENT.items() for split in some]
)
def test_validation_of_every_protocol_by_patient(
    request: pytest.FixtureRequest, file: Path, database: str, split: str
) -> None:
    cycles = request.getfixturevalue(database)
    where = ["data=icbhi"] if database == "icbhi" else ["data=sprsound"]
    if database == "icbhi" and "official" in split:
        where.append(f"split.file={file}")
    sets, _ = configured_sets(cycles, *where, *split.split())
    val = patients(cycles, sets, "val")
    assert val and not val & patients(cycles, sets, "train")
    if split != "split=official_clean" or database == "icbhi":
        assert not val & patients(cycles, sets, "test")
    else:  # the intra part is of children who are in training, by its definition
        assert not val & set(cycles["patient"][(sets == "test") & (cycles["part"] == "inter")])
        assert val & set(cycles["patient"][(sets == "test") & (cycles["part"] == "intra")])
    assert (sets == "val").sum() / sets.isin(["train", "val"]).sum() == pytest.approx(0.2, abs=0.03)


def test_validation_of_the_papers_protocol_is_by_cycle(icbhi: pd.DataFrame) -> None:
    sets, notes = configured_sets(icbhi, "data=icbhi", "split=random")
    for label, cycles in sets.groupby(icbhi["label"]):
        rest = (cycles != "test").sum()
        assert (cycles == "val").sum() == pytest.approx(0.2 * rest, abs=0.5), label
    assert len(patients(icbhi, sets, "val") & patients(icbhi, sets, "test")) > 80
    assert notes == ()


def configured_split(cycles: pd.DataFrame, *overrides: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """SPRSound's own split, as a run gets it."""
    chosen = settings("data=sprsound", "data.root=/there", "split=official", *overrides)
    spec, store = DATABASES["sprsound"], SimpleNamespace()
    database = Database(spec, False, 0, cycles, store, "", ())  # type: ignore[arg-type]
    labels = spec.task(chosen.task.classes)
    return assign_split(database, labels, "official", vars(chosen.split))


@pytest.mark.parametrize("seed", range(3))
def test_a_validation_without_stridor_warns_and_goes_on(sprsound: pd.DataFrame, seed: int) -> None:
    """Of training's two children with stridor one has 14 of 15 events: a fifth of the patients
    cannot have a fifth.
    """
    used, notes = configured_split(sprsound, "task=sprsound_seven", f"split.seed={seed}")
    counts = pd.crosstab(used["event_type"], used["set"])
    lacking = {
        (name, kind)
        for name, kind in product(("val", "test"), counts.index)
        if not counts.at[kind, name]
    }
    said = [re.fullmatch(r"class (.+) has no (val|test) cycle: .*", note) for note in notes]
    assert {(match[2], match[1]) for match in said if match} == lacking == {("val", "Stridor")}
    assert (counts["train"] > 0).all()
    numbers = dict(zip(used["event_type"], used["target"], strict=True))
    assert [numbers[kind] for kind in ("Normal", "Fine Crackle", "Coarse Crackle", "Wheeze")] == [
        0,
        1,
        2,
        3,
    ]
    assert [numbers[kind] for kind in ("Rhonchi", "Stridor", "Wheeze+Crackle")] == [4, 5, 6]


def test_four_classes_have_nothing_to_warn_of(sprsound: pd.DataFrame) -> None:
    used, notes = configured_split(sprsound)
    assert notes == ()
    assert used.groupby("label")["target"].unique().map(list).to_dict() == {
        "normal": [0], "crackle": [1], "wheeze": [2], "both": [3],
    }  # fmt: skip


def test_a_training_without_a_class_does_not_start(sprsound: pd.DataFrame) -> None:
    """Its only child may be in validation: nothing could be learned of it."""
    one = sprsound[(sprsound["event_type"] != "Stridor") | (sprsound["part"] == "intra")]
    with pytest.raises(DataError) as error:
        configured_split(one.reset_index(drop=True), "task=sprsound_seven")
    assert error.value.problems == (
        "class Stridor has no training cycle (0 in train, 0 in val, 2 in test; 2 in all)",
    )
