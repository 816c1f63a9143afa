"""ICBHI's names and annotations: counts against pandas, every bad line named by line and value."""

import codecs
from collections import Counter
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.disk import drop_root_privileges

from lungsound.data.audio import read_audio
from lungsound.data.labels import FOUR_CLASS
from lungsound.data.readers.files import files_by_stem
from lungsound.data.readers.icbhi import (
    match_across_releases,
    parse_name,
    read_annotations,
    read_icbhi,
)
from lungsound.data.readers.icbhi_metadata import find_metadata_files, read_patient_metadata
from lungsound.data.recordings import Annotation
from lungsound.errors import DataError

STEM = "101_1b1_Al_sc_Meditron"
GOOD = "0.5\t1.25\t0\t0\n"


def write_annotation(folder: Path, content: str | bytes, stem: str = STEM) -> Path:
    path = folder / f"{stem}.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_audio(folder: Path, *stems: str) -> None:
    for stem in stems:
        (folder / f"{stem}.wav").write_bytes(b"")


def test_counts_are_as_published_and_as_pandas_reads_them(real_data: Path) -> None:
    paths = sorted((real_data / "icbhi_annotations").glob("*_*_*_*_*.txt"))
    files = [read_annotations(path) for path in paths]
    assert not any(problems for _, problems in files)
    cycles = [cycle for annotations, _ in files for cycle in annotations]
    counts = [sum(cycle.label == label for cycle in cycles) for label in FOUR_CLASS.labels]
    assert (len(paths), len(cycles), counts) == (920, 6898, [3642, 1864, 886, 506])
    columns = ["start", "end", "crackle", "wheeze"]
    tables = [pd.read_csv(path, sep=r"\s+", header=None, names=columns) for path in paths]
    table = pd.concat(tables, ignore_index=True)
    assert counts == table.groupby(["wheeze", "crackle"]).size().to_list()
    assert [cycle.start_seconds for cycle in cycles] == table["start"].to_list()
    assert [cycle.end_seconds for cycle in cycles] == table["end"].to_list()
    assert [cycle.line for cycle in cycles] == [line for one in tables for line in range(len(one))]


def test_recordings_may_be_flac(real_data: Path) -> None:
    """The official training part; its README gives these counts."""
    result = read_icbhi(real_data / "icbhi_4k")
    labels = Counter(cycle.label for recording in result.recordings for cycle in recording.cycles)
    assert labels == {"normal": 2063, "crackle": 1215, "wheeze": 501, "both": 363}
    assert len(result.recordings) == 539
    assert len({recording.patient for recording in result.recordings}) == 79
    assert not result.problems


def test_names_have_the_published_fields(real_data: Path) -> None:
    paths = (real_data / "icbhi_annotations").glob("*_*_*_*_*.txt")
    names = pd.DataFrame([parse_name(path.stem) for path in paths])
    assert names["patient"].nunique() == 126
    assert set(names["location"]) == {"Tc", "Al", "Ar", "Pl", "Pr", "Ll", "Lr"}
    assert set(names["mode"]) == {"sc", "mc"}
    assert set(names["device"]) == {"AKGC417L", "LittC2SE", "Litt3200", "Meditron"}
    fields = {"patient": "226", "recording_index": "1b1", "location": "Pl", "mode": "sc"}
    assert parse_name("226_1b1_Pl_sc_LittC2SE") == {**fields, "device": "LittC2SE"}


@pytest.mark.parametrize(
    ("stem", "message"),
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
def test_bad_name_is_reported_with_its_field(stem: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_name(stem)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("0.5\t1.25\t1\t0\n1.25\t2\t0\t1\n", id="tabs"),
        pytest.param("0.5 1.25 1 0\n1.25  2 0 \t 1", id="spaces"),
        pytest.param("0.5\t1.25\t1\t0\r\n1.25\t2\t0\t1\r\n", id="windows"),
        pytest.param("0.5\t1.25\t1\t0\r1.25\t2\t0\t1\r", id="old mac"),
        pytest.param(codecs.BOM_UTF8 + b"0.5\t1.25\t1\t0\n1.25\t2\t0\t1\n", id="utf-8 mark"),
        pytest.param("0.5\t1.25\t1\t0\r\n1.25\t2\t0\t1\r\n".encode("utf-16"), id="utf-16 mark"),
        pytest.param("0.5\t1.25\t1\t0\n1.25\t2\t0\t1\n\n \n", id="empty lines"),
    ],
)
def test_separators_line_ends_and_byte_order_marks(tmp_path: Path, content: str | bytes) -> None:
    expected = (Annotation(0, 0.5, 1.25, "crackle"), Annotation(1, 1.25, 2.0, "wheeze"))
    assert read_annotations(write_annotation(tmp_path, content)) == (expected, ())


def test_cycles_may_overlap_and_keep_their_line_after_an_empty_one(tmp_path: Path) -> None:
    path = write_annotation(tmp_path, "0 2 0 0\n\n2 3 0 1\n1 4 1 1\n")
    cycles, problems = read_annotations(path)
    assert [(cycle.line, cycle.label) for cycle in cycles] == [
        (0, "normal"), (2, "wheeze"), (3, "both")
    ]  # fmt: skip
    assert problems == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0.5\t1.25\t0", "3 fields in '0.5"),
        ("0.5\t1.25\t\t1\t0", "a blank cell in '0.5"),
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
        ("x" * 5000, "1 fields in 'xxx"),
    ],
)
def test_bad_line_is_reported_and_the_others_are_kept(
    tmp_path: Path, line: str, message: str
) -> None:
    path = write_annotation(tmp_path, f"{GOOD}{line}\n{GOOD}{line}")
    cycles, problems = read_annotations(path)
    assert [cycle.line for cycle in cycles] == [0, 2]
    for problem, number in zip(problems, (2, 4), strict=True):
        assert problem.startswith(f"{STEM}.txt, line {number}: ")
        assert message in problem
        assert "\n" not in problem
        assert len(problem) < 250


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\r\n \n", "empty"),
        (codecs.BOM_UTF8, "empty"),
        (b"\xff\x00\x80" * 5000, "not a text file"),
    ],
)
def test_file_without_a_line_is_one_problem(tmp_path: Path, content: bytes, message: str) -> None:
    cycles, (problem,) = read_annotations(write_annotation(tmp_path, content))
    assert cycles == ()
    assert problem.startswith(f"{STEM}.txt: {message}")


KAGGLE = "archive/Respiratory_Sound_Database/Respiratory_Sound_Database/audio_and_txt_files"


@pytest.mark.parametrize(
    "inner", ["", "audio_and_txt_files", "ICBHI_final_database", "audio_test_data", KAGGLE]
)
def test_published_layouts_are_found_and_other_files_ignored(tmp_path: Path, inner: str) -> None:
    folder = tmp_path / inner
    folder.mkdir(parents=True, exist_ok=True)
    for skipped in ("__MACOSX", ".Trash"):
        (tmp_path / skipped).mkdir()
        write_audio(tmp_path / skipped, "109_1b1_Al_sc_Meditron")
    (folder / "again").symlink_to(tmp_path)  # a circle
    others = ("filename_format.txt", "patient_diagnosis.txt", "._x.wav")
    for name in ("ICBHI_challenge_train_test.txt", *others):
        (folder / name).write_text("not an annotation")
    if inner:
        (tmp_path / "example.wav").write_bytes(b"")  # does not hide the folder, and is noted
    for stem in ("103_2b2_Ar_mc_LittC2SE", STEM):
        write_audio(folder, stem)
        write_annotation(folder, GOOD, stem)
    recordings, problems, notes = read_icbhi(tmp_path)
    assert problems == []
    note = f"{tmp_path.name} is not used: none of its files has a recording's name"
    assert (note in notes) == bool(inner)
    assert [recording.name for recording in recordings] == [STEM, "103_2b2_Ar_mc_LittC2SE"]
    last = recordings[1]
    fields = (last.patient, last.recording_index, last.location, last.mode, last.device)
    assert fields == ("103", "2b2", "Ar", "mc", "LittC2SE")
    assert last.audio == folder / "103_2b2_Ar_mc_LittC2SE.wav"
    assert last.cycles == (Annotation(0, 0.5, 1.25, "normal"),)


def write_folder(folder: Path, *stems: str, of: str = "audio and text") -> Path:
    folder.mkdir(parents=True)
    for stem in stems:
        if "audio" in of:
            write_audio(folder, stem)
        if "text" in of:
            write_annotation(folder, GOOD, stem)
    return folder


STEMS = [f"{patient}_1b1_Al_sc_Meditron" for patient in range(101, 107)]


def test_train_and_test_folders_are_used_together(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", *STEMS[2:])
    write_folder(tmp_path / "test", *STEMS[:2])
    write_folder(tmp_path / "copy", *STEMS[:1])
    recordings, problems, notes = read_icbhi(tmp_path)
    assert [one.name for one in recordings] == STEMS
    assert all(one.cycles for one in recordings)
    name = tmp_path.name
    assert problems == []
    assert notes == [
        f"recordings of 2 folders are used together: {name}/train (4), {name}/test (2)",
        f"{name}/copy is not used: 1 of its 1 recordings are also in {name}/train or {name}/test",
    ]


def test_fuller_folder_is_used_and_both_are_named(tmp_path: Path) -> None:
    """Copies of two recordings lie above the whole database, which was unpacked twice."""
    root = write_folder(tmp_path / "root", *STEMS[1:3])
    for name in ("audio_and_txt_files", "audio_and_txt_files (1)"):
        full = write_folder(root / name, *STEMS)
    recordings, problems, notes = read_icbhi(root)
    assert {one.audio.parent for one in recordings} == {root / "audio_and_txt_files"}
    assert (len(recordings), problems) == (6, [])
    used = "recordings are also in root/audio_and_txt_files"
    assert notes == [
        f"root/{full.name} is not used: 6 of its 6 {used}",
        f"root is not used: 2 of its 2 {used}",
    ]


def test_folders_that_share_some_recordings_are_a_problem(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", *STEMS[:4])
    write_folder(tmp_path / "b", *STEMS[3:])
    recordings, (problem,), _ = read_icbhi(tmp_path)
    assert [one.name for one in recordings] == STEMS[:4]
    name = tmp_path.name
    assert problem.startswith(f"{name}/b is not used: 1 of its 3 recordings are also in {name}/a: ")


def test_other_sound_under_the_same_names_is_a_problem(tmp_path: Path) -> None:
    for name in ("augmented", "raw"):
        write_folder(tmp_path / name, *STEMS)
    assert read_icbhi(tmp_path).problems == []
    (tmp_path / "augmented" / f"{STEMS[0]}.wav").write_bytes(b"noise was added")
    (problem,) = read_icbhi(tmp_path).problems
    folders = [f"{tmp_path.name}/{name}" for name in ("raw", "augmented")]
    assert problem.startswith(
        "{} is not used: 6 of its 6 recordings are also in {}: ".format(*folders)
    )


def test_annotations_in_a_folder_of_their_own_are_found(tmp_path: Path) -> None:
    write_folder(tmp_path / "wav", *STEMS, of="audio")
    write_folder(tmp_path / "txt", *STEMS, "199_1b1_Al_sc_Meditron", of="text")
    recordings, problems, notes = read_icbhi(tmp_path)
    assert ([len(one.cycles) for one in recordings], problems, notes) == ([1] * 6, [], [])


@pytest.mark.parametrize("of", ["text", "audio and text"])
def test_other_annotations_of_the_same_names_are_noted(tmp_path: Path, of: str) -> None:
    root, other = tmp_path / "root", tmp_path / "root" / "v2"
    write_folder(root, *STEMS)
    write_folder(other, *STEMS[:3], of=of)
    copied = read_icbhi(root)
    for stem in STEMS[:2]:
        write_annotation(other, "0 1 1 1\n", stem)
    recordings, problems, notes = read_icbhi(root)
    names = f"{other}/{STEMS[0]}.txt of {root}/{STEMS[0]}.txt"
    assert recordings == copied.recordings
    assert problems == copied.problems == []
    assert [note for note in notes if note not in copied.notes] == [
        f"2 other annotations are not used, such as {names}"
    ]


def test_synthetic_database_below_is_not_taken_for_real(tmp_path: Path) -> None:
    """The demo's, in a store beside the real one."""
    write_folder(tmp_path / "icbhi", STEM)
    write_folder(tmp_path / "store" / "demo" / "audio_and_txt_files", *STEMS[1:])
    (tmp_path / "store" / "demo" / "SYNTHETIC.txt").write_text("computed")
    recordings, _, (note,) = read_icbhi(tmp_path)
    assert [one.name for one in recordings] == [STEM]
    assert note == f"{tmp_path}/store/demo: synthetic recordings, which are not used with others"
    assert len(read_icbhi(tmp_path / "store" / "demo").recordings) == 5


@pytest.mark.parametrize("suffix", ["wav", "txt"])
def test_two_files_for_one_name_are_a_problem(tmp_path: Path, suffix: str) -> None:
    root = write_folder(tmp_path / "root", STEM)
    (root / f"{STEM}.{suffix.upper()}").write_bytes(b"0 1 1 1")
    names = f"{STEM}.{suffix.upper()} and {STEM}.{suffix}"
    (recording,), (problem,), _ = read_icbhi(root)
    assert problem == f"{names}: 2 files for one name in root, expected one"
    assert recording.problems == (problem,)


def test_names_that_differ_in_case_are_a_problem(tmp_path: Path) -> None:
    """Such as from a disk that keeps the case: another one would have lost a file."""
    other = STEM.replace("Meditron", "meditron")
    recordings, problems, _ = read_icbhi(write_folder(tmp_path / "root", STEM, other))
    assert len(recordings) == 2
    assert len(problems) == 4  # audio and annotation, of both
    assert all(f"{STEM}." in problem and f"{other}." in problem for problem in problems)


def test_link_that_leads_nowhere_is_a_problem(tmp_path: Path) -> None:
    """As of git-annex and DVC before the files are there, or of a disk that is not mounted."""
    root, gone = write_folder(tmp_path / "root", *STEMS), tmp_path / "unplugged"
    for path in root.glob(f"{STEM}.*"):
        path.unlink()
        path.symlink_to(gone / path.name)
    for name in ("ICBHI_v1.0", "more"):
        (root / name).symlink_to(gone)
    recordings, (problem,), notes = read_icbhi(root)
    fault = f"a link to {gone}/{STEM}.txt, which is not there: fetch it "
    assert problem.startswith(f"{STEM}.txt: cannot be read: {fault}")
    assert len(recordings) == 6  # its audio is a problem of the store
    with pytest.raises(DataError, match=f"{STEM}.wav: cannot be read: a link to {gone}/{STEM}.wav"):
        read_audio(root / f"{STEM}.wav")
    assert [note.split(", which")[0] for note in notes] == [
        f"{root}/{name}: a link to {gone}" for name in ("ICBHI_v1.0", "more")
    ]
    (write_folder(tmp_path / "hollow") / "audio_and_txt_files").symlink_to(gone)
    for place in (root / "more", tmp_path / "hollow"):
        with pytest.raises(DataError, match=f"a link to {gone}, which is not there"):
            read_icbhi(place)


@pytest.mark.parametrize("suffix", [".gz", ".crdownload", ".part"])
def test_packed_and_half_downloaded_files_are_noted(tmp_path: Path, suffix: str) -> None:
    root = write_folder(tmp_path / "root", *STEMS[:3])
    for path in sorted(root.glob("10[12]*")):
        path.rename(f"{path}{suffix}")
    (root / f"paper.pdf{suffix}").write_text("")
    recordings, problems, notes = read_icbhi(root)
    assert ([one.name for one in recordings], problems) == ([STEMS[2]], [])
    first = f"{STEMS[0]}.txt{suffix}"
    assert notes == [f"{root}: not used: 4 packed or half downloaded, such as {first}"]


@pytest.mark.parametrize("placeholder", ["{}.dvc", ".{}.icloud"])
def test_file_that_is_not_fetched_is_a_problem(tmp_path: Path, placeholder: str) -> None:
    root = write_folder(tmp_path / "root", *STEMS[:2])
    assert read_icbhi(root)[1:] == ([], [])
    for name in (f"{STEM}.wav", f"{STEM}.txt", "more"):
        (root / placeholder.format(name)).write_text("outs:\n")
    assert read_icbhi(root).problems == []  # DVC's stay beside what is fetched
    for suffix in (".wav", ".txt"):
        (root / f"{STEM}{suffix}").unlink()
    recordings, (problem,), notes = read_icbhi(root)
    reason = f"only {placeholder.format(f'{STEM}.txt')} is there: fetch it "
    assert problem.startswith(f"{STEM}.txt: cannot be read: {reason}")
    assert len(recordings) == 2
    assert notes[0].startswith(f"{root}/more: only {placeholder.format('more')} is there: fetch it")


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "git lfs pull"),
        ("/annex/objects/SHA256E-s9--4d.wav\n", "git annex get"),
    ],
)
def test_pointer_in_the_place_of_a_file_is_one_problem(
    tmp_path: Path, content: str, remedy: str
) -> None:
    path = write_annotation(tmp_path, content)
    _, (problem,) = read_annotations(path)
    assert problem.startswith(
        f"{STEM}.txt: a Git LFS pointer" if "lfs" in remedy else f"{STEM}.txt"
    )
    assert problem.endswith(f"pointer, not the file: run {remedy}")
    audio = path.rename(path.with_suffix(".wav"))
    with pytest.raises(DataError, match=f"{STEM}.wav: .* pointer, not the file: run {remedy}"):
        read_audio(audio)


def test_missing_partners_and_bad_names_are_problems(tmp_path: Path) -> None:
    write_audio(tmp_path, STEM, "my recording")
    for stem in ("102_1b1_Ar_sc_Meditron", "102_1b1_Qq_sc_Meditron"):
        write_annotation(tmp_path, GOOD, stem)
    recordings, problems, _ = read_icbhi(tmp_path)
    lacking = f"{STEM}.wav: audio without annotation, expected {STEM}.txt beside it"
    assert recordings[0].problems == (lacking,)
    assert len(problems) == 4
    text = "\n".join(problems)
    assert "my recording.wav: the name 'my recording' has 1 fields, expected 5" in text
    assert "102_1b1_Ar_sc_Meditron.txt: annotation without audio" in text
    assert "102_1b1_Qq_sc_Meditron.txt: annotation without audio" in text


def test_missing_recordings_are_reported_with_place_and_remedy(tmp_path: Path) -> None:
    a_file, annotations = tmp_path / "file", tmp_path / "annotations"
    a_file.write_text("")
    annotations.mkdir()
    write_annotation(annotations, GOOD)
    for root, reason in (
        (tmp_path / "nowhere", "no such folder"),
        (a_file, "not a folder"),
        (annotations, "no .wav or .flac file"),
        (Path("~nobody-of-this-name"), "no such folder"),
    ):
        with pytest.raises(DataError) as error:
            read_icbhi(root)
        remedy = ("all folders below", "101_1b1_Al_sc_Meditron.wav", "https://", "data.root=")
        assert all(part in str(error.value) for part in (str(root), reason, *remedy))


# --- releases that differ in the device ---


def test_folder_that_may_be_listed_but_not_searched_is_one_message(tmp_path: Path) -> None:
    write_audio(tmp_path, STEM)
    tmp_path.chmod(0o444)
    message = r"cannot be read: Permission denied \(data\.root\)"
    with drop_root_privileges(), pytest.raises(DataError, match=message):
        files_by_stem(tmp_path, ".wav")


def test_audio_and_annotation_of_two_releases_are_matched(tmp_path: Path) -> None:
    names = {"101_1b1_Al_sc_AKGC417L": STEM, "226_1b1_Pl_sc_Meditron": "226_1b1_Pl_sc_LittC2SE"}
    same = "102_1b1_Ar_sc_Meditron"
    write_audio(tmp_path, *names, same)
    write_annotation(tmp_path, "1 0 0 0")  # the problem names this file
    write_annotation(tmp_path, "0 1 0 1", same)
    write_annotation(tmp_path, "0 1 1 1", "226_1b1_Pl_sc_LittC2SE")
    recordings, (problem,), notes = read_icbhi(tmp_path)
    assert [(one.name, one.device, one.annotation) for one in recordings] == [
        ("101_1b1_Al_sc_AKGC417L", "AKGC417L", f"{STEM}.txt"),
        (same, "Meditron", f"{same}.txt"),
        ("226_1b1_Pl_sc_Meditron", "Meditron", "226_1b1_Pl_sc_LittC2SE.txt"),
    ]
    labels = [[cycle.label for cycle in one.cycles] for one in recordings]
    assert labels == [[], ["wheeze"], ["both"]]
    assert problem.startswith(f"{STEM}.txt, line 1: ")
    assert recordings[0].problems == (problem,)
    reason = "another release's device"
    assert notes == [f"{one}.wav is taken with {two}.txt: {reason}" for one, two in names.items()]


@pytest.mark.parametrize(
    ("sounds", "texts"),
    [
        pytest.param("AB", ["101_1b1_Al_sc_C"], id="two sounds"),
        pytest.param("A", ["101_1b1_Al_sc_B", "101_1b1_Al_sc_C"], id="two annotations"),
        pytest.param("A", ["101_1b1_Al_mc_A"], id="another mode"),
        pytest.param("A", ["101_1b2_Al_sc_A"], id="another index"),
    ],
)
def test_ambiguous_names_are_not_matched(tmp_path: Path, sounds: str, texts: list[str]) -> None:
    stems = [f"101_1b1_Al_sc_{device}" for device in sounds]
    write_audio(tmp_path, *stems)
    for stem in texts:
        write_annotation(tmp_path, GOOD, stem)
    recordings, problems, notes = read_icbhi(tmp_path)
    assert [one.cycles for one in recordings] == [()] * len(sounds)
    assert notes == []
    pairs = [(f"{stem}.wav: audio without annotation", f"{stem}.txt") for stem in stems]
    pairs += [(f"{stem}.txt: annotation without audio", f"{stem}.wav") for stem in texts]
    assert problems == [f"{problem}, expected {file} beside it" for problem, file in pairs]


def test_annotation_of_its_own_recording_or_of_a_bad_name_is_not_matched(tmp_path: Path) -> None:
    write_audio(tmp_path, STEM, "101_1b1_Al_sc_Other", "102_1b1_Al_sc")
    write_annotation(tmp_path, GOOD)
    write_annotation(tmp_path, GOOD, "102_1b1_Al_sc_Meditron")
    recordings, problems, notes = read_icbhi(tmp_path)
    assert [len(one.cycles) for one in recordings] == [1, 0]
    files = ["101_1b1_Al_sc_Other.wav", "102_1b1_Al_sc.wav", "102_1b1_Al_sc_Meditron.txt"]
    assert [problem.split(":")[0] for problem in problems] == files
    assert notes == []


def test_real_names_match_across_any_device(real_data: Path) -> None:
    names = [path.stem for path in (real_data / "icbhi_annotations").glob("*_*_*_*_*.txt")]
    others = [name.rsplit("_", 1)[0] + "_Other" for name in names]
    assert match_across_releases(names, others) == dict(zip(names, others, strict=True))
    official = pd.read_csv(real_data / "ICBHI_challenge_train_test.txt", sep=r"\s+", header=None)[0]
    matched = match_across_releases(official, names)
    assert len(matched) == 920
    different = {name: other for name, other in matched.items() if name != other}
    assert different == {"226_1b1_Pl_sc_Meditron": "226_1b1_Pl_sc_LittC2SE"}


# --- age, sex and diagnosis ---


def read_metadata(
    folder: Path, demographics: str | bytes | None = None, diagnoses: str | None = None
) -> tuple[Any, ...]:
    """Age, sex, diagnosis and notes of a recording beside these files."""
    files = {"demographic_info.txt": demographics, "patient_diagnosis.csv": diagnoses}
    for name, content in files.items():
        if content is not None:
            data = content.encode() if isinstance(content, str) else content
            (folder / name).write_bytes(data)
    write_audio(folder, STEM)
    write_annotation(folder, GOOD)
    (recording,), problems, notes = read_icbhi(folder)
    assert problems == []
    return (
        None if isnan(recording.age) else recording.age,
        recording.sex,
        recording.diagnosis,
        notes,
    )


def test_real_metadata_is_as_pandas_reads_it(real_data: Path) -> None:
    # The files are two folders above.
    patients, notes = read_patient_metadata(
        [real_data / "icbhi" / "audio_and_txt_files"], real_data / "icbhi"
    )
    assert notes == []
    assert patients["101"] == {"age": 3, "sex": "F", "diagnosis": "URTI"}
    assert patients["102"] == {"age": 0.75, "sex": "F", "diagnosis": "Healthy"}
    assert patients["108"]["sex"] == "M"
    people = pd.read_csv(
        real_data / "demographic_info.txt", sep=r"\s+", header=None, dtype={0: str}, index_col=0
    )
    diagnoses = pd.read_csv(
        real_data / "patient_diagnosis.csv", dtype=str, index_col=0, keep_default_na=False
    ).iloc[:, 0]
    table = pd.DataFrame.from_dict(patients, orient="index")
    assert table["age"].dropna().to_dict() == people[1].dropna().to_dict()
    assert table["sex"].dropna().to_dict() == people[2].dropna().to_dict()
    assert table["diagnosis"].to_dict() == diagnoses.to_dict()
    assert (len(people), len(diagnoses)) == (126, 126)
    for one in read_icbhi(real_data / "icbhi").recordings:
        row = {"age": one.age, "sex": one.sex, "diagnosis": one.diagnosis}
        assert row.items() >= patients[one.patient].items()


@pytest.mark.parametrize(
    ("demographics", "diagnoses", "expected"),
    [
        (None, None, (None, "", "", [])),
        (None, "101,COPD\n102,Healthy\n", (None, "", "COPD", [])),
        (None, "ID,CLASS\n101,COPD\n", (None, "", "COPD", [])),
        (None, "\ufeff101,COPD\n", (None, "", "COPD", [])),
        ("\n101 61.5 M 20 NA NA\r\n", "101,COPD", (61.5, "M", "COPD", [])),
        ("101 NA NA NA NA NA\n", "101,\n", (None, "", "", [])),
        (None, "101,nan\n", (None, "", "", [])),
    ],
)
def test_metadata_files_alone_and_together(
    tmp_path: Path, demographics: str | None, diagnoses: str | None, expected: tuple[Any, ...]
) -> None:
    assert read_metadata(tmp_path, demographics, diagnoses) == expected


def test_bad_lines_of_metadata_are_noted_and_the_others_are_used(tmp_path: Path) -> None:
    demographics = "101 61 M\nAge unknown\n103 old F 1 2 3\n104 -3 M\n105\n101x 1 F\n106 <1 F\n"
    demographics += "101 62 M\n"
    diagnoses = "ID,CLASS\nx,COPD\n101,LRTI\n102\n103,a,b\n"
    age, sex, diagnosis, notes = read_metadata(tmp_path, demographics, diagnoses)
    assert (age, sex, diagnosis) == (61, "M", "LRTI")
    reasons = ["a patient's number", "an age", "an age", "patient, age", "a patient's", "an age"]
    reasons.append("one line per patient, the first is line 1")
    expected = [
        f"demographic_info.txt, line {line}: expected {reason}"
        for line, reason in enumerate(reasons, start=2)
    ]
    reasons = ["a patient's number", "patient, diagnosis", "patient, diagnosis"]
    expected += [
        f"patient_diagnosis.csv, line {line}: expected {reason}"
        for line, reason in zip((2, 4, 5), reasons, strict=True)
    ]
    assert len(notes) == len(expected)
    assert all(note.startswith(start) for note, start in zip(notes, expected, strict=True))
    assert notes[0].endswith("but got ['Age', 'unknown']")
    assert notes[-1].endswith("but got ['103', 'a', 'b']")


def test_unreadable_metadata_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "demographic_info.txt":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    *_, notes = read_metadata(tmp_path, b"\xff\xfe\x00\x80 \x00")
    assert notes == ["demographic_info.txt: expected a line per patient, but got none"]
    monkeypatch.setattr(Path, "read_bytes", refuse)
    note = "demographic_info.txt: cannot be read: Permission denied; it is not used"
    assert read_metadata(tmp_path, diagnoses="101,COPD\n") == (None, "", "COPD", [note])


def test_nearest_metadata_file_is_used_and_those_below_last(tmp_path: Path) -> None:
    folder, below = tmp_path / "a" / "b" / "c", tmp_path / "a" / "b" / "meta"
    folder.mkdir(parents=True)
    below.mkdir()
    (tmp_path / "side.txt").write_text("")  # three above
    for place in (below, tmp_path / "a", folder):
        assert not (place / "SIDE.txt").exists()
        (place / "SIDE.txt").write_text("")
        assert find_metadata_files(folder, tmp_path / "a" / "b", "side.txt") == [place / "SIDE.txt"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("101\t\tF\tNA\t9.8\t73", (None, "F"), id="blank age"),
        pytest.param("101\t\t\t\t9.8\t73", (None, ""), id="a weight after three blanks"),
        pytest.param("101\t7\t\t\t\t", (7, ""), id="blanks to the end"),
        pytest.param("101,,Male,,9.8,73", (None, "M"), id="commas"),
        pytest.param("Patient;Age;Sex\n101;0,75;f;;19;99", (0.75, "F"), id="semicolons"),
        pytest.param("101 0,75 Female NA 19 99", (0.75, "F"), id="decimal comma"),
        pytest.param("patient,weight,sex,age\n101,19,F,3", (3, "F"), id="another order"),
        pytest.param("Gender\tAge\tID\tkg/m2\nM\t7\t101\t9", (7, "M"), id="number last"),
        pytest.param('"101","61","male"', (61, "M"), id="quoted"),
        pytest.param("\ufeff101\t3\tF\r\n".encode("utf-16-le"), (3, "F"), id="utf-16"),
    ],
)
def test_blank_cell_does_not_shift_the_others(
    tmp_path: Path, content: str | bytes, expected: tuple[float | None, str]
) -> None:
    assert read_metadata(tmp_path, content) == (*expected, "", [])


def test_side_files_of_all_folders_are_read_and_contradictions_noted(tmp_path: Path) -> None:
    for name, stem, line in (("train", STEMS[0], "101 3 F"), ("test", STEMS[1], "102 7 M")):
        write_folder(tmp_path / name, stem)
        (tmp_path / name / "demographic_info.txt").write_text(line)
    (tmp_path / "demographic_info.txt").write_text("101 33 F\n102 7 M\n")
    recordings, problems, notes = read_icbhi(tmp_path)
    assert ([(one.age, one.sex) for one in recordings], problems) == ([(3, "F"), (7, "M")], [])
    file = tmp_path / "demographic_info.txt"
    assert notes[1:] == [f"{file}: 1 lines contradict a file that is used, such as line 1"]


def test_side_file_of_other_patients_is_noted(tmp_path: Path) -> None:
    *_, (note,) = read_metadata(tmp_path, "501 3 F\n502 7 M\n")
    assert "of other patients, such as 501" in note


def test_publishers_names_of_metadata_files(tmp_path: Path) -> None:
    (tmp_path / "ICBHI_Challenge_demographic_information.txt").write_text("101\t3\tF\tNA\t19\t99")
    (tmp_path / "ICBHI_Challenge_diagnosis.txt").write_text("101\tHeart failure\n")
    (tmp_path / "someones_diagnosis.txt").write_text("101\tnone\n")
    assert read_metadata(tmp_path) == (3, "F", "Heart failure", [])
    note = "ICBHI_Challenge_diagnosis.txt is used, not patient_diagnosis.csv beside it"
    assert read_metadata(tmp_path, None, "101,COPD") == (3, "F", "Heart failure", [note])
