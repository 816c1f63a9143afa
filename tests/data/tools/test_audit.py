"""`python -m lungsound.data check`: its numbers counted independently, and real files broken in
each way it names.
"""

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from support.commands import run_lungsound
from support.runs import ROOT

from lungsound.data.registry import DATABASES
from lungsound.data.tools.audit import MIN_CLIPPED_RUN, AuditReport, audit, count_clipped
from lungsound.errors import DataError

# 44.1 kHz in 24 and 16 bits, 4 kHz in 16; the first is what is broken.
ICBHI = ("104_1b1_Al_sc_Litt3200", "182_1b1_Tc_sc_Meditron", "103_2b2_Ar_mc_LittC2SE")
LABELS = ("normal", "crackle", "wheeze", "both")
TYPES = (
    "Normal",
    "Fine Crackle",
    "Coarse Crackle",
    "Wheeze",
    "Rhonchi",
    "Stridor",
    "Wheeze+Crackle",
)
WAV, TXT = f"{ICBHI[0]}.wav", f"{ICBHI[0]}.txt"


@pytest.fixture
def icbhi(real_data: Path, tmp_path: Path) -> Path:
    """A writable copy of three real recordings with their annotations."""
    for name in ICBHI:
        for suffix in (".wav", ".txt"):
            shutil.copyfile(
                real_data / "icbhi/audio_and_txt_files" / f"{name}{suffix}",
                tmp_path / f"{name}{suffix}",
            )
    return tmp_path


@pytest.fixture
def sprsound(real_data: Path, tmp_path: Path) -> Path:
    """A writable copy of five real recordings each of the train and intra parts, one of them of
    poor quality.
    """
    for audio, annotations in (
        ("train_wav", "train_json"),
        ("test_wav", "test_json/intra_test_json"),
    ):
        source = real_data / "sprsound"
        (tmp_path / audio).mkdir()
        (tmp_path / annotations).mkdir(parents=True)
        paths = sorted((source / annotations).glob("*.json"))
        poor = {path for path in paths if "Poor Quality" in path.read_text()}
        for path in [*[path for path in paths if path not in poor][:4], min(poor)]:
            shutil.copyfile(path, tmp_path / annotations / path.name)
            shutil.copyfile(
                source / audio / f"{path.stem}.flac", tmp_path / audio / f"{path.stem}.flac"
            )
    return tmp_path


def rewritten(
    change: Callable[[np.ndarray], np.ndarray], subtype: str | None = None
) -> Callable[[Path], None]:
    """Break a folder: its first recording's samples are put through `change`."""

    def change_file(folder: Path) -> None:
        samples, rate_hz = soundfile.read(folder / WAV, dtype="float32")
        soundfile.write(
            folder / WAV, change(samples), rate_hz, subtype or soundfile.info(folder / WAV).subtype
        )

    return change_file


def cut(keep: int) -> Callable[[Path], object]:
    return lambda folder: (folder / WAV).write_bytes((folder / WAV).read_bytes()[:keep])


def with_line(text: str) -> Callable[[Path], None]:
    """Break a folder: one more line in its first annotation."""

    def add(folder: Path) -> None:
        (folder / TXT).write_text((folder / TXT).read_text().rstrip() + f"\n{text}\n")

    return add


def nan_at_ten(samples: np.ndarray) -> np.ndarray:
    samples[10] = np.nan
    return samples


def here(report: AuditReport, part: str = "all") -> dict[str, object]:
    return report.table[part, "here"].to_dict()


BROKEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "empty": (cut(0), WAV, "empty, 0 bytes"),
    "header only": (cut(44), WAV, "header only"),
    "truncated": (cut(5000), WAV, "truncated"),
    "not audio": (lambda folder: (folder / WAV).write_text("<html>"), WAV, "not a WAV file"),
    "NaN": (rewritten(nan_at_ten, "FLOAT"), WAV, "NaN"),
    "silent": (rewritten(np.zeros_like), WAV, "silent"),
    "a constant": (rewritten(lambda samples: np.full_like(samples, 0.25)), WAV, "silent"),
    "no annotation": (lambda folder: (folder / TXT).unlink(), WAV, "audio without annotation"),
    "no audio": (lambda folder: (folder / WAV).unlink(), TXT, "annotation without audio"),
    "a word for a time": (with_line("soon\t9\t0\t0"), TXT, "start is 'soon'"),
    "no flag": (with_line("8\t9\t0"), TXT, "3 fields"),
    "after the audio": (with_line("14\t16.4\t0\t0"), TXT, "after the audio's end"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_a_problem_with_its_file(
    name: str, icbhi: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    break_it, file, said = BROKEN[name]
    break_it(icbhi)
    with pytest.raises(SystemExit) as end:
        run_lungsound("data", "check", "icbhi", str(icbhi))
    printed = capsys.readouterr().out
    problems = printed[printed.index("PROBLEMS: 1\n") : printed.index("REMARKS")].splitlines()[1:-1]
    assert end.value.code == 1
    assert len(problems) == 1
    assert problems[0].startswith(f"  - {file}")
    assert said in problems[0]


def test_every_problem_is_told_in_one_go(icbhi: Path) -> None:
    for break_it in (cut(5000), with_line("8\t9\t0")):
        break_it(icbhi)
    (icbhi / f"{ICBHI[1]}.txt").unlink()
    problems = audit("icbhi", icbhi).problems
    assert [problem.partition(":")[0].partition(",")[0] for problem in sorted(problems)] == [
        TXT, WAV, f"{ICBHI[1]}.wav"
    ]  # fmt: skip


def test_a_whole_copy_ends_with_0_and_says_what_is_here(icbhi: Path) -> None:
    command = [sys.executable, "-m", "lungsound.data", "check", "icbhi", str(icbhi)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "PROBLEMS: none" in done.stdout
    assert ["recordings", "3", "920"] in [line.split() for line in done.stdout.splitlines()]
    assert f"{ICBHI[2]}.wav: clipped" in done.stdout


def test_no_folder_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("icbhi", "sprsound"):
        with pytest.raises(DataError) as error:
            run_lungsound("data", "check", name, str(tmp_path / "nowhere"))
        assert str(error.value).startswith(
            f"No {'ICBHI' if name == 'icbhi' else 'SPRSound'} recordings"
        )
    assert capsys.readouterr().out == ""


def test_icbhi_numbers_are_those_of_pandas_and_soundfile(icbhi: Path) -> None:
    found = here(audit("icbhi", icbhi))
    names = ["start", "end", "crackle", "wheeze"]
    cycles = pd.concat([pd.read_csv(path, sep=r"\s+", names=names) for path in icbhi.glob("*.txt")])
    files = [soundfile.info(path) for path in icbhi.glob("*.wav")]
    by_flags = (
        cycles.groupby(["wheeze", "crackle"])
        .size()
        .reindex([(0, 0), (0, 1), (1, 0), (1, 1)], fill_value=0)
    )
    length, seconds = cycles["end"] - cycles["start"], [file.duration for file in files]
    assert [found[label] for label in LABELS] == by_flags.to_list()
    assert (found["recordings"], found["patients"], found["cycles"]) == (3, 3, len(cycles))
    assert [found[f"{rate} Hz"] for rate in (44100, 10000, 4000)] == [2, 0, 1]
    assert found["24 bits"] == sum(file.subtype == "PCM_24" for file in files)
    assert found["16 bits"] == sum(file.subtype == "PCM_16" for file in files)
    assert [found[device] for device in ("AKGC417L", "LittC2SE", "Litt3200", "Meditron")] == [
        0,
        1,
        1,
        1,
    ]
    assert found["minutes"] == pytest.approx(sum(seconds) / 60)
    for what, values in (("recording", pd.Series(seconds)), ("cycle", length)):
        measured = [found[f"{kind} {what}, s"] for kind in ("shortest", "mean", "longest")]
        assert measured == pytest.approx([values.min(), values.mean(), values.max()])


def test_sprsound_numbers_are_those_of_json(sprsound: Path) -> None:
    report = audit("sprsound", sprsound)
    assert report.problems == []
    for part, folder in (("train", "train_json"), ("intra", "test_json/intra_test_json")):
        contents = {
            path.stem: json.loads(path.read_bytes()) for path in (sprsound / folder).glob("*.json")
        }
        events = [event for content in contents.values() for event in content["event_annotation"]]
        types = Counter(event["type"] for event in events)
        found = here(report, part)
        assert [found[kind] for kind in TYPES] == [types[kind] for kind in TYPES]
        assert found["recordings"] == len(contents)
        assert found["patients"] == len({name.partition("_")[0] for name in contents})
        assert found["8000 Hz"] == found["16 bits"] == found["Yunting"] == len(contents)
        assert found["mean cycle, s"] == pytest.approx(
            np.mean([int(event["end"]) - int(event["start"]) for event in events]) / 1000
        )
    assert (
        here(report)["cycles"] == here(report, "train")["cycles"] + here(report, "intra")["cycles"]
    )
    assert set(here(report, "inter").values()) == {None}
    assert any("not there" in remark and "inter" in remark for remark in report.warnings)
    poor = [remark for remark in report.warnings if "Poor Quality" in remark]
    assert poor == [
        "2 recordings are annotated Poor Quality and have no cycle: 1 of train, 1 of intra"
    ]


def test_sprsound_is_broken_in_its_own_ways(sprsound: Path) -> None:
    paths = sorted((sprsound / "train_json").glob("*.json"))
    cut_short, unannotated, unheard, emptied = [
        path for path in paths if "Poor Quality" not in path.read_text()
    ]
    events = json.loads(cut_short.read_bytes())
    events["event_annotation"][-1]["end"] = "60000"
    cut_short.write_text(json.dumps(events))
    unannotated.write_text("{")
    (sprsound / "train_wav" / f"{unheard.stem}.flac").unlink()
    emptied.write_text(json.dumps({"record_annotation": "Normal", "event_annotation": []}))
    report = audit("sprsound", sprsound)
    assert len(report.problems) == 3
    for path, said in (
        (cut_short, "after the audio's end"),
        (unannotated, "not JSON"),
        (unheard, "without audio"),
    ):
        assert any(problem.startswith(path.name) and said in problem for problem in report.problems)
    assert any(
        remark.startswith(f"{emptied.name}: annotated Normal, and no event")
        for remark in report.warnings
    )


def test_the_promises_add_up() -> None:
    whole = DATABASES["icbhi"].published["all"]
    assert sum(int(whole[label]) for label in LABELS) == whole["cycles"] == 6898
    parts = DATABASES["sprsound"].published
    for part in ("train", "intra"):
        assert sum(int(parts[part][kind]) for kind in TYPES) == parts[part]["cycles"]
    for row in ("recordings", "cycles"):
        assert (
            sum(int(parts[part][row]) for part in ("train", "inter", "intra")) == parts["all"][row]
        )


def test_remarks_alone_end_with_0(icbhi: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copyfile(icbhi / WAV, icbhi / "105_1b1_Al_sc_Litt3200.wav")
    shutil.copyfile(icbhi / TXT, icbhi / "105_1b1_Al_sc_Littmann.txt")
    samples, _ = soundfile.read(icbhi / f"{ICBHI[1]}.wav")
    soundfile.write(icbhi / f"{ICBHI[1]}.wav", samples, 48000, "PCM_32")
    (icbhi / f"{ICBHI[1]}.txt").write_text("0.1\t1.5\t0\t0\n")
    run_lungsound("data", "check", "icbhi", str(icbhi))
    printed = capsys.readouterr().out
    remarks = printed[printed.index("REMARKS") :]
    assert "PROBLEMS: none" in printed
    assert f"{WAV} and 105_1b1_Al_sc_Litt3200.wav hold the same sound" in remarks
    assert "105_1b1_Al_sc_Litt3200.wav is taken with 105_1b1_Al_sc_Littmann.txt" in remarks
    assert f"{ICBHI[1]}.wav: 48000 Hz, not one of 44100 Hz" in remarks
    assert f"{ICBHI[1]}.wav: 32 bits, not one of" in remarks
    assert "REMARKS: 5\n" in remarks  # and the clipped one


def test_clipping_needs_a_row_at_full_scale() -> None:
    time = np.arange(44100) / 44100
    for tone_hz in (50, 100, 1000, 8000):
        tone = np.round(32767 * np.sin(2 * np.pi * tone_hz * time)) / 32768
        assert count_clipped(tone.astype(np.float32)) == 0, tone_hz
    loud = np.clip(1.2 * np.sin(2 * np.pi * 100 * time), -1, 32767 / 32768).astype(np.float32)
    assert count_clipped(loud) == (np.abs(loud) >= 32767 / 32768).sum() > 10000
    rows = np.zeros(40, np.float32)
    rows[1:MIN_CLIPPED_RUN] = 1  # one too few
    rows[10 : 10 + MIN_CLIPPED_RUN] = -1
    rows[-MIN_CLIPPED_RUN:] = 1
    assert count_clipped(rows) == 2 * MIN_CLIPPED_RUN


def test_synthetic_data_are_called_so(icbhi: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (icbhi / "SYNTHETIC.txt").write_text("computed")
    run_lungsound("data", "check", "icbhi", str(icbhi))
    assert capsys.readouterr().out.startswith("SYNTHETIC")
