"""`lungsound data check`: its numbers counted independently, and real files broken in each way."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from support.commands import run_lungsound

from lungsound.data.registry import DATABASES, find_database
from lungsound.data.tools.audit import MIN_CLIPPED_RUN, AuditReport, audit, count_clipped
from lungsound.errors import DataError

# 44.1 kHz in 24 and 16 bits, 4 kHz in 16; the first is what is broken.
ICBHI = ("104_1b1_Al_sc_Litt3200", "182_1b1_Tc_sc_Meditron", "103_2b2_Ar_mc_LittC2SE")
LABELS = ("normal", "crackle", "wheeze", "both")
TYPES = ("Normal", "Fine Crackle", "Coarse Crackle", "Wheeze", "Rhonchi", "Stridor")
TYPES += ("Wheeze+Crackle",)
WAV, TXT = f"{ICBHI[0]}.wav", f"{ICBHI[0]}.txt"
SILENT = "4 of 6 cycles (3, 4, 5, 6) are silent"
JSON = {"train": "train_json", "intra": "test_json/intra_test_json"}
Break = Callable[[Path], object]


@pytest.fixture
def icbhi(real_data: Path, tmp_path: Path) -> Path:
    """A writable copy of three real recordings with their annotations."""
    for name in ICBHI:
        for file in (f"{name}.wav", f"{name}.txt"):
            shutil.copyfile(real_data / "icbhi/audio_and_txt_files" / file, tmp_path / file)
    return tmp_path


@pytest.fixture
def sprsound(real_data: Path, tmp_path: Path) -> Path:
    """A writable copy of five real recordings of two parts each, one of them of poor quality."""
    for audio, annotations in zip(("train_wav", "test_wav"), JSON.values(), strict=True):
        source = real_data / "sprsound"
        (tmp_path / audio).mkdir()
        (tmp_path / annotations).mkdir(parents=True)
        paths = sorted((source / annotations).glob("*.json"))
        poor = [path for path in paths if "Poor Quality" in path.read_text()]
        for path in [*[path for path in paths if path not in poor][:4], poor[0]]:
            shutil.copyfile(path, tmp_path / annotations / path.name)
            file = f"{audio}/{path.stem}.flac"
            shutil.copyfile(source / file, tmp_path / file)
    return tmp_path


def change_samples(change: Callable[[np.ndarray], np.ndarray], subtype: str | None = None) -> Break:
    """Break a folder: its first recording's samples are put through `change`."""

    def rewrite(folder: Path) -> None:
        path = folder / WAV
        samples, rate_hz = soundfile.read(path, dtype="float32")
        soundfile.write(path, change(samples), rate_hz, subtype or soundfile.info(path).subtype)

    return rewrite


def cut(keep: int) -> Break:
    return lambda folder: (folder / WAV).write_bytes((folder / WAV).read_bytes()[:keep])


def add_line(text: str) -> Break:
    """Break a folder: one more line in its first annotation."""
    return lambda folder: (folder / TXT).write_text((folder / TXT).read_text().rstrip() + text)


def put_nan(samples: np.ndarray) -> np.ndarray:
    samples[10] = np.nan
    return samples


def silence_from_4_seconds(samples: np.ndarray) -> np.ndarray:
    samples[4 * 4000 :] = 0.25
    samples[7 * 4000] = 0.5  # a click makes no sound of it
    return samples


def grow_line_ends(folder: Path) -> None:
    (folder / WAV).write_bytes((folder / WAV).read_bytes().replace(b"\n", b"\r\n"))


def scale_times(factor: float) -> Break:
    """Break a folder: the times of its first annotation are in another unit."""

    def rewrite(folder: Path) -> None:
        lines = [line.split() for line in (folder / TXT).read_text().splitlines()]
        scaled = [
            f"{factor * float(start):.6f}\t{factor * float(end):.6f}\t{crackle}\t{wheeze}\n"
            for start, end, crackle, wheeze in lines
        ]
        (folder / TXT).write_text("".join(scaled))

    return rewrite


def here(report: AuditReport, part: str = "all") -> dict[str, object]:
    return report.table[part, "here"].to_dict()


BROKEN: dict[str, tuple[Break, str, str]] = {
    "empty": (cut(0), WAV, "empty, 0 bytes"),
    "header only": (cut(44), WAV, "header only"),
    "truncated": (cut(5000), WAV, "truncated"),
    "not audio": (lambda folder: (folder / WAV).write_text("<html>"), WAV, "not a WAV file"),
    "NaN": (change_samples(put_nan, "FLOAT"), WAV, "NaN"),
    "silent": (change_samples(np.zeros_like), WAV, "silent"),
    "constant": (change_samples(lambda samples: np.full_like(samples, 0.25)), WAV, "silent"),
    "silent cycles": (change_samples(silence_from_4_seconds), WAV, SILENT),
    "line ends": (grow_line_ends, WAV, "converted as text"),
    "no annotation": (lambda folder: (folder / TXT).unlink(), WAV, "audio without annotation"),
    "no audio": (lambda folder: (folder / WAV).unlink(), TXT, "annotation without audio"),
    "no time": (add_line("\nsoon\t9\t0\t0"), TXT, "start is 'soon'"),
    "no flag": (add_line("\n8\t9\t0"), TXT, "3 fields"),
    "kiloseconds": (scale_times(1e-3), TXT, "the longest of its"),
    "milliseconds": (scale_times(1e3), TXT, "after the audio's end at 15.856 s; expected seconds"),
    "after the audio": (add_line("\n14\t16.4\t0\t0"), TXT, "after the audio's end"),
}


@pytest.mark.parametrize(("break_folder", "file", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_file_is_a_problem(
    break_folder: Break, file: str, message: str, icbhi: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    break_folder(icbhi)
    with pytest.raises(SystemExit) as end:
        run_lungsound("data", "check", "icbhi", str(icbhi))
    printed = capsys.readouterr().out
    problems = printed[printed.index("PROBLEMS: 1\n") : printed.index("REMARKS")].splitlines()[1:-1]
    assert end.value.code == 1
    assert len(problems) == 1
    assert problems[0].startswith(f"  - {file}")
    assert message in problems[0]


def test_problems_of_all_files_are_reported_at_once(icbhi: Path) -> None:
    cut(5000)(icbhi)
    add_line("\n8\t9\t0")(icbhi)
    (icbhi / f"{ICBHI[1]}.txt").unlink()
    problems = sorted(audit(DATABASES["icbhi"], icbhi).problems)
    files = [problem.partition(":")[0].partition(",")[0] for problem in problems]
    assert files == [TXT, WAV, f"{ICBHI[1]}.wav"]


@pytest.mark.parametrize(("name", "title"), [("icbhi", "ICBHI"), ("sprsound", "SPRSound")])
def test_missing_folder_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, title: str
) -> None:
    with pytest.raises(DataError, match=f"^No {title} recordings"):
        run_lungsound("data", "check", name, str(tmp_path / "nowhere"))
    assert capsys.readouterr().out == ""


def test_a_table_that_fits_no_recording_has_counts_of_0(icbhi: Path) -> None:
    table = icbhi / "cycles.csv"
    table.write_text("recording,start_seconds,end_seconds,label\nmine,0,1,normal\n")
    counts, problems, _ = audit(find_database("table", table), icbhi)
    assert counts["all", "here"][["recordings", "cycles", "normal"]].tolist() == [0, 0, 0]
    assert problems[0].startswith("cycles.csv, line 2: recording is 'mine', expected one")


def test_icbhi_numbers_are_those_of_pandas_and_soundfile(icbhi: Path) -> None:
    found = here(audit(DATABASES["icbhi"], icbhi))
    names = ["start", "end", "crackle", "wheeze"]
    cycles = pd.concat([pd.read_csv(path, sep=r"\s+", names=names) for path in icbhi.glob("*.txt")])
    files = [soundfile.info(path) for path in icbhi.glob("*.wav")]
    labels = (cycles["crackle"] + 2 * cycles["wheeze"]).tolist()
    assert [found[label] for label in LABELS] == [labels.count(number) for number in range(4)]
    assert (found["recordings"], found["patients"], found["cycles"]) == (3, 3, len(cycles))
    assert [found[f"{rate} Hz"] for rate in (44100, 10000, 4000)] == [2, 0, 1]
    assert found["24 bits"] == sum(file.subtype == "PCM_24" for file in files)
    assert found["16 bits"] == sum(file.subtype == "PCM_16" for file in files)
    devices = ("AKGC417L", "LittC2SE", "Litt3200", "Meditron")
    assert [found[device] for device in devices] == [0, 1, 1, 1]
    seconds = pd.Series([file.duration for file in files])
    assert found["minutes"] == pytest.approx(seconds.sum() / 60)
    for unit, values in (("recording", seconds), ("cycle", cycles["end"] - cycles["start"])):
        durations = [found[f"{kind} {unit}, s"] for kind in ("shortest", "mean", "longest")]
        assert durations == pytest.approx([values.min(), values.mean(), values.max()])


def test_sprsound_numbers_are_those_of_json(sprsound: Path) -> None:
    report = audit(DATABASES["sprsound"], sprsound)
    assert report.problems == []
    total = 0
    for part, folder in JSON.items():
        paths = list((sprsound / folder).glob("*.json"))
        events = [
            one for path in paths for one in json.loads(path.read_bytes())["event_annotation"]
        ]
        types = Counter(event["type"] for event in events)
        found = here(report, part)
        assert [found[kind] for kind in TYPES] == [types[kind] for kind in TYPES]
        assert found["recordings"] == len(paths)
        assert found["patients"] == len({path.name.partition("_")[0] for path in paths})
        assert found["8000 Hz"] == found["16 bits"] == found["Yunting"] == len(paths)
        milliseconds = [int(event["end"]) - int(event["start"]) for event in events]
        assert found["mean cycle, s"] == pytest.approx(np.mean(milliseconds) / 1000)
        total += len(events)
    assert here(report)["cycles"] == total
    assert set(here(report, "inter").values()) == {None}
    assert "SPRSound: not there, and not used: inter" in report.warnings
    poor = "2 recordings are annotated Poor Quality and have no cycle: 1 of train, 1 of intra"
    assert poor in report.warnings


def test_unreadable_file_has_no_remark_on_its_device(icbhi: Path) -> None:
    for suffix in (".wav", ".txt"):
        (icbhi / f"{ICBHI[0]}{suffix}").rename(icbhi / f"104_1b1_Al_sc_Phone{suffix}")
    device = "104_1b1_Al_sc_Phone.wav: Phone, not one of"
    assert device in "\n".join(audit(DATABASES["icbhi"], icbhi).warnings)
    (icbhi / "104_1b1_Al_sc_Phone.wav").write_bytes(b"")
    assert device not in "\n".join(audit(DATABASES["icbhi"], icbhi).warnings)


def test_poor_quality_is_counted_without_published_counts(
    sprsound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATABASES, "sprsound", replace(DATABASES["sprsound"], published={}))
    warnings = "\n".join(audit(DATABASES["sprsound"], sprsound).warnings)
    assert "Poor Quality and have no cycle: 1 of train, 1 of intra" in warnings


def test_broken_sprsound_files_are_problems(sprsound: Path) -> None:
    paths = sorted((sprsound / "train_json").glob("*.json"))
    paths = [path for path in paths if "Poor Quality" not in path.read_text()]
    too_late, bad_json, no_audio, no_event = paths
    content = json.loads(too_late.read_bytes())
    content["event_annotation"][-1]["end"] = "60000"
    too_late.write_text(json.dumps(content))
    bad_json.write_text("{")
    (sprsound / "train_wav" / f"{no_audio.stem}.flac").unlink()
    no_event.write_text(json.dumps({"record_annotation": "Normal", "event_annotation": []}))
    report = audit(DATABASES["sprsound"], sprsound)
    assert len(report.problems) == 3
    for path, message in (
        (too_late, " after the audio's end"),
        (bad_json, ": not JSON"),
        (no_audio, ": annotation without audio"),
    ):
        found = [problem for problem in report.problems if problem.startswith(path.name)]
        assert len(found) == 1, report.problems
        assert message in found[0]
    expected = f"{no_event.name}: annotated Normal, and no event, expected one or more"
    assert expected in report.warnings


def test_published_counts_add_up() -> None:
    icbhi = DATABASES["icbhi"].published["all"]
    assert sum(int(icbhi[label]) for label in LABELS) == icbhi["cycles"] == 6898
    parts = DATABASES["sprsound"].published
    for part in ("train", "intra"):
        assert sum(int(parts[part][kind]) for kind in TYPES) == parts[part]["cycles"]
    for row in ("recordings", "cycles"):
        total = sum(int(parts[part][row]) for part in ("train", "inter", "intra"))
        assert total == parts["all"][row]


def test_remarks_alone_end_with_0(icbhi: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (icbhi / "SYNTHETIC.txt").write_text("computed")
    shutil.copyfile(icbhi / WAV, icbhi / "105_1b1_Al_sc_Litt3200.wav")
    shutil.copyfile(icbhi / TXT, icbhi / "105_1b1_Al_sc_Littmann.txt")
    samples, _ = soundfile.read(icbhi / f"{ICBHI[1]}.wav")
    soundfile.write(icbhi / f"{ICBHI[1]}.wav", samples, 48000, "PCM_32")
    (icbhi / f"{ICBHI[1]}.txt").write_text("0.1\t1.5\t0\t0\n2\t2.0008\t0\t0\n")
    run_lungsound("data", "check", "icbhi", str(icbhi))
    printed = capsys.readouterr().out
    assert printed.startswith("SYNTHETIC")
    assert ["recordings", "4", "920"] in [line.split() for line in printed.splitlines()]
    assert "PROBLEMS: none" in printed
    for remark in (
        "REMARKS: 7\n",
        f"{WAV} and 105_1b1_Al_sc_Litt3200.wav hold the same sound",
        "105_1b1_Al_sc_Litt3200.wav is taken with 105_1b1_Al_sc_Littmann.txt",
        f"{ICBHI[1]}.wav: 48000 Hz, not one of 44100 Hz",
        f"{ICBHI[1]}.wav: 32 bits, not one of",
        f"{ICBHI[2]}.wav: clipped",
        f"{ICBHI[1]}.wav: 18.375 s of audio, annotated only up to 2.0008 s",
        f"{ICBHI[1]}.txt: 1 of 2 cycles (2) are shorter than 50 ms",
    ):
        assert remark in printed


def test_clipping_needs_a_run_at_full_scale() -> None:
    time = np.arange(44100) / 44100
    for tone_hz in (50, 100, 1000, 8000):
        tone = np.round(32767 * np.sin(2 * np.pi * tone_hz * time)) / 32768
        assert count_clipped(tone.astype(np.float32)) == 0, tone_hz
    loud = np.clip(1.2 * np.sin(2 * np.pi * 100 * time), -1, 32767 / 32768).astype(np.float32)
    assert count_clipped(loud) == (np.abs(loud) >= 32767 / 32768).sum() > 10000
    runs = np.zeros(40, np.float32)
    runs[1:MIN_CLIPPED_RUN] = 1  # one too few
    runs[10 : 10 + MIN_CLIPPED_RUN] = -1
    runs[-MIN_CLIPPED_RUN:] = 1
    assert count_clipped(runs) == 2 * MIN_CLIPPED_RUN
