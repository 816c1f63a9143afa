"""Label tracks of Audacity and labels of HF_Lung become the table of cycles that a run reads."""

from pathlib import Path

import pandas as pd
import pytest
from support.commands import run_lungsound

from lungsound.data.labels import FOUR_CLASS
from lungsound.data.readers.table import read_table
from lungsound.errors import DataError, StorageError


def write_track(folder: Path, audio: str, ending: str, *lines: str) -> None:
    path = folder / audio
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    path.with_name(path.stem + ending).write_text("\n".join(lines))


def test_label_tracks_of_audacity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The lines are those of Audacity's manual: regions, points, and frequencies of both."""
    write_track(
        tmp_path, "ward/a.wav", ".txt", "0.500000\t2.250000\tnormal", "\\\t100.5\t800.0",
        "2.150000\t2.150000\tcough", "\\\t6928.456055\t6928.456055", "3.4\t6.1\t fine crackle ",
    )  # fmt: skip
    write_track(tmp_path, "b.flac", ".txt", "\ufeff0\t1.5\tnormal\r\n")
    (tmp_path / "c.wav").touch()
    out = tmp_path / "out.csv"
    run_lungsound("data", "import", "audacity", tmp_path, "--out", out)
    assert capsys.readouterr().out.splitlines() == [
        f"{out}: 3 cycles of 2 recordings: normal 2, fine crackle 1",
        "recordings without a cycle: 1, such as c",
        f"annotations outside of a cycle: 1, such as {tmp_path / 'ward' / 'a.txt'}, line 3",
    ]
    result = read_table(tmp_path, out, ["normal", "fine crackle"])
    assert result.problems == []
    assert [
        (one.name, [(x.start_seconds, x.end_seconds, x.label) for x in one.cycles])
        for one in result.recordings
    ] == [
        ("b", [(0.0, 1.5, "normal")]),
        ("ward/a", [(0.5, 2.25, "normal"), (3.4, 6.1, "fine crackle")]),
    ]


HF_LUNG = (
    "E 00:00:00.100 00:00:00.400",  # without an inhalation
    "I 00:00:00.969 00:00:02.124",  # one breath, with a crackle in it and a wheeze at its end
    "D 00:00:01.000 00:00:01.300",
    "E 00:00:02.200 00:00:03.500",
    "Wheeze 00:00:03.400 00:00:03.900",
    "E 00:00:03.600 00:00:04.000",  # the exhalation of no inhalation: it follows another
    "I 00:00:05.000 00:00:06.000",  # a pause of more than a second
    "Stridor 00:00:05.200 00:00:05.900",
    "E 00:00:07.001 00:00:07.500",
    "Rhonchi 00:00:07.460 00:00:08.000",  # 40 ms are a boundary
    "Stridor 00:00:09.000 00:00:09.900",
    "I 00:01:00.000 00:01:01.000",  # an exhalation that begins within it
    "D 00:01:00.500 00:01:00.502",  # shorter than 50 ms
    "E 00:01:00.900 00:01:02.000",
    "Rhonchi 00:01:01.200 00:01:01.900",
)


def test_labels_of_hf_lung(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_track(tmp_path, "train/steth_20190814_10_11_12.wav", "_label.txt", *HF_LUNG)
    write_track(tmp_path, "test/trunc_2019-07-17-10-07-09-L1_1.wav", "_label.txt")
    out = tmp_path / "out.csv"
    run_lungsound("data", "import", "hf_lung", tmp_path, "--out", out)
    table = pd.read_csv(out)
    assert table[["start_seconds", "end_seconds", "label"]].to_numpy().tolist() == [
        [0.1, 0.4, "normal"],
        [0.969, 3.5, "both"],
        [3.6, 4.0, "wheeze"],
        [5.0, 6.0, "wheeze"],
        [7.001, 7.5, "normal"],
        [60.0, 62.0, "both"],
    ]
    assert set(table["recording"]) == {"train/steth_20190814_10_11_12"}
    assert (set(table["device"]), set(table["set"])) == ({"Littmann 3200"}, {"train"})
    assert read_table(tmp_path, out, FOUR_CLASS.labels).problems == []
    printed = capsys.readouterr().out
    assert "without a cycle: 1, such as test/trunc_2019-07-17-10-07-09-L1_1\n" in printed
    assert "outside of a cycle: 2, such as" in printed  # of rhonchi and stridor


@pytest.mark.parametrize(
    ("kind", "line", "fault"),
    [
        ("audacity", "0.5 1.5 normal", "got '0.5 1.5 normal', expected start, end and label"),
        ("audacity", "0.5\t1.5\t", "expected start, end and label"),
        ("audacity", "0,5\t1.5\tx", "start is '0,5', expected a decimal point"),
        ("audacity", "2\t1.5\tx", "end is 1.5, expected one after the start, 2"),
        ("hf_lung", "X 00:00:00.100 00:00:00.400", "expected one of I, E, D, Wheeze, Rhonchi"),
        ("hf_lung", "I 0.1 0.4", "got '0.1', expected a time such as 00:00:01.250"),
        ("hf_lung", "I 00:00:00.400 00:00:00.100", "expected one after the start"),
    ],
)
def test_wrong_lines_are_all_named(tmp_path: Path, kind: str, line: str, fault: str) -> None:
    ending = ".txt" if kind == "audacity" else "_label.txt"
    write_track(tmp_path, "a.wav", ending, line, "", line)
    write_track(tmp_path, "b.wav", ending)
    (tmp_path / f"b{ending}").write_bytes(b"\xff\xfd")
    with pytest.raises(DataError, match="cannot be used") as error:
        run_lungsound("data", "import", kind, tmp_path, "--out", tmp_path / "out.csv")
    first, second, third = sorted(error.value.problems)
    assert first.startswith(f"{tmp_path / f'a{ending}'}, line 1: ")
    assert second.startswith(f"{tmp_path / f'a{ending}'}, line 3: ")
    assert fault in first
    assert fault in second
    assert third.startswith(f"{tmp_path / f'b{ending}'}: not a text file")
    assert not (tmp_path / "out.csv").exists()


def test_suffixes_of_other_systems(tmp_path: Path) -> None:
    write_track(tmp_path, "a.WAV", ".TXT", "0\t1\tnormal")
    run_lungsound("data", "import", "audacity", tmp_path, "--out", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[1:] == ["a,0.0,1.0,normal"]


def test_two_recordings_of_one_name_are_a_problem(tmp_path: Path) -> None:
    write_track(tmp_path, "a.wav", ".txt", "0\t1\tnormal")
    (tmp_path / "a.flac").touch()
    with pytest.raises(DataError, match="cannot be used") as error:
        run_lungsound("data", "import", "audacity", tmp_path, "--out", tmp_path / "out.csv")
    (problem,) = error.value.problems
    assert problem.startswith("a.flac and a.wav: 2 files for one name")


def test_a_table_is_never_replaced(tmp_path: Path) -> None:
    write_track(tmp_path, "a.wav", ".txt", "0\t1\tnormal")
    out = tmp_path / "cycles.csv"
    out.write_text("mine")
    with pytest.raises(DataError, match=f"{out}: expected a new file"):
        run_lungsound("data", "import", "audacity", tmp_path, "--out", out)
    assert out.read_text() == "mine"
    with pytest.raises(StorageError, match=r"cannot be written: .*\(--out\)"):
        run_lungsound("data", "import", "audacity", tmp_path, "--out", out / "below.csv")
    with pytest.raises(DataError, match=r"expected one or more .* in NAME_label\.txt beside it"):
        run_lungsound("data", "import", "hf_lung", tmp_path, "--out", tmp_path / "new.csv")
    for folder, reason in ((tmp_path / "no", "no such folder"), (out, "not a folder")):
        with pytest.raises(DataError, match=f"{folder}: expected the folder.*{reason}"):
            run_lungsound("data", "import", "hf_lung", folder, "--out", tmp_path / "new.csv")
