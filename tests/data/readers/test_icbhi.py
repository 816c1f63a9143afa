"""Names and annotations of the ICBHI database: counts against pandas, every bad line named by file,
line and value.
"""

import codecs
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lungsound.data.labels import FOUR_CLASS
from lungsound.data.readers.icbhi import (
    RecordingName,
    match_across_releases,
    parse_name,
    read_annotations,
    read_icbhi,
)
from lungsound.data.readers.icbhi_metadata import find_metadata_file, read_patient_metadata
from lungsound.data.recordings import Annotation
from lungsound.errors import DataError

STEM = "101_1b1_Al_sc_Meditron"
GOOD = "0.5\t1.25\t0\t0\n"


def annotation(folder: Path, content: str | bytes, stem: str = STEM) -> Path:
    path = folder / f"{stem}.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_full_database_counts_as_published_and_as_pandas_counts(real_data: Path) -> None:
    paths = sorted((real_data / "icbhi_annotations").glob("*_*_*_*_*.txt"))
    names = [parse_name(path.stem) for path in paths]
    read = [read_annotations(path) for path in paths]
    assert [problem for _, problems in read for problem in problems] == []
    cycles = [cycle for annotations, _ in read for cycle in annotations]
    counts = [sum(cycle.label == label for cycle in cycles) for label in FOUR_CLASS.labels]
    assert (len(paths), len({name.patient for name in names}), len(cycles)) == (920, 126, 6898)
    assert counts == [3642, 1864, 886, 506]

    columns = ["start", "end", "crackle", "wheeze"]
    tables = [pd.read_csv(path, sep=r"\s+", header=None, names=columns) for path in paths]
    table = pd.concat(tables, ignore_index=True)
    by_flags = (
        table.groupby(["wheeze", "crackle"]).size().to_list()
    )  # (0, 0), (0, 1), (1, 0), (1, 1)
    assert counts == by_flags
    assert [cycle.start_seconds for cycle in cycles] == table["start"].to_list()
    assert [cycle.end_seconds for cycle in cycles] == table["end"].to_list()
    assert [cycle.line for cycle in cycles] == [line for one in tables for line in range(len(one))]
    assert min(cycle.end_seconds - cycle.start_seconds for cycle in cycles) == pytest.approx(0.2)
    assert max(cycle.end_seconds - cycle.start_seconds for cycle in cycles) == pytest.approx(16.163)


def test_names_have_the_published_fields(real_data: Path) -> None:
    names = [
        parse_name(path.stem) for path in (real_data / "icbhi_annotations").glob("*_*_*_*_*.txt")
    ]
    assert {name.location for name in names} == {"Tc", "Al", "Ar", "Pl", "Pr", "Ll", "Lr"}
    assert {name.mode for name in names} == {"sc", "mc"}
    assert {name.device for name in names} == {"AKGC417L", "LittC2SE", "Litt3200", "Meditron"}
    assert parse_name("226_1b1_Pl_sc_LittC2SE") == RecordingName(
        "226", "1b1", "Pl", "sc", "LittC2SE"
    )


@pytest.mark.parametrize(
    ("stem", "said"),
    [
        ("101_1b1_Al_sc", "4 fields"),
        ("101_1b1_Al_sc_Meditron_2", "6 fields"),
        ("A01_1b1_Al_sc_Meditron", "patient 'A01'"),
        ("101__Al_sc_Meditron", "recording index ''"),
        ("101_1b1_Xx_sc_Meditron", "location 'Xx'"),
        ("101_1b1_Al_xc_Meditron", "mode 'xc'"),
        ("101_1b1_Al_sc_", "device ''"),
        ("101_1b1_Al_sc_Medi tron", "device 'Medi tron'"),
    ],
)
def test_bad_name_says_which_field(stem: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_name(stem)


@pytest.mark.parametrize(
    ("flags", "label"),
    [("0\t0", "normal"), ("1\t0", "crackle"), ("0\t1", "wheeze"), ("1\t1", "both")],
)
def test_flags_are_crackle_then_wheeze(tmp_path: Path, flags: str, label: str) -> None:
    assert read_annotations(annotation(tmp_path, f"0\t1.5\t{flags}\n")) == (
        (Annotation(0, 0.0, 1.5, label),),
        (),
    )


@pytest.mark.parametrize(
    "content",
    [
        "0.5\t1.25\t1\t0\n1.25\t2\t0\t1\n",
        "0.5 1.25 1 0\n1.25  2 0 \t 1",
        "0.5\t1.25\t1\t0\r\n1.25\t2\t0\t1\r\n",
        "0.5\t1.25\t1\t0\r1.25\t2\t0\t1\r",
        codecs.BOM_UTF8 + b"0.5\t1.25\t1\t0\r\n1.25\t2\t0\t1\r\n",
        codecs.BOM_UTF16_LE + "0.5\t1.25\t1\t0\r\n1.25\t2\t0\t1\r\n".encode("utf-16-le"),
        "0.5\t1.25\t1\t0\n1.25\t2\t0\t1\n\n \n",
    ],
    ids=[
        "tabs",
        "spaces",
        "windows",
        "old mac",
        "utf-8 mark",
        "utf-16 mark",
        "empty lines at the end",
    ],
)
def test_separators_line_ends_and_byte_order_marks_just_work(
    tmp_path: Path, content: str | bytes
) -> None:
    expected = (Annotation(0, 0.5, 1.25, "crackle"), Annotation(1, 1.25, 2.0, "wheeze"))
    assert read_annotations(annotation(tmp_path, content)) == (expected, ())


def test_cycle_is_the_line_of_the_file_also_after_an_empty_line(tmp_path: Path) -> None:
    annotations, problems = read_annotations(annotation(tmp_path, f"{GOOD}\n{GOOD}"))
    assert [cycle.line for cycle in annotations] == [0, 2]
    assert problems == ()


def test_cycles_may_touch_and_overlap(tmp_path: Path) -> None:
    annotations, problems = read_annotations(annotation(tmp_path, "0 2 0 0\n2 3 0 0\n1 4 0 0\n"))
    assert len(annotations) == 3
    assert problems == ()


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("0.5\t1.25\t0", "3 fields in '0.5"),
        ("0.5\t1.25\t0\t0\t1", "5 fields in '0.5"),
        ("begin\t1.25\t0\t0", "start is 'begin'"),
        ("0,5\t1.25\t0\t0", "start is '0,5'"),
        ("0.5\t1.2x\t0\t0", "end is '1.2x'"),
        ("nan\t1.25\t0\t0", "start is 'nan'"),
        ("0.5\tinf\t0\t0", "end is 'inf'"),
        ("0.5\t1e999\t0\t0", "end is '1e999'"),
        ("0.5\t1_0\t0\t0", "end is '1_0'"),
        ("-0.5\t1.25\t0\t0", "start is '-0.5'"),
        ("1.25\t0.5\t0\t0", "end 0.5 is not after start 1.25"),
        ("1.25\t1.25\t0\t0", "end 1.25 is not after start 1.25"),
        ("0.5\t1.25\t2\t0", "crackle is '2', expected 0 or 1"),
        ("0.5\t1.25\t0\t-1", "wheeze is '-1', expected 0 or 1"),
        ("0.5\t1.25\t0\t0.0", "wheeze is '0.0', expected 0 or 1"),
        ("0.5\t1.25\t0\tyes", "wheeze is 'yes', expected 0 or 1"),
    ],
)
def test_bad_line_names_file_line_and_value_and_the_others_are_kept(
    tmp_path: Path, line: str, value: str
) -> None:
    annotations, (problem,) = read_annotations(annotation(tmp_path, f"{GOOD}{line}\n{GOOD}"))
    assert problem.startswith(f"{STEM}.txt, line 2: ")
    assert value in problem
    assert "\n" not in problem
    assert [cycle.line for cycle in annotations] == [0, 2]


def test_every_bad_line_is_reported(tmp_path: Path) -> None:
    _, problems = read_annotations(annotation(tmp_path, f"1 0 0 0\n{GOOD}0 1 0\n0 1 7 0\n"))
    assert [problem.split(":")[0] for problem in problems] == [
        f"{STEM}.txt, line {line}" for line in (1, 3, 4)
    ]


@pytest.mark.parametrize("content", [b"", b"\r\n \n", codecs.BOM_UTF8])
def test_empty_annotation_file_is_a_problem(tmp_path: Path, content: bytes) -> None:
    annotations, (problem,) = read_annotations(annotation(tmp_path, content))
    assert annotations == ()
    assert problem.startswith(f"{STEM}.txt: empty")


def test_binary_annotation_file_is_one_short_problem(tmp_path: Path) -> None:
    _, (problem,) = read_annotations(annotation(tmp_path, b"\xff\x00\x80" * 5000))
    assert problem.startswith(f"{STEM}.txt: not a text file")
    _, (problem,) = read_annotations(annotation(tmp_path, "x" * 5000))
    assert len(problem) < 250


@pytest.mark.parametrize("inner", ["", "audio_and_txt_files", "ICBHI_final_database"])
def test_published_layouts_are_found_and_side_files_ignored(tmp_path: Path, inner: str) -> None:
    folder = tmp_path / inner
    folder.mkdir(exist_ok=True)
    for side in (
        "filename_format.txt",
        "patient_diagnosis.txt",
        "ICBHI_challenge_train_test.txt",
        "._x.wav",
    ):
        (folder / side).write_text("not an annotation")
    for stem in ("103_2b2_Ar_mc_LittC2SE", STEM):
        (folder / f"{stem}.wav").write_bytes(b"")
        annotation(folder, GOOD, stem)
    recordings, problems, _ = read_icbhi(tmp_path)
    assert problems == []
    assert [recording.name for recording in recordings] == [STEM, "103_2b2_Ar_mc_LittC2SE"]
    last = recordings[1]
    fields = (last.patient, last.recording_index, last.location, last.mode, last.device)
    assert fields == ("103", "2b2", "Ar", "mc", "LittC2SE")
    assert last.audio == folder / "103_2b2_Ar_mc_LittC2SE.wav"
    assert last.cycles == (Annotation(0, 0.5, 1.25, "normal"),)


def test_a_stray_wav_beside_the_database_folder_does_not_hide_it(tmp_path: Path) -> None:
    (tmp_path / "example.wav").write_bytes(b"")
    folder = tmp_path / "audio_and_txt_files"
    folder.mkdir()
    (folder / f"{STEM}.wav").write_bytes(b"")
    annotation(folder, GOOD)
    recordings, problems, _ = read_icbhi(tmp_path)
    assert [recording.name for recording in recordings] == [STEM]
    assert problems == []


def test_missing_partners_and_bad_names_are_problems(tmp_path: Path) -> None:
    (tmp_path / f"{STEM}.wav").write_bytes(b"")
    (tmp_path / "my recording.wav").write_bytes(b"")
    annotation(tmp_path, GOOD, "102_1b1_Ar_sc_Meditron")
    annotation(tmp_path, GOOD, "102_1b1_Qq_sc_Meditron")
    recordings, problems, _ = read_icbhi(tmp_path)
    assert recordings[0].problems == (
        f"{STEM}.wav: audio without annotation, expected {STEM}.txt beside it",
    )
    assert len(problems) == 4
    text = "\n".join(problems)
    assert "my recording.wav: the name 'my recording' has 1 fields, expected 5" in text
    assert "102_1b1_Ar_sc_Meditron.txt: annotation without audio" in text
    assert "102_1b1_Qq_sc_Meditron.txt: annotation without audio" in text


def test_no_folder_or_no_recordings_says_where_what_and_how(tmp_path: Path) -> None:
    a_file = tmp_path / "file"
    a_file.write_text("")
    only_annotations = tmp_path / "annotations"
    only_annotations.mkdir()
    annotation(only_annotations, GOOD)
    for root, found in (
        (tmp_path / "nowhere", "no such folder"),
        (a_file, "not a folder"),
        (only_annotations, "no .wav file"),
    ):
        with pytest.raises(DataError) as error:
            read_icbhi(root)
        said = str(error.value)
        for part in (
            str(root),
            found,
            "audio_and_txt_files",
            "ICBHI_final_database",
            "https://",
            "data.root=",
        ):
            assert part in said


def test_an_abbreviated_home_of_nobody_is_no_folder() -> None:
    with pytest.raises(DataError, match="~nobody-of-this-name: no such folder"):
        read_icbhi(Path("~nobody-of-this-name"))


# --- releases that differ in the device ---


def audio(folder: Path, *stems: str) -> None:
    for stem in stems:
        (folder / f"{stem}.wav").write_bytes(b"")


def test_audio_and_annotation_of_two_releases_find_each_other(tmp_path: Path) -> None:
    audio(tmp_path, "101_1b1_Al_sc_AKGC417L", "102_1b1_Ar_sc_Meditron", "226_1b1_Pl_sc_Meditron")
    for stem, line in (
        ("101_1b1_Al_sc_Meditron", "0 1 1 0"),
        ("102_1b1_Ar_sc_Meditron", "0 1 0 1"),
        ("226_1b1_Pl_sc_LittC2SE", "0 1 1 1"),
    ):
        annotation(tmp_path, line, stem)
    recordings, problems, notes = read_icbhi(tmp_path)
    assert problems == []
    assert [(one.name, one.device, one.annotation, one.cycles[0].label) for one in recordings] == [
        ("101_1b1_Al_sc_AKGC417L", "AKGC417L", "101_1b1_Al_sc_Meditron.txt", "crackle"),
        ("102_1b1_Ar_sc_Meditron", "Meditron", "102_1b1_Ar_sc_Meditron.txt", "wheeze"),
        ("226_1b1_Pl_sc_Meditron", "Meditron", "226_1b1_Pl_sc_LittC2SE.txt", "both"),
    ]
    assert notes == [
        "101_1b1_Al_sc_AKGC417L.wav is taken with 101_1b1_Al_sc_Meditron.txt: another release's device",
        "226_1b1_Pl_sc_Meditron.wav is taken with 226_1b1_Pl_sc_LittC2SE.txt: another release's device",
    ]


def test_a_problem_names_the_annotation_that_was_taken(tmp_path: Path) -> None:
    audio(tmp_path, "101_1b1_Al_sc_AKGC417L")
    annotation(tmp_path, "1 0 0 0")
    (recording,), (problem,), _ = read_icbhi(tmp_path)
    assert problem.startswith(f"{STEM}.txt, line 1: ")
    assert recording.problems == (problem,)


@pytest.mark.parametrize(
    ("sounds", "texts"),
    [
        (["101_1b1_Al_sc_A", "101_1b1_Al_sc_B"], ["101_1b1_Al_sc_C"]),
        (["101_1b1_Al_sc_A"], ["101_1b1_Al_sc_B", "101_1b1_Al_sc_C"]),
        (["101_1b1_Al_sc_A"], ["101_1b1_Al_mc_A"]),
        (["101_1b1_Al_sc_A"], ["101_1b2_Al_sc_A"]),
    ],
    ids=["two sounds", "two annotations", "another mode", "another index"],
)
def test_nothing_is_guessed(tmp_path: Path, sounds: list[str], texts: list[str]) -> None:
    """Least of all that two recordings share one annotation."""
    audio(tmp_path, *sounds)
    for stem in texts:
        annotation(tmp_path, GOOD, stem)
    recordings, problems, notes = read_icbhi(tmp_path)
    assert [one.cycles for one in recordings] == [()] * len(sounds)
    assert notes == []
    assert problems == [
        *(
            f"{stem}.wav: audio without annotation, expected {stem}.txt beside it"
            for stem in sounds
        ),
        *(f"{stem}.txt: annotation without audio, expected {stem}.wav beside it" for stem in texts),
    ]


def test_an_annotation_of_its_own_name_is_never_given_away(tmp_path: Path) -> None:
    audio(tmp_path, STEM, "101_1b1_Al_sc_Other")
    annotation(tmp_path, GOOD)
    _, problems, notes = read_icbhi(tmp_path)
    assert problems == [
        "101_1b1_Al_sc_Other.wav: audio without annotation, expected 101_1b1_Al_sc_Other.txt beside it"
    ]
    assert notes == []


def test_a_name_of_four_fields_takes_no_annotation(tmp_path: Path) -> None:
    audio(tmp_path, "101_1b1_Al_sc", "102_1b1_Al_sc_Meditron")
    annotation(tmp_path, GOOD)
    annotation(tmp_path, GOOD, "102_1b1_Al_sc_Meditron")
    _, problems, notes = read_icbhi(tmp_path)
    assert [problem.split(":")[0] for problem in problems] == ["101_1b1_Al_sc.wav", f"{STEM}.txt"]
    assert notes == []


def test_the_real_names_match_across_any_device(real_data: Path) -> None:
    names = [path.stem for path in (real_data / "icbhi_annotations").glob("*_*_*_*_*.txt")]
    others = [name.rsplit("_", 1)[0] + "_Other" for name in names]
    assert match_across_releases(names, others) == dict(zip(names, others, strict=True))
    official = pd.read_csv(real_data / "ICBHI_challenge_train_test.txt", sep=r"\s+", header=None)[0]
    matched = match_across_releases(official, names)
    assert len(matched) == 920
    different = {name: other for name, other in matched.items() if name != other}
    assert different == {"226_1b1_Pl_sc_Meditron": "226_1b1_Pl_sc_LittC2SE"}


# --- age, sex and diagnosis ---


def written(folder: Path, demographics: str | None = None, diagnoses: str | None = None) -> Path:
    for name, content in (
        ("demographic_info.txt", demographics),
        ("patient_diagnosis.csv", diagnoses),
    ):
        if content is not None:
            (folder / name).write_text(content)
    return folder


def test_real_side_files_by_hand_and_by_pandas(real_data: Path) -> None:
    side = read_patient_metadata(
        real_data / "icbhi" / "audio_and_txt_files"
    )  # two folders below them
    assert side.for_patient("101") == {"age": 3, "sex": "F", "diagnosis": "URTI"}
    assert side.for_patient("102") == {"age": 0.75, "sex": "F", "diagnosis": "Healthy"}
    assert side.for_patient("103") == {"age": 70, "sex": "F", "diagnosis": "Asthma"}
    assert side.for_patient("104") == {"age": 70, "sex": "F", "diagnosis": "COPD"}
    assert side.for_patient("108")["sex"] == "M"
    assert side.notes == []
    people = pd.read_csv(
        real_data / "demographic_info.txt", sep=r"\s+", header=None, dtype={0: str}, index_col=0
    )
    assert side.ages == people[1].dropna().to_dict()
    assert side.sexes == people[2].dropna().to_dict()
    ill = pd.read_csv(
        real_data / "patient_diagnosis.csv", dtype=str, index_col=0, keep_default_na=False
    )
    assert side.diagnoses == ill.iloc[:, 0].to_dict()
    assert (len(people), len(ill)) == (126, 126)
    recordings, _, _ = read_icbhi(real_data / "icbhi")
    for one in recordings:
        assert {"age": one.age, "sex": one.sex, "diagnosis": one.diagnosis} == side.for_patient(
            one.patient
        )


def known(folder: Path) -> tuple[Any, ...]:
    audio(folder, STEM)
    annotation(folder, GOOD)
    ((recording,), problems, notes) = read_icbhi(folder)
    assert problems == []
    return recording.age, recording.sex, recording.diagnosis, notes


def test_without_side_files_nothing_is_known(tmp_path: Path) -> None:
    age, sex, diagnosis, notes = known(tmp_path)
    assert isnan(age)
    assert (sex, diagnosis, notes) == ("", "", [])


@pytest.mark.parametrize("header", ["", "ID,CLASS\n", "\ufeff"])
def test_side_files_alone_and_together(tmp_path: Path, header: str) -> None:
    one = tmp_path / "one"
    one.mkdir()
    age, *rest = known(written(one, diagnoses=f"{header}101,COPD\n102,Healthy\n"))
    assert isnan(age)
    assert rest == ["", "COPD", []]
    assert known(written(one, demographics="\n101 61.5 M 20 NA NA\r\n")) == (61.5, "M", "COPD", [])


def test_unknown_values_are_unknown(tmp_path: Path) -> None:
    age, sex, diagnosis, notes = known(written(tmp_path, "101 NA NA NA NA NA\n", "101,\n"))
    assert isnan(age)
    assert (sex, diagnosis, notes) == ("", "", [])


def test_broken_lines_of_side_files_are_noted_and_the_others_are_taken(tmp_path: Path) -> None:
    demographics = "101 61 M\nAge unknown\n103 old F 1 2 3\n104 -3 M\n105\n101x 1 F\n"
    age, sex, diagnosis, notes = known(
        written(tmp_path, demographics, "ID,CLASS\nx,COPD\n101,LRTI\n102\n103,a,b\n")
    )
    assert (age, sex, diagnosis) == (61, "M", "LRTI")
    assert notes == [
        *(
            f"demographic_info.txt, line {line}: expected patient, age, sex ..., but got {words}"
            for line, words in (
                (2, ["Age", "unknown"]),
                (3, ["103", "old", "F", "1", "2", "3"]),
                (4, ["104", "-3", "M"]),
                (5, ["105"]),
                (6, ["101x", "1", "F"]),
            )
        ),
        *(
            f"patient_diagnosis.csv, line {line}: expected patient,diagnosis, but got {words}"
            for line, words in ((2, ["x", "COPD"]), (4, ["102"]), (5, ["103", "a", "b"]))
        ),
    ]


def test_a_side_file_that_cannot_be_read_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, "101 61 M\n", "101,COPD\n")
    read = Path.read_text

    def guarded(path: Path, *args: Any, **kwargs: Any) -> str:
        if path.name == "demographic_info.txt":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", guarded)
    age, sex, diagnosis, notes = known(tmp_path)
    assert isnan(age)
    assert (sex, diagnosis) == ("", "COPD")
    assert notes == ["demographic_info.txt cannot be read, and is not used: Permission denied"]


def test_binary_side_files_are_noted_and_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "demographic_info.txt").write_bytes(b"\xff\xfe\x00\x80 \x00")
    *_, notes = known(tmp_path)
    assert [note.split(":")[0] for note in notes] == ["demographic_info.txt, line 1"]


def test_the_nearest_side_file_is_taken_up_to_two_folders_above(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    for place, there in ((tmp_path, None), (tmp_path / "a", tmp_path / "a"), (folder, folder)):
        (place / "side.txt").write_text("")
        assert find_metadata_file(folder, "side.txt") == (there / "side.txt" if there else None)
