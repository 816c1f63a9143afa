"""A table of one's own: as the reader of ICBHI reads the same cycles; every fault at once."""

from collections.abc import Callable
from dataclasses import replace
from math import isnan
from pathlib import Path

import pandas as pd
import pytest

from lungsound.data.labels import FOUR_CLASS
from lungsound.data.readers.icbhi import read_icbhi
from lungsound.data.readers.table import read_table, recording_name
from lungsound.data.recordings import ReadResult
from lungsound.data.registry import find_database
from lungsound.errors import DataError

HEADER = "recording,start_seconds,end_seconds,label"
ReadRows = Callable[..., ReadResult]


@pytest.fixture
def read_rows(tmp_path: Path) -> ReadRows:
    """`read_rows(header, *rows)`: what the reader makes of them and of five recordings."""
    for name in ("p1/a.wav", "p1/b.FLAC", "p2/c.1.wav", "p2/d.wav", "p2/d.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def read(header: str, *rows: str) -> ReadResult:
        (tmp_path / "cycles.csv").write_text("\n".join([header, *rows]))
        return find_database("table", tmp_path / "cycles.csv", ["calm", "loud"]).read(tmp_path)

    return read


def test_icbhis_cycles_are_those_of_its_own_reader(real_data: Path, tmp_path: Path) -> None:
    expected = read_icbhi(real_data / "icbhi").recordings
    rows = []
    for path in sorted((real_data / "icbhi").rglob("*_*_*_*_*.txt")):
        lines = pd.read_csv(path, sep="\t", names=["start_seconds", "end_seconds", "C", "W"])
        label = (lines["C"] + 2 * lines["W"]).map(dict(enumerate(FOUR_CLASS.labels)))
        patient, _, location, _, device = path.stem.split("_")
        facts = {"patient": patient, "location": location, "device": device}
        rows.append(lines.assign(recording=path.stem, label=label, **facts))
    table = pd.concat(rows).sort_values("start_seconds", kind="stable")
    table.to_csv(tmp_path / "cycles.csv", index=False)
    root = real_data / "icbhi" / "audio_and_txt_files"
    found = read_table(root, tmp_path / "cycles.csv", FOUR_CLASS.labels)
    assert found.problems == found.notes == []
    assert len(found.recordings) == 22
    for one, other in zip(found.recordings, expected, strict=True):
        cycles = tuple(replace(cycle, table_line=None) for cycle in one.cycles)
        assert cycles == other.cycles
        facts = ("name", "audio", "patient", "location", "device")
        assert [getattr(one, fact) for fact in facts] == [getattr(other, fact) for fact in facts]


def test_all_columns(read_rows: ReadRows) -> None:
    header = f"set,{HEADER},age,sex,diagnosis,patient,location,device,mine"
    facts = "0.5,F,COPD,7,Al,phone,x"
    first, second, _ = read_rows(
        header, f"test,p1/a.wav,1,2,calm,{facts}", f"test,p1/a,2,3,loud,{facts}",
        r"train,./p1\b,0,1,calm,,,,8", "val,p2/c.1,0,1,calm,,,,9",
    ).recordings  # fmt: skip
    assert [cycle.table_line for cycle in first.cycles] == [2, 3]
    assert first.where(first.cycles[1]) == "cycles.csv (p1/a), line 3"
    assert (first.name, first.part, first.age, first.sex) == ("p1/a", "test", 0.5, "F")
    assert (first.patient, first.location, first.device) == ("7", "Al", "phone")
    assert first.diagnosis == "COPD"
    assert (second.part, second.sex, second.audio.name) == ("train", "", "b.FLAC")
    assert isnan(second.age)


def test_every_fault_is_listed_and_its_recording_left_out(read_rows: ReadRows) -> None:
    found = read_rows(
        f"{HEADER},patient,age,sex,set",
        "p1/a,1,1_0,Calm,1,old,m,dev",
        "p1/a,1,2,calm,2,3,M,val",
        "nobody,1,2,calm,1",
        "../p1/a,1,2,calm,1",
        "p2/d,1,2,calm,1",
        ",1,2,calm,1",
        "p1/b,1,2,calm,",
    )
    faults = [
        "line 7: recording is empty, expected a value",
        "line 5: recording is '../p1/a', expected one .wav or .flac of this name below",
        "line 4: recording is 'nobody', expected one .wav or .flac of this name below",
        "line 2: end_seconds is '1_0', expected seconds from 0, such as 1.234",
        "line 2: label is 'Calm', expected one of calm, loud (data.labels)",
        "line 2: sex is 'm', expected one of M, F, an empty cell",
        "line 2: set is 'dev', expected one of train, val, test, an empty cell",
        "line 2: age is 'old', expected years from 0, such as 1.234",
        "line 3: patient is '2', but '1' in line 2: expected one per recording",
        "line 6: recording is 'p2/d', expected one .wav or .flac of this name below",
    ]
    for fault, problem in zip(faults, found.problems, strict=False):
        assert problem.startswith(f"cycles.csv, {fault}")
    last = "expected a patient for all recordings or none, but 1 recordings have none, such as p1/b"
    assert found.problems[len(faults) :] == [f"cycles.csv: {last}"]
    sound = [one.name for one in found.recordings if not one.problems]
    assert sound == ["p1/b"]
    (note,) = found.notes
    assert note.endswith("without a cycle: 1, such as 'p2/c.1'")


def test_a_table_that_is_not_there_is_named(read_rows: ReadRows, tmp_path: Path) -> None:
    read_rows(HEADER, "p1/a,0,1,calm")
    with pytest.raises(
        DataError, match=r"no\.csv: .*\(data\.table\): cannot be read: No such file"
    ):
        read_table(tmp_path, tmp_path / "no.csv", FOUR_CLASS.labels)


def test_a_folder_without_recordings_is_named(tmp_path: Path) -> None:
    (tmp_path / "cycles.csv").write_text(f"{HEADER}\na,1,2,normal\n")
    for root, fault in ((tmp_path, r"no \.wav or \.flac"), (tmp_path / "no", "no such folder")):
        with pytest.raises(DataError, match=f"{root}: {fault}.*data.root=PATH"):
            read_table(root, tmp_path / "cycles.csv", FOUR_CLASS.labels)


def test_names_alike_are_one_however_they_are_composed() -> None:
    """MacOS stores ü as u and a diaeresis."""
    name = "p/M\u00fcller"
    assert recording_name("p/Mu\u0308ller.WAV") == name
    assert recording_name("p\\M\u00fcller") == name
