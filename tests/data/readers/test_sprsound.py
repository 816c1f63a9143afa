"""SPRSound: its counts against json and pandas, every layout it comes in, and every way its files
can be broken.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from support.sprsound import AUDIO, JSON, RATE_HZ, add, annotate, event

from lungsound.data.database import Database, open_database
from lungsound.data.labels import FOUR_CLASS, SPRSOUND_SEVEN
from lungsound.data.readers.sprsound import read_events, read_sprsound
from lungsound.data.recordings import Annotation, ReadResult
from lungsound.data.store import open_waveform_store
from lungsound.errors import DataError

# From the issue, and not from the code.
LABEL = {
    "Normal": "normal",
    "Fine Crackle": "crackle",
    "Coarse Crackle": "crackle",
    "Wheeze": "wheeze",
    "Rhonchi": "wheeze",
    "Stridor": "wheeze",
    "Wheeze+Crackle": "both",
}
# From README.md of the real recordings.
PUBLISHED = {
    "train": {
        "Normal": 5159,
        "Fine Crackle": 912,
        "Coarse Crackle": 49,
        "Wheeze": 452,
        "Rhonchi": 39,
        "Stridor": 15,
        "Wheeze+Crackle": 30,
    },
    "intra": {
        "Normal": 688,
        "Fine Crackle": 175,
        "Coarse Crackle": 14,
        "Wheeze": 108,
        "Rhonchi": 14,
        "Stridor": 2,
        "Wheeze+Crackle": 3,
    },
}
A, B, C, D = (
    "40638274_9.7_1_p1_1696",
    "40672181_13.1_0_p2_2740",
    "41279835_14.1_0_p3_2945",
    "41279835_14.1_0_p4_2050",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """All three parts; the fourth recording is the third under another name, in a test part."""
    root = tmp_path / "SPRSound"
    add(root, "train", A, event(), event("Rhonchi", "1000", "1500.5"))
    add(root, "train", C, event("Wheeze+Crackle"), tone=440)
    add(root, "inter", B, event("Fine Crackle"), suffix=".flac")
    add(root, "intra", D, event("Wheeze+Crackle"), suffix=".flac", tone=440)
    return root


def opened(root: Path, skip_bad: bool = False) -> Database:
    return open_database("sprsound", root, RATE_HZ, root.parent / "store", skip_bad)


@pytest.fixture(scope="module")
def real(real_data: Path) -> ReadResult:
    return read_sprsound(real_data / "sprsound")


@pytest.fixture(scope="module")
def annotated(real_data: Path) -> pd.DataFrame:
    """Every event of the real files, by json and pandas alone."""
    rows = []
    for part in ("train", "intra"):
        for path in (real_data / "sprsound" / JSON[part]).glob("*.json"):
            for number, found in enumerate(json.loads(path.read_text())["event_annotation"]):
                rows.append({"part": part, "recording": path.stem, "cycle": number, **found})
    return pd.DataFrame(rows).sort_values(["recording", "cycle"], ignore_index=True)


# --- the real files ---


def test_the_published_counts(real: ReadResult) -> None:
    assert real.problems == []
    counts = {
        part: Counter(
            cycle.event_type for one in real.recordings if one.part == part for cycle in one.cycles
        )
        for part in ("train", "inter", "intra")
    }
    assert counts == {**PUBLISHED, "inter": {}}
    train, intra = (
        [one for one in real.recordings if one.part == part] for part in ("train", "intra")
    )
    assert (len(train), len(intra), len(real.recordings)) == (1949, 379, 1949 + 379)
    children = [{one.patient for one in part} for part in (train, intra)]
    assert [len(part) for part in children] == [251, 162]
    assert children[1] <= children[0]
    assert real.notes == [
        "SPRSound train: 1949 recordings of 251 children, 6656 events",
        "SPRSound intra: 379 recordings of 162 children, 1004 events",
        "SPRSound: not there, and not used: inter",
    ]


def test_every_event_is_as_json_and_pandas_read_it(
    real: ReadResult, annotated: pd.DataFrame
) -> None:
    rows = [
        (
            one.part,
            one.name,
            cycle.line,
            cycle.start_seconds,
            cycle.end_seconds,
            cycle.label,
            cycle.event_type,
        )
        for one in real.recordings
        for cycle in one.cycles
    ]
    read = pd.DataFrame(
        rows, columns=["part", "recording", "cycle", "start", "end", "label", "type"]
    )
    expected = annotated.assign(
        start=annotated["start"].astype(float) / 1000,
        end=annotated["end"].astype(float) / 1000,
        label=annotated["type"].map(LABEL),
    )
    pd.testing.assert_frame_equal(read, expected[read.columns], check_dtype=False)
    fold = SPRSOUND_SEVEN.fold_to(FOUR_CLASS)
    folded = [FOUR_CLASS.labels[index] for index in fold]
    assert dict(zip(SPRSOUND_SEVEN.labels, folded, strict=True)) == LABEL


def test_names_say_who_where_and_how_old(real: ReadResult) -> None:
    pattern = (
        r"(?P<patient>\d+)_(?P<age>[\d.]+)_(?P<sex>\d)_(?P<location>..)_(?P<recording_index>\d+)$"
    )
    names = pd.Series([one.name for one in real.recordings])
    assert names.is_monotonic_increasing
    expected = names.str.extract(pattern).assign(
        sex=lambda table: table["sex"].map({"0": "M", "1": "F"})
    )
    for column in ("patient", "recording_index", "location", "sex"):
        assert [getattr(one, column) for one in real.recordings] == expected[column].tolist(), (
            column
        )
    assert [one.age for one in real.recordings] == expected["age"].astype(float).tolist()
    assert {one.diagnosis for one in real.recordings} == {""}


def test_poor_quality_recordings_and_they_alone_have_no_events(
    real: ReadResult, real_data: Path
) -> None:
    quality = {
        path.stem: json.loads(path.read_text())["record_annotation"]
        for part in ("train", "intra")
        for path in (real_data / "sprsound" / JSON[part]).glob("*.json")
    }
    poor = {name for name, said in quality.items() if said == "Poor Quality"}
    assert len(poor) > 100
    assert {one.name for one in real.recordings if not one.cycles} == poor


def test_the_recording_that_lies_in_both_parts_has_one_content(
    real: ReadResult, tmp_path: Path
) -> None:
    pair = ("41279835_14.1_0_p1_2050", "41279835_14.1_0_p1_2945")
    other = next(
        one for one in real.recordings if one.patient == "41279835" and one.name not in pair
    )
    chosen = [one for one in real.recordings if one.name in pair] + [other]
    stored = open_waveform_store(chosen, RATE_HZ, tmp_path).recordings
    assert [one.part for one in chosen] == ["intra", "train", other.part]
    assert stored[pair[0]]["content"] == stored[pair[1]]["content"] != stored[other.name]["content"]
    assert all(entry["rate_hz"] == RATE_HZ and entry["problem"] == "" for entry in stored.values())


# --- fakes in the published layout ---


def test_the_table_of_a_fake_database(root: Path) -> None:
    database = opened(root)
    table = database.cycles
    assert table["recording"].tolist() == [A, A, B, C, D]
    assert table["part"].tolist() == ["train", "train", "inter", "train", "intra"]
    assert table["event_type"].tolist() == [
        "Normal",
        "Rhonchi",
        "Fine Crackle",
        "Wheeze+Crackle",
        "Wheeze+Crackle",
    ]
    assert table["label"].tolist() == ["normal", "wheeze", "crackle", "both", "both"]
    assert table["patient"].tolist() == ["40638274", "40638274", "40672181", "41279835", "41279835"]
    assert table["age"].tolist() == [9.7, 9.7, 13.1, 14.1, 14.1]
    assert table["sex"].tolist() == ["F", "F", "M", "M", "M"]
    assert table["location"].tolist() == ["p1", "p1", "p2", "p3", "p4"]
    assert table["end_seconds"].tolist() == [1, 1.5005, 1, 1, 1]
    lengths = (table["end_sample"] - table["start_sample"]).tolist()
    assert lengths == [8000, 4004, 8000, 8000, 8000]
    for row in table.to_dict("records"):  # the tone of its recording
        spectrum = np.abs(
            np.fft.rfft(database.store.samples[row["start_sample"] : row["end_sample"]])
        )
        pitch = np.argmax(spectrum) * RATE_HZ / (row["end_sample"] - row["start_sample"])
        tone = 440 if row["recording"] in (C, D) else 100 + sum(row["recording"].encode())
        assert pitch == pytest.approx(tone, abs=2)


def test_a_sound_under_two_names_is_found_and_reported(root: Path) -> None:
    database = opened(root)
    contents = database.cycles.drop_duplicates("recording").set_index("recording")["content"]
    assert contents[C] == contents[D]
    assert contents.nunique() == 3
    assert [note for note in database.notes if "same sound" in note] == [
        f"{C} and {D} hold the same sound"
    ]


def test_wav_and_flac_are_the_same_database(root: Path) -> None:
    other = root.parent / "other"
    for path in root.rglob("*.json"):
        annotate(other / path.relative_to(root), json.loads(path.read_text())["event_annotation"])
    for path in (
        path for folder in ("train_wav", "test_wav") for path in (root / folder).iterdir()
    ):
        samples, rate_hz = soundfile.read(path, dtype="int16")
        turned = other / path.relative_to(root).with_suffix(
            {".wav": ".flac", ".flac": ".wav"}[path.suffix]
        )
        turned.parent.mkdir(exist_ok=True)
        soundfile.write(turned, samples, rate_hz, subtype="PCM_16")
    one, another = opened(root), opened(other)
    pd.testing.assert_frame_equal(one.cycles, another.cycles)
    np.testing.assert_array_equal(one.store.samples, another.store.samples)


@pytest.mark.parametrize("above", ["", "one", "one/two"])
def test_the_folder_or_one_up_to_two_above_it(root: Path, tmp_path: Path, above: str) -> None:
    (tmp_path / above).mkdir(parents=True, exist_ok=True)
    (tmp_path / "a file").write_text("")
    root.rename(tmp_path / above / "database")
    levels = 1 + len(Path(above).parts)
    if levels > 2:
        with pytest.raises(DataError, match="none of them in it"):
            read_sprsound(tmp_path)
    else:
        assert len(read_sprsound(tmp_path).recordings) == 4


def test_a_folder_that_may_not_be_read_beside_it_is_no_matter(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As lost+found is where a disk of its own is mounted."""
    (tmp_path / "lost+found").mkdir()
    listed = Path.iterdir

    def guarded(folder: Path) -> Any:
        if folder.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", guarded)
    assert len(read_sprsound(tmp_path).recordings) == 4
    with pytest.raises(
        DataError, match=r"lost\+found cannot be read: Permission denied \(data\.root\)"
    ):
        read_sprsound(tmp_path / "lost+found")


@pytest.mark.parametrize("lacking", ["train", "inter", "intra"])
@pytest.mark.parametrize("what", ["annotations", "both"])
def test_a_part_that_is_missing_is_missing(root: Path, lacking: str, what: str) -> None:
    folder = root / JSON[lacking]
    for path in folder.iterdir():
        if what == "both":
            next((root / AUDIO[lacking]).glob(f"{path.stem}.*")).unlink()
        path.unlink()
    folder.rmdir()
    listing = read_sprsound(root)
    assert listing.problems == []
    assert {one.part for one in listing.recordings} == {"train", "inter", "intra"} - {lacking}
    assert listing.notes[-1] == f"SPRSound: not there, and not used: {lacking}"
    assert [note.split(":")[0] for note in listing.notes[:-1]] == [
        f"SPRSound {part}" for part in ("train", "inter", "intra") if part != lacking
    ]


def test_nothing_at_all_says_where_what_and_how(tmp_path: Path) -> None:
    a_file, only_audio = tmp_path / "file", tmp_path / "audio"
    a_file.write_text("")
    (only_audio / "train_wav").mkdir(parents=True)
    for place, found in (
        (tmp_path / "nowhere", "no such folder"),
        (a_file, "not a folder"),
        (only_audio, "none of them in it"),
        (Path("~nobody-of-this-name/x"), "no such folder"),
    ):
        with pytest.raises(DataError) as error:
            read_sprsound(place)
        said = str(error.value)
        for part in (
            str(place),
            found,
            "train_wav",
            "test_json/inter_test_json",
            "https://",
            "data.root=PATH",
        ):
            assert part in said


def test_a_home_folder_may_be_abbreviated(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root.parent))
    assert len(read_sprsound(Path("~/SPRSound")).recordings) == 4


def test_other_files_are_passed_over(root: Path) -> None:
    for name in ("._" + A + ".json", ".DS_Store", "readme.txt"):
        (root / "train_json" / name).write_text("no annotation")
        (root / "train_wav" / name).write_text("no audio")
    (root / "train_wav" / f"._{A}.wav").write_text("no audio")
    assert (len(read_sprsound(root).recordings), read_sprsound(root).problems) == (4, [])


def test_partners_that_are_missing_and_bad_names_are_problems(root: Path) -> None:
    (root / "train_wav" / f"{A}.wav").unlink()
    (root / "train_json" / f"{C}.json").unlink()
    (root / "test_json" / "intra_test_json" / f"{D}.json").unlink()
    for name in (
        "A1_9.7_1_p1_1",
        "1_9.7_2_p1_1",
        "1_9.7_1_p5_1",
        "1_9.7_1_p1",
        "1__1_p1_1",
        "١_9.7_1_p1_1",
    ):
        annotate(root / "train_json" / f"{name}.json", [event()])
    problems = read_sprsound(root).problems
    assert f"{A}.json: annotation without audio, expected {A}.wav or .flac in train_wav" in problems
    assert f"{C}.wav: audio without annotation, expected {C}.json in train_json" in problems
    said = f"expected {D}.json in test_json/inter_test_json or test_json/intra_test_json"
    assert f"{D}.flac: audio without annotation, {said}" in problems
    bad = [
        problem
        for problem in problems
        if "the name is not patient_age_sex_location_number" in problem
    ]
    assert (len(bad), len(problems)) == (6, 9)


def test_test_audio_whose_part_is_not_there_is_no_problem(root: Path) -> None:
    """The other part's audio lies in the same folder."""
    (root / JSON["inter"] / f"{B}.json").unlink()
    (root / JSON["inter"]).rmdir()
    assert (root / "test_wav" / f"{B}.flac").exists()
    assert read_sprsound(root).problems == []


@pytest.mark.parametrize(("first", "second"), [("train", "intra"), ("inter", "intra")])
def test_a_name_in_two_parts_is_a_problem_and_in_one_set(
    root: Path, first: str, second: str
) -> None:
    """The waveforms lie under their names: the other one's sound, or one cycle in training and in
    test.
    """
    name = {"train": A, "inter": B}[first]
    add(root, second, name, event("Stridor"), tone=1000)
    with pytest.raises(DataError) as error:
        opened(root)
    (problem,) = error.value.problems
    assert problem == f"{name}.json in {JSON[second]}: {first} has that name, too"
    table = opened(root, skip_bad=True).cycles
    assert set(table["part"][table["recording"] == name]) == {first}
    assert "Stridor" not in set(table["event_type"])


def test_a_recording_of_poor_quality_is_not_in_use(root: Path) -> None:
    name = "40638274_9.7_1_p2_1775"
    add(root, "train", name, recorded="Poor Quality")
    (root / "train_wav" / f"{name}.wav").write_bytes(b"never opened")
    database = opened(root)
    assert name not in set(database.cycles["recording"])
    assert database.recordings == 4
    assert "SPRSound train: 3 recordings of 2 children, 3 events" in database.notes


def test_events_in_a_recording_of_poor_quality_are_events(tmp_path: Path) -> None:
    """The published parts that are known have none; what a part to come annotates is taken."""
    cycles, problems = read_events(
        annotate(tmp_path / "a.json", [event(), event()], "Poor Quality")
    )
    assert (len(cycles), problems) == (2, ())


def test_an_event_after_the_audio_is_named_as_an_event(root: Path) -> None:
    annotate(root / "train_json" / f"{A}.json", [event(), event(end="2100")])
    with pytest.raises(DataError) as error:
        opened(root)
    (problem,) = error.value.problems
    assert problem.startswith(
        f"{A}.json, event 2: end 2.1 s is 100 ms after the audio's end at 2.000 s"
    )


# --- annotations ---


@pytest.mark.parametrize("start", ["1234", 1234, 1234.0, "1234.0", " 1234 "])
@pytest.mark.parametrize("end", ["2815.5", 2815.5])
def test_times_are_milliseconds_as_strings_and_as_numbers(
    tmp_path: Path, start: Any, end: Any
) -> None:
    path = annotate(tmp_path / "a.json", [event("Stridor", start, end)])
    assert read_events(path) == ((Annotation(0, 1.234, 2.8155, "wheeze", "Stridor"),), ())


@pytest.mark.parametrize("kind", LABEL)
def test_types_become_labels(tmp_path: Path, kind: str) -> None:
    (cycle,), _ = read_events(annotate(tmp_path / "a.json", [event(kind)]))
    assert (cycle.label, cycle.event_type) == (LABEL[kind], kind)


def test_events_keep_their_place_in_the_file_whatever_their_times(tmp_path: Path) -> None:
    events = [
        event("Normal", 500, 900),
        event("Normal", 0, 400),
        event("Cough"),
        event("Wheeze", 100, 300),
    ]
    cycles, (problem,) = read_events(annotate(tmp_path / "a.json", events))
    assert [(cycle.line, cycle.start_seconds) for cycle in cycles] == [(0, 0.5), (1, 0.0), (3, 0.1)]
    assert problem.startswith(
        "a.json, event 3: type is 'Cough', expected one of Normal, Fine Crackle,"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "a.json: not JSON: "),
        ("{", "a.json: not JSON: "),
        (b"\xff\xfe\x00\x01\x80", "a.json: not JSON: "),
        ("[" * 100_000, "a.json: not JSON: "),
        ('{"event_annotation": [' + "9" * 5000 + "]}", "a.json: not JSON: "),
        *(
            (content, f"a.json: expected an object with a list event_annotation, but got {content}")
            for content in ("[]", "3", "{}")
        ),
        ("null", "but got None"),
        ('"event_annotation"', "but got 'event_annotation'"),
        ('{"event_annotation": null}', "but got {'event_annotation': None}"),
        ('{"event_annotation": {"0": {}}}', "expected an object with a list event_annotation"),
        ('{"event_annotation": "none"}', "expected an object with a list event_annotation"),
        ('["' + "x" * 5000 + '"]', "expected an object with a list event_annotation"),
    ],
)
def test_a_file_of_another_shape_is_one_short_problem(
    tmp_path: Path, content: str | bytes, said: str
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    cycles, (problem,) = read_events(path)
    assert cycles == ()
    assert said in problem
    assert "\n" not in problem and len(problem) < 250


BAD_TIMES = (
    None,
    True,
    "",
    "x",
    "-1",
    "1e3",
    "1_0",
    "nan",
    "٣",
    "9" * 400,
    [],
    {},
    -1,
    -0.5,
    1e12,
    10**400,
    {"ms": 1},
)


@pytest.mark.parametrize("value", BAD_TIMES, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize("field", ["start", "end"])
def test_a_bad_time_is_named(tmp_path: Path, field: str, value: Any) -> None:
    path = annotate(tmp_path / "a.json", [event(), {**event(), field: value}, event()])
    cycles, (problem,) = read_events(path)
    assert [cycle.line for cycle in cycles] == [0, 2]
    shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    assert (
        problem
        == f"a.json, event 2: {field} is {shown}, expected milliseconds from 0, such as 1234"
    )


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_should_not_have_are_refused(tmp_path: Path, word: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(f'{{"event_annotation": [{{"start": 0, "end": {word}, "type": "Normal"}}]}}')
    cycles, (problem,) = read_events(path)
    assert cycles == ()
    assert problem.startswith("a.json, event 1: end is ")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            event(start="1000", end="1000"),
            "end 1000 is not after start 1000, expected start < end in ms",
        ),
        (event(start=3, end=2), "end 2 is not after start 3"),
        ({"start": 0, "end": 1}, "type is None, expected one of Normal,"),
        (event("normal"), "type is 'normal'"),
        (event(["Normal"]), "type is ['Normal']"),  # type: ignore[arg-type]
        ({"type": "Normal", "end": 1}, "start is None"),
        ([], "expected an object with start, end and type, but got []"),
        (None, "but got None"),
        ("Normal", "but got 'Normal'"),
        ([["deep"] * 50] * 50, "expected an object with start, end and type, but got [["),
    ],
)
def test_a_bad_event_is_named_and_the_others_are_kept(
    tmp_path: Path, wrong: Any, said: str
) -> None:
    cycles, (problem,) = read_events(
        annotate(tmp_path / "a.json", [event(), wrong, event("Wheeze")])
    )
    assert [cycle.line for cycle in cycles] == [0, 2]
    assert problem.startswith("a.json, event 2: ") and said in problem
    assert len(problem) < 200


def test_byte_order_marks_are_taken_as_they_come(tmp_path: Path) -> None:
    path = annotate(tmp_path / "a.json", [event()])
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_text(json.dumps({"event_annotation": [event()]}), encoding=encoding)
        assert len(read_events(path)[0]) == 1


def test_every_problem_of_every_file_comes_at_once(root: Path) -> None:
    annotate(root / "train_json" / f"{A}.json", [event("Cough"), event(), event(end="x")])
    (root / JSON["inter"] / f"{B}.json").write_text("no json")
    (root / "train_wav" / f"{C}.wav").write_bytes(b"")
    with pytest.raises(DataError) as error:
        opened(root)
    places = [re.split(": ", problem)[0] for problem in error.value.problems]
    assert places == [f"{A}.json, event 1", f"{A}.json, event 3", f"{B}.json", f"{C}.wav"]
    assert set(opened(root, skip_bad=True).cycles["recording"]) == {D}


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    assert read_events(tmp_path / "gone.json") == (
        (),
        ("gone.json: cannot be read: No such file or directory",),
    )
