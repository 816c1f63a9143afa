"""SPRSound: counts against json and pandas, each of its layouts, each way to break its files."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from support.disk import drop_root_privileges
from support.sprsound import AUDIO, JSON, RATE_HZ, add, annotate, event

from lungsound.data.database import Database, open_database
from lungsound.data.labels import FOUR_CLASS, SPRSOUND_SEVEN
from lungsound.data.readers.sprsound import read_events, read_sprsound
from lungsound.data.recordings import Annotation, ReadResult
from lungsound.data.registry import DATABASES
from lungsound.data.store import open_waveform_store
from lungsound.errors import DataError

# From the issue, and not from the code.
TYPES = ("Normal", "Fine Crackle", "Coarse Crackle", "Wheeze", "Rhonchi", "Stridor")
LABEL = dict(zip(TYPES, ("normal", "crackle", "crackle", *["wheeze"] * 3), strict=True))
LABEL["Wheeze+Crackle"] = "both"
# From README.md of the real recordings: events of each type, recordings, children.
PUBLISHED = {
    "train": ([5159, 912, 49, 452, 39, 15, 30], 1949, 251),
    "intra": ([688, 175, 14, 108, 14, 2, 3], 379, 162),
}
A, B = "40638274_9.7_1_p1_1696", "40672181_13.1_0_p2_2740"
C, D = "41279835_14.1_0_p3_2945", "41279835_14.1_0_p4_2050"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """All three parts; the fourth recording is the third under another name, in a test part."""
    root = tmp_path / "SPRSound"
    add(root, "train", A, event(), event("Rhonchi", "1000", "1500.5"))
    add(root, "train", C, event("Wheeze+Crackle"), tone=440)
    add(root, "inter", B, event("Fine Crackle"), suffix=".flac")
    add(root, "intra", D, event("Wheeze+Crackle"), suffix=".flac", tone=440)
    return root


def open_sprsound(root: Path, skip_bad: bool = False) -> Database:
    return open_database(DATABASES["sprsound"], root, RATE_HZ, root.parent / "store", skip_bad)


def problems_of(root: Path) -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        open_sprsound(root)
    return error.value.problems


@pytest.fixture(scope="module")
def real(real_data: Path) -> ReadResult:
    return read_sprsound(real_data / "sprsound")


# --- the real files ---


def test_counts_are_as_published(real: ReadResult) -> None:
    assert real.problems == []
    notes, children = [], {}
    for part, (events, recordings, patients) in PUBLISHED.items():
        chosen = [one for one in real.recordings if one.part == part]
        types = Counter(cycle.event_type for one in chosen for cycle in one.cycles)
        assert types == dict(zip(LABEL, events, strict=True))
        children[part] = {one.patient for one in chosen}
        assert (len(chosen), len(children[part])) == (recordings, patients)
        notes.append(
            f"SPRSound {part}: {recordings} recordings of {patients} children, {sum(events)} events"
        )
    assert children["intra"] <= children["train"]
    assert real.notes == [*notes, "SPRSound: not there, and not used: inter"]


def test_every_event_and_name_is_as_json_and_pandas_read_it(
    real: ReadResult, real_data: Path
) -> None:
    events, quality = [], {}
    for part in PUBLISHED:
        for path in (real_data / "sprsound" / JSON[part]).glob("*.json"):
            content = json.loads(path.read_text())
            quality[path.stem] = content["record_annotation"]
            for number, one in enumerate(content["event_annotation"]):
                events.append({"part": part, "recording": path.stem, "cycle": number, **one})
    expected = pd.DataFrame(events).sort_values(["recording", "cycle"], ignore_index=True)
    expected["label"] = expected["type"].map(LABEL)
    expected[["start", "end"]] = expected[["start", "end"]].astype(float) / 1000
    rows = [
        (one.part, one.name, cycle.line, cycle.start_seconds, cycle.end_seconds, cycle.label,
         cycle.event_type)
        for one in real.recordings for cycle in one.cycles
    ]  # fmt: skip
    columns = ["part", "recording", "cycle", "start", "end", "label", "type"]
    table = pd.DataFrame(rows, columns=columns)
    pd.testing.assert_frame_equal(table, expected[columns], check_dtype=False)
    folded = [FOUR_CLASS.labels[index] for index in SPRSOUND_SEVEN.fold_to(FOUR_CLASS)]
    assert dict(zip(SPRSOUND_SEVEN.labels, folded, strict=True)) == LABEL
    poor = {name for name, value in quality.items() if value == "Poor Quality"}
    assert len(poor) > 100
    assert {one.name for one in real.recordings if not one.cycles} == poor

    names = pd.Series([one.name for one in real.recordings])
    assert names.is_monotonic_increasing
    pattern = (
        r"(?P<patient>\d+)_(?P<age>[\d.]+)_(?P<sex>\d)_(?P<location>..)_(?P<recording_index>\d+)$"
    )
    fields = names.str.extract(pattern)
    fields["sex"] = fields["sex"].map({"0": "M", "1": "F"})
    fields["age"] = fields["age"].astype(float)
    for column in fields:
        assert [getattr(one, column) for one in real.recordings] == fields[column].tolist(), column


def test_recording_in_both_parts_has_one_content(real: ReadResult, tmp_path: Path) -> None:
    pair = ("41279835_14.1_0_p1_2050", "41279835_14.1_0_p1_2945")
    others = [one for one in real.recordings if one.patient == "41279835" and one.name not in pair]
    chosen = [one for one in real.recordings if one.name in pair] + others[:1]
    assert [one.part for one in chosen[:2]] == ["intra", "train"]
    stored = open_waveform_store(chosen, RATE_HZ, tmp_path).recordings
    other = stored[others[0].name]["content"]
    assert stored[pair[0]]["content"] == stored[pair[1]]["content"] != other
    assert all(entry["rate_hz"] == RATE_HZ and entry["problem"] == "" for entry in stored.values())


# --- fakes in the published layout ---


def test_table_of_a_fake_database(root: Path) -> None:
    database = open_sprsound(root)
    table = database.cycles
    kinds = ["Normal", "Rhonchi", "Fine Crackle", "Wheeze+Crackle", "Wheeze+Crackle"]
    assert table["recording"].tolist() == [A, A, B, C, D]
    assert table["part"].tolist() == ["train", "train", "inter", "train", "intra"]
    assert table["event_type"].tolist() == kinds
    assert table["label"].tolist() == [LABEL[kind] for kind in kinds]
    assert table["patient"].tolist() == ["40638274", "40638274", "40672181", "41279835", "41279835"]
    assert table["age"].tolist() == [9.7, 9.7, 13.1, 14.1, 14.1]
    assert table["sex"].tolist() == ["F", "F", "M", "M", "M"]
    assert table["location"].tolist() == ["p1", "p1", "p2", "p3", "p4"]
    assert table["end_seconds"].tolist() == [1, 1.5005, 1, 1, 1]
    lengths = (table["end_sample"] - table["start_sample"]).tolist()
    assert lengths == [8000, 4004, 8000, 8000, 8000]
    for row in table.itertuples():  # each cycle has the tone of its recording
        samples = database.store.samples[row.start_sample : row.end_sample]
        pitch_hz = np.argmax(np.abs(np.fft.rfft(samples))) * RATE_HZ / len(samples)
        tone_hz = 440 if row.recording in (C, D) else 100 + sum(row.recording.encode())
        assert pitch_hz == pytest.approx(tone_hz, abs=2)
    contents = table.drop_duplicates("recording").set_index("recording")["content"]
    assert contents[C] == contents[D]
    assert contents.nunique() == 3
    assert f"{C} and {D} hold the same sound" in database.notes


def test_wav_and_flac_are_the_same_database(root: Path) -> None:
    other = root.parent / "other"
    for path in root.rglob("*.json"):
        annotate(other / path.relative_to(root), json.loads(path.read_text())["event_annotation"])
    for path in root.glob("*_wav/*"):
        samples, rate_hz = soundfile.read(path, dtype="int16")
        suffix = ".flac" if path.suffix == ".wav" else ".wav"
        converted = other / path.relative_to(root).with_suffix(suffix)
        converted.parent.mkdir(exist_ok=True)
        soundfile.write(converted, samples, rate_hz, subtype="PCM_16")
    one, another = open_sprsound(root), open_sprsound(other)
    pd.testing.assert_frame_equal(one.cycles, another.cycles)
    np.testing.assert_array_equal(one.store.samples, another.store.samples)


@pytest.mark.parametrize("inner", ["", "one", "one/two/three"])
def test_folder_is_found_at_any_depth(root: Path, tmp_path: Path, inner: str) -> None:
    (tmp_path / inner).mkdir(parents=True, exist_ok=True)
    (tmp_path / "a file").write_text("")
    root.rename(tmp_path / inner / "database")
    assert len(read_sprsound(tmp_path).recordings) == 4


def test_unreadable_folder_beside_it_is_noted(root: Path, tmp_path: Path) -> None:
    """Such as lost+found on a disk of its own."""
    lost = tmp_path / "lost+found"
    lost.mkdir(mode=0)
    message = r"lost\+found cannot be read: Permission denied \(data\.root\)"
    with drop_root_privileges():
        result = read_sprsound(tmp_path)
        with pytest.raises(DataError, match=message):
            read_sprsound(lost)
    assert len(result.recordings) == 4
    assert f"{lost}: cannot be read: Permission denied" in result.notes


@pytest.mark.parametrize("lacking", ["train", "inter", "intra"])
@pytest.mark.parametrize("keeps_audio", [True, False])
def test_missing_part_is_noted(root: Path, lacking: str, keeps_audio: bool) -> None:
    folder = root / JSON[lacking]
    for path in folder.iterdir():
        if not keeps_audio:
            next((root / AUDIO[lacking]).glob(f"{path.stem}.*")).unlink()
        path.unlink()
    folder.rmdir()
    result = read_sprsound(root)
    rest = [part for part in ("train", "inter", "intra") if part != lacking]
    assert result.problems == []
    assert {one.part for one in result.recordings} == set(rest)
    assert result.notes[-1] == f"SPRSound: not there, and not used: {lacking}"
    assert [note.split(":")[0] for note in result.notes[:-1]] == [f"SPRSound {one}" for one in rest]


def test_missing_database_is_reported_with_place_and_remedy(tmp_path: Path) -> None:
    a_file, only_audio = tmp_path / "file", tmp_path / "audio"
    a_file.write_text("")
    (only_audio / "train_wav").mkdir(parents=True)
    for root, reason in (
        (tmp_path / "nowhere", "no such folder"),
        (a_file, "not a folder"),
        (only_audio, "none of them in it"),
        (Path("~nobody-of-this-name/x"), "no such folder"),
    ):
        with pytest.raises(DataError) as error:
            read_sprsound(root)
        remedy = ("train_wav", "test_json/inter_test_json", "https://", "data.root=PATH")
        assert all(part in str(error.value) for part in (str(root), reason, *remedy))


def test_home_folder_may_be_abbreviated(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root.parent))
    assert len(read_sprsound(Path("~/SPRSound")).recordings) == 4


def test_other_files_are_ignored(root: Path) -> None:
    for name in (f"._{A}.json", f"._{A}.wav", ".DS_Store", "readme.txt"):
        (root / "train_json" / name).write_text("no annotation")
        (root / "train_wav" / name).write_text("no audio")
    result = read_sprsound(root)
    assert (len(result.recordings), result.problems) == (4, [])


def test_two_files_for_one_name_are_a_problem(root: Path) -> None:
    add(root, "train", A, event(), suffix=".flac", tone=900)
    annotate(root / "train_json" / f"{A}.JSON", [event()])
    assert problems_of(root) == tuple(
        f"{A}.{one} and {A}.{other}: 2 files for one name in {folder}, expected one"
        for folder, one, other in (("train_wav", "flac", "wav"), ("train_json", "JSON", "json"))
    )
    assert A not in set(open_sprsound(root, skip_bad=True).cycles["recording"])


@pytest.mark.parametrize(("start", "end"), [(1500, 1639), (0, 279)])
def test_file_of_times_in_another_unit_is_a_problem(root: Path, start: int, end: int) -> None:
    """No published file has so short a longest event: here in all of 2 s, or in its first half."""
    annotate(root / "train_json" / f"{A}.json", [event("Normal", start, end)])
    (problem,) = problems_of(root)
    assert problem.startswith(f"{A}.json: the longest of its 1 cycles has {end - start} ms")
    annotate(root / "train_json" / f"{A}.json", [event("Normal", start, end + 2)])
    assert len(open_sprsound(root).cycles) == 4


def test_fuller_of_two_copies_is_used_and_both_are_named(root: Path) -> None:
    small = root.parent / "a sample"
    add(small, "train", A, event("Stridor"), tone=900)
    result = read_sprsound(root.parent)
    assert len(result.recordings) == 4
    expected = f"SPRSound in {root} (4 annotations) is used, not that in {small} (1)"
    assert result.notes[0] == expected


def test_other_sound_in_as_many_recordings_is_a_problem(root: Path) -> None:
    copy = root.parent / "SPRSound augmented"
    shutil.copytree(root, copy)
    assert read_sprsound(root.parent).problems == []
    add(copy, "train", A, event(), tone=900)
    (problem,) = read_sprsound(root.parent).problems
    assert problem.startswith(f"SPRSound in {root} (4 annotations) is used, not that in {copy} (4)")


def test_link_that_leads_nowhere_is_said(root: Path) -> None:
    gone = root.parent / "unplugged"
    for path in (root / "train_wav" / f"{A}.wav", root / "train_json" / f"{C}.json"):
        path.unlink()
        path.symlink_to(gone)
    (root / "test_wav").rename(root / "before")
    (root / "test_wav").symlink_to(gone)
    (root / "train_wav" / "a.wav.gz").write_text("")
    fault = f"a link to {gone}, which is not there: "
    problems = problems_of(root)
    assert [problem.partition(f"cannot be read: {fault}")[0] for problem in problems] == [
        f"{C}.json: ", f"{A}.wav: "
    ]  # fmt: skip
    for line in (f"test_wav: {fault}", "1 packed or half downloaded, such as a.wav.gz"):
        assert any(line in note for note in read_sprsound(root).notes)


def test_missing_partners_and_bad_names_are_problems(root: Path) -> None:
    (root / "train_wav" / f"{A}.wav").unlink()
    (root / "train_json" / f"{C}.json").unlink()
    (root / "test_json" / "intra_test_json" / f"{D}.json").unlink()
    names = ("A1_9.7_1_p1_1", "1_9.7_2_p1_1", "1_9.7_1_p5_1", "1_9.7_1_p1", "1__1_p1_1")
    for name in (*names, "١_9.7_1_p1_1"):
        annotate(root / "train_json" / f"{name}.json", [event()])
    problems = read_sprsound(root).problems
    assert f"{A}.json: annotation without audio, expected {A}.wav or .flac in train_wav" in problems
    assert f"{C}.wav: audio without annotation, expected {C}.json in train_json" in problems
    expected = f"expected {D}.json in test_json/inter_test_json or test_json/intra_test_json"
    assert f"{D}.flac: audio without annotation, {expected}" in problems
    message = "the name is not patient_age_sex_location_number"
    assert (sum(message in problem for problem in problems), len(problems)) == (6, 9)


@pytest.mark.parametrize(("first", "second"), [("train", "intra"), ("inter", "intra")])
def test_name_in_two_parts_is_a_problem_and_used_once(root: Path, first: str, second: str) -> None:
    """Waveforms are stored by name: one cycle could have the other's sound, or be in two sets."""
    name = {"train": A, "inter": B}[first]
    suffix = ".flac" if first == "inter" else ".wav"  # inter and intra have one folder of audio
    add(root, second, name, event("Stridor"), suffix=suffix, tone=1000)
    assert problems_of(root) == (f"{name}.json in {JSON[second]}: {first} has that name, too",)
    table = open_sprsound(root, skip_bad=True).cycles
    assert set(table["part"][table["recording"] == name]) == {first}
    assert "Stridor" not in set(table["event_type"])


def test_recording_of_poor_quality_without_events_is_not_used(root: Path) -> None:
    name = "40638274_9.7_1_p2_1775"
    add(root, "train", name, recorded="Poor Quality")
    (root / "train_wav" / f"{name}.wav").write_bytes(b"never opened")
    database = open_sprsound(root)
    assert name not in set(database.cycles["recording"])
    assert database.recordings == 4
    assert "SPRSound train: 3 recordings of 2 children, 3 events" in database.notes
    path = annotate(root.parent / "a.json", [event(), event()], "Poor Quality")
    cycles, problems, quality = read_events(path)  # a part to come may annotate events
    assert (len(cycles), problems, quality) == (2, (), "Poor Quality")


def test_problems_of_all_files_come_together(root: Path) -> None:
    events = [event("Cough"), event(), event(end="x"), event(end="2100")]
    annotate(root / "train_json" / f"{A}.json", events)
    (root / JSON["inter"] / f"{B}.json").write_text("no json")
    (root / "train_wav" / f"{C}.wav").write_bytes(b"")
    problems = problems_of(root)
    places = [problem.split(": ")[0] for problem in problems]
    events = [f"{A}.json, event {number}" for number in (1, 3, 4)]
    assert places == [*events[:2], f"{B}.json", events[2], f"{C}.wav"]
    late = f"{events[2]}: end 2.1 s is 100 ms after the audio's end at 2.000 s"
    assert problems[3].startswith(late)
    assert set(open_sprsound(root, skip_bad=True).cycles["recording"]) == {D}


# --- annotations ---


@pytest.mark.parametrize("start", ["1234", 1234, 1234.0, "1234.0", " 1234 "])
@pytest.mark.parametrize("end", ["2815.5", 2815.5])
def test_times_are_milliseconds_as_strings_or_numbers(tmp_path: Path, start: Any, end: Any) -> None:
    path = annotate(tmp_path / "a.json", [event("Stridor", start, end)])
    assert read_events(path)[:2] == ((Annotation(0, 1.234, 2.8155, "wheeze", "Stridor"),), ())


def test_events_keep_their_place_in_the_file(tmp_path: Path) -> None:
    kinds = [event("Normal", 500, 900), event("Cough"), event("Stridor", 0, 400)]
    cycles, (problem,), _ = read_events(annotate(tmp_path / "a.json", kinds))
    assert [(cycle.line, cycle.start_seconds) for cycle in cycles] == [(0, 0.5), (2, 0.0)]
    expected = "type is 'Cough', expected one of Normal, Fine Crackle,"
    assert problem.startswith(f"a.json, event 2: {expected}")


SHAPE = "a.json: expected an object with a list event_annotation, but got "


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.json: not JSON: "),
        (b"{", "a.json: not JSON: "),
        (b"\xff\xfe\x00\x01\x80", "a.json: not JSON: "),
        (b"[" * 100_000, "a.json: not JSON: "),
        (b'{"event_annotation": [' + b"9" * 5000 + b"]}", "a.json: not JSON: "),
        (b"[]", f"{SHAPE}[]"),
        (b"3", f"{SHAPE}3"),
        (b"{}", f"{SHAPE}{{}}"),
        (b"null", f"{SHAPE}None"),
        (b'"event_annotation"', f"{SHAPE}'event_annotation'"),
        (b'{"event_annotation": null}', f"{SHAPE}{{'event_annotation': None}}"),
        (b'{"event_annotation": {"0": {}}}', SHAPE),
        (b'{"event_annotation": "none"}', SHAPE),
        (b'["' + b"x" * 5000 + b'"]', SHAPE),
        (None, "a.json: cannot be read: No such file or directory"),
    ],
)
def test_file_without_a_list_of_events_is_one_problem(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    cycles, (problem,), quality = read_events(path)
    assert (cycles, quality) == ((), "")
    assert problem.startswith(message)
    assert "\n" not in problem
    assert len(problem) < 250


BAD_TIMES = (
    None, True, "", "x", "-1", "1e3", "1_0", "nan", "٣", "9" * 400, [], {}, -1, -0.5, 1e12, 10**400,
    {"ms": 1}, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip


@pytest.mark.parametrize("value", BAD_TIMES, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize("field", ["start", "end"])
def test_bad_time_is_reported(tmp_path: Path, field: str, value: Any) -> None:
    path = annotate(tmp_path / "a.json", [event(), {**event(), field: value}, event()])
    cycles, (problem,), _ = read_events(path)
    assert [cycle.line for cycle in cycles] == [0, 2]
    text = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    expected = "expected milliseconds from 0, such as 1234"
    assert problem == f"a.json, event 2: {field} is {text}, {expected}"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (event(start="1000", end="1000"), "end 1000 is not after start 1000, expected start < end"),
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
def test_bad_event_is_reported_and_the_others_are_kept(
    tmp_path: Path, bad: Any, message: str
) -> None:
    path = annotate(tmp_path / "a.json", [event(), bad, event("Wheeze")])
    cycles, (problem,), _ = read_events(path)
    assert [cycle.line for cycle in cycles] == [0, 2]
    assert problem.startswith("a.json, event 2: ")
    assert message in problem
    assert len(problem) < 200


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_accepted(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"event_annotation": [event()]}), encoding=encoding)
    assert len(read_events(path)[0]) == 1
