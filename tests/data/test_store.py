"""The waveform store and the database: decoded once, as by hand, all problems in one error."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr
from support.commands import prints_line
from support.files import flip_bit

from lungsound.data import store as store_module
from lungsound.data.cycles import cycle_key
from lungsound.data.database import Database, open_database
from lungsound.data.labels import FOUR_CLASS
from lungsound.data.readers.icbhi import read_icbhi
from lungsound.data.registry import DATABASES
from lungsound.data.store import open_waveform_store
from lungsound.errors import DataError, StorageError
from lungsound.storage.locks import file_lock

A, B, C = "101_1b1_Al_sc_Meditron", "102_1b1_Ar_sc_Litt3200", "103_2b2_Ar_mc_LittC2SE"
D = "104_1b1_Al_sc_Meditron"


def make_recording(
    folder: Path,
    name: str,
    annotation: str = "0\t1\t0\t0\n1\t2\t1\t1\n",
    rate_hz: int = 4000,
    channels: int = 1,
    seconds: int = 2,
) -> None:
    """Noise of its own, and an annotation."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(name.encode()))
    noise = rng.uniform(-0.5, 0.5, (seconds * rate_hz, channels))
    soundfile.write(folder / f"{name}.wav", noise, rate_hz, subtype="PCM_16")
    (folder / f"{name}.txt").write_text(annotation)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, rate_hz in ((A, 44100), (B, 4000), (C, 8000)):
        make_recording(tmp_path / "db", name, rate_hz=rate_hz)
    return tmp_path / "db"


def open_icbhi(root: Path, skip_bad: bool = False, sample_rate: int = 8000) -> Database:
    return open_database(
        DATABASES["icbhi"], root, sample_rate, root.parent / "store", skip_bad=skip_bad
    )


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded from now on."""
    names: list[str] = []
    read_audio = store_module.read_audio

    def record(path: Path) -> tuple[np.ndarray, int, str]:
        names.append(path.stem)
        return read_audio(path)

    monkeypatch.setattr(store_module, "read_audio", record)
    return names


# --- the store ---


def test_waveforms_are_those_decoded_by_hand(root: Path) -> None:
    store = open_icbhi(root).store
    for name in (A, B, C):
        samples, rate_hz = soundfile.read(root / f"{name}.wav", dtype="float32")
        entry = store.recordings[name]
        facts = (entry["seconds"], entry["rate_hz"], entry["note"], entry["problem"])
        assert facts == (2.0, rate_hz, "", "")
        stored = store.samples[entry["offset"] : entry["offset"] + entry["samples"]]
        np.testing.assert_array_equal(stored, soxr.resample(samples, rate_hz, 8000, quality="HQ"))
    assert len(store.samples) == 3 * 16000
    with pytest.raises(ValueError, match="read-only"):
        store.samples[0] = 1


def test_second_start_decodes_and_prints_nothing(
    root: Path, decoded: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    first = open_icbhi(root)
    assert decoded == [A, B, C]
    out, err = capfd.readouterr()
    assert (out, "Decoding" in err) == ("", True)
    second = open_icbhi(root)
    assert decoded == [A, B, C]
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(first.store.samples, second.store.samples)
    assert first.fingerprint == second.fingerprint


def test_another_rate_and_changed_audio_are_other_stores(root: Path, decoded: list[str]) -> None:
    first = open_icbhi(root).store
    other_rate = open_icbhi(root, sample_rate=4000).store
    assert (first.fingerprint, len(decoded)) == (other_rate.fingerprint, 6)
    assert first.folder.name == f"{first.fingerprint}-8000"
    assert other_rate.folder.name == f"{first.fingerprint}-4000"
    audio = root / f"{B}.wav"
    audio.write_bytes(flip_bit(audio.read_bytes(), 1000))
    assert open_icbhi(root).store.fingerprint != first.fingerprint


def test_fingerprint_does_not_depend_on_place_or_order(root: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "ICBHI_final_database"
    shutil.copytree(root, moved)
    one = open_waveform_store(read_icbhi(root).recordings, 8000, tmp_path / "one")
    recordings = read_icbhi(moved.parent).recordings[::-1]
    other = open_waveform_store(recordings, 8000, tmp_path / "other")
    assert one.fingerprint == other.fingerprint
    np.testing.assert_array_equal(one.samples, other.samples)


@pytest.mark.parametrize("name", ["waveforms.f32", "index.json"])
@pytest.mark.parametrize("damage", ["flip a bit", "cut", "delete"])
def test_damaged_store_is_quarantined_and_made_again(
    root: Path, decoded: list[str], capsys: pytest.CaptureFixture[str], name: str, damage: str
) -> None:
    store = open_icbhi(root).store
    expected = np.array(store.samples)
    path = store.folder / name
    content = path.read_bytes()
    damaged = content[:-4] if damage == "cut" else flip_bit(content, 100)
    path.unlink()
    if damage != "delete":
        path.write_bytes(damaged)
    again = open_icbhi(root).store
    assert len(decoded) == 6
    np.testing.assert_array_equal(again.samples, expected)
    kept = {path.name: path.read_bytes() for path in store.folder.glob("*.damaged-*")}
    assert kept == ({} if damage == "delete" else {f"{name}.damaged-1": damaged})
    assert (f"{path} is damaged" in capsys.readouterr().out) == (damage != "delete")


def test_files_of_a_killed_build_are_replaced(
    root: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_checksums", kill)
        with pytest.raises(KeyboardInterrupt):
            open_icbhi(root)
    folder = open_icbhi(root).store.folder
    assert len(decoded) == 6
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, folder.name + ".lock"}
    names = {path.name for path in folder.iterdir()}
    assert names == {"waveforms.f32", "index.json", "SHA256SUMS"}


OPEN = """
import sys; from pathlib import Path
from lungsound.data.database import open_database
from lungsound.data.registry import DATABASES
open_database(DATABASES["icbhi"], Path(sys.argv[1]), 8000, Path(sys.argv[2]), skip_bad=False)
"""


def test_simultaneous_openings_build_it_once(root: Path, tmp_path: Path) -> None:
    folder = open_icbhi(root).store.folder
    built = folder.rename(tmp_path / "built")
    command = [sys.executable, "-c", OPEN, str(root), str(tmp_path / "store")]
    with file_lock(folder.with_name(f"{folder.name}.lock")):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert prints_line(process, "waiting for another process")
        built.rename(folder)  # as if this process had built it meanwhile
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 0, errors
    assert "Decoding" not in errors


def test_pickled_store_has_no_samples_and_reads_the_same(root: Path) -> None:
    store = open_icbhi(root).store
    assert store.samples.nbytes > 100_000
    content = pickle.dumps(store)
    assert len(content) < 2000
    np.testing.assert_array_equal(pickle.loads(content).samples, store.samples)


def test_store_that_cannot_be_written_is_an_error(root: Path, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"store_dir"):
        open_icbhi(root)


# --- the table of cycles ---


def test_table_has_a_row_per_cycle_in_order(root: Path) -> None:
    database = open_icbhi(root)
    cycles = database.cycles
    columns = (
        "recording patient recording_index location mode device cycle start_seconds end_seconds "
        "label start_sample end_sample key part event_type age sex diagnosis content"
    )
    assert list(cycles.columns) == columns.split()
    assert cycles.index.equals(pd.RangeIndex(6))
    assert cycles["age"].isna().all()
    assert (cycles[["part", "event_type", "sex", "diagnosis"]] == "").all(axis=None)
    assert cycles["recording"].tolist() == [A, A, B, B, C, C]
    assert cycles["cycle"].tolist() == [0, 1] * 3
    assert cycles["label"].tolist() == ["normal", "both"] * 3
    assert cycles["patient"].tolist() == ["101", "101", "102", "102", "103", "103"]
    assert cycles["start_sample"].tolist() == [0, 8000, 16000, 24000, 32000, 40000]
    assert cycles["end_sample"].tolist() == [8000, 16000, 24000, 32000, 40000, 48000]
    assert (database.recordings, database.name) == (3, "icbhi")
    assert (database.synthetic, database.notes) == (False, ())


def test_key_of_a_cycle_does_not_depend_on_other_cycles(root: Path) -> None:
    before = open_icbhi(root).cycles
    # First 8 bytes of `printf '101_1b1_Al_sc_Meditron/0' | sha256sum`.
    assert cycle_key(A, 0) == 0xD53B259841AB9D49
    assert before["key"].dtype == np.uint64
    assert before["key"][0] == cycle_key(A, 0)
    for path in root.glob(f"{B}.*"):
        path.unlink()
    after = open_icbhi(root).cycles
    assert after["key"].tolist() == before["key"][before["recording"] != B].tolist()


def test_changed_annotation_changes_the_fingerprint_but_not_the_store(
    root: Path, decoded: list[str]
) -> None:
    fingerprints = {open_icbhi(root).fingerprint}
    for text in ("0\t1\t0\t0\n1\t2\t1\t0\n", "0\t1\t0\t0\n1\t1.9\t1\t1\n", "0\t1\t0\t0\n"):
        (root / f"{C}.txt").write_text(text)
        fingerprints.add(open_icbhi(root).fingerprint)
    assert (len(fingerprints), len(decoded)) == (4, 3)


# --- bad input ---


def problems_of(root: Path, skip_bad: bool = False) -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        open_icbhi(root, skip_bad)
    for problem in error.value.problems:
        assert "\n" not in problem
        assert problem in str(error.value)
    return error.value.problems


@pytest.mark.parametrize("milliseconds", [1, 49, 50])
def test_end_up_to_50_ms_after_the_audio_is_cut_and_noted(root: Path, milliseconds: int) -> None:
    end = 2 + milliseconds / 1000
    (root / f"{B}.txt").write_text(f"0\t1\t0\t0\n1\t{end}\t0\t0\n")
    database = open_icbhi(root)
    last = database.cycles.iloc[3]
    assert (last["end_seconds"], last["end_sample"]) == (2.0, 32000)
    expected = f"{B}.txt, line 2: end {end:g} s cut to the audio's end at 2.000 s"
    assert database.notes == (expected,)


def test_tolerance_is_50_ms_although_floats_subtract_to_more(root: Path) -> None:
    assert 20.05 - 20 > 0.05
    make_recording(root, D, "0\t20.05\t0\t0\n", seconds=20)
    assert open_icbhi(root).cycles["end_seconds"].max() == 20.0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\t2.051\t0\t0", "end 2.051 s is 51 ms after the audio's end at 2.000 s"),
        ("2.01\t2.02\t0\t0", "end 2.02 s, start 2.01 s: no sample lies between them"),
        ("1.00001\t1.00002\t0\t0", "end 1.00002 s, start 1.00001 s: no sample lies between them"),
    ],
)
def test_cycle_outside_the_audio_or_without_a_sample_is_a_problem(
    root: Path, line: str, message: str
) -> None:
    (root / f"{B}.txt").write_text(f"0\t1\t0\t0\n{line}\n")
    (problem,) = problems_of(root)
    assert problem.startswith(f"{B}.txt, line 2: {message}")


def add_bad_recordings(root: Path) -> list[str]:
    """Four bad recordings beside the three good ones; return how the problem of each begins."""
    names = [f"20{number}_1b1_Al_sc_Meditron" for number in range(4)]
    for name in names:
        make_recording(root, name)
    (root / f"{names[0]}.txt").write_text("0\t1\t0\t0\n1\tx\t0\t0\n")
    (root / f"{names[1]}.txt").write_text("")
    (root / f"{names[2]}.wav").write_bytes((root / f"{names[2]}.wav").read_bytes()[:5000])
    soundfile.write(root / f"{names[3]}.wav", np.array([0.0, np.nan, 0.5]), 4000, subtype="FLOAT")
    return [
        f"{names[0]}.txt, line 2: end is 'x'",
        f"{names[1]}.txt: empty",
        f"{names[2]}.wav: truncated",
        f"{names[3]}.wav: 1 of 3 samples are NaN",
    ]


def test_problems_of_all_files_come_together_and_again_without_decoding(
    root: Path, decoded: list[str]
) -> None:
    expected = add_bad_recordings(root)
    # One recording with both parts bad: both are reported.
    make_recording(root, "400_1b1_Al_sc_Meditron", "1\t0\t0\t0\n2\t3\t0\t0\n")
    (root / "401_1b1_Al_sc_Meditron.txt").write_text("0\t1\t0\t0\n")
    expected += [
        "400_1b1_Al_sc_Meditron.txt, line 1: end 0 is not after start 1",
        "400_1b1_Al_sc_Meditron.txt, line 2: end 3 s is 1000 ms after the audio's end",
        "401_1b1_Al_sc_Meditron.txt: annotation without audio",
    ]
    problems = problems_of(root)
    for start, problem in zip(sorted(expected), sorted(problems), strict=True):
        assert problem.startswith(start)
    count = len(decoded)
    assert problems_of(root) == problems
    assert len(decoded) == count


def test_error_has_the_count_and_offers_skip_bad(root: Path) -> None:
    (root / f"{A}.wav").write_bytes(b"")
    with pytest.raises(DataError, match=rf"^1 problem in .*{root}.*data\.skip_bad=true"):
        open_icbhi(root)


def test_skip_bad_leaves_the_bad_recordings_out_and_lists_them(root: Path) -> None:
    good = open_icbhi(root)
    problems = add_bad_recordings(root)
    database = open_icbhi(root, skip_bad=True)
    assert database.recordings == 3
    columns = ["recording", "cycle", "start_seconds", "end_seconds", "label", "key"]
    pd.testing.assert_frame_equal(database.cycles[columns], good.cycles[columns])
    rows = zip(good.cycles.itertuples(), database.cycles.itertuples(), strict=True)
    for one, other in rows:
        np.testing.assert_array_equal(
            good.store.samples[one.start_sample : one.end_sample],
            database.store.samples[other.start_sample : other.end_sample],
        )
    summary, *left_out = database.notes
    assert "3 recordings are used; left out for" in summary
    for start, note in zip(sorted(problems), sorted(left_out), strict=True):
        assert note.startswith(f"left out: {start}")


def test_skip_bad_with_nothing_left_is_an_error(root: Path) -> None:
    for path in root.glob("*.wav"):
        path.write_bytes(b"")
    assert len(problems_of(root, skip_bad=True)) == 3


def test_stereo_is_used_and_noted(root: Path) -> None:
    make_recording(root, D, channels=2)
    database = open_icbhi(root)
    assert database.recordings == 4
    assert database.notes == (f"{D}.wav: 2 channels mixed down to one (their mean)",)


def test_doubtful_sound_and_times_are_used_and_noted(root: Path) -> None:
    samples, _ = soundfile.read(root / f"{B}.wav")
    samples[:4200] = 0  # at 4000 Hz the first cycle of two, and a bit
    soundfile.write(root / f"{B}.wav", samples, 4000)
    soundfile.write(root / f"{C}.wav", np.full(2 * 8000, -0.5), 8000)
    (root / f"{A}.txt").write_text("0\t0.9\t0\t0\n0.9\t0.9008\t1\t1\n")
    database = open_icbhi(root)
    assert len(database.cycles) == 6
    unannotated = "2.000 s of audio, annotated only up to 0.9008 s"
    assert list(database.notes) == [
        f"{A}.txt: 1 of 2 cycles (2) are shorter than 50 ms, as no breath or event is",
        f"{A}.wav: {unannotated}: are its channels and rate right?",
        f"{B}.wav: 1 of 2 cycles (1) are silent: most of their samples are equal",
        f"{C}.wav: silent: all its 16000 samples are equal",
    ]


@pytest.mark.parametrize(
    ("annotation", "fault"),
    [
        ("0\t0.0008\t0\t0\n0.0008\t0.002\t1\t1\n", "the longest of its 2 cycles has 1.2 ms"),
        ("0\t0.27\t0\t0\n0.27\t0.5\t1\t1\n", "the longest of its 2 cycles has 270 ms"),
        ("0\t900\t0\t0\n900\t1990\t1\t1\n", "its cycles end at 1990 s, after the audio's end"),
    ],
)
def test_file_of_times_in_another_unit_is_one_problem(
    root: Path, annotation: str, fault: str
) -> None:
    (root / f"{B}.txt").write_text(annotation)
    (problem,) = problems_of(root)
    assert problem.startswith(f"{B}.txt: {fault}")
    assert problem.endswith("expected seconds: are its times in another unit?")


# --- the real recordings ---


def test_real_recordings_end_to_end(real_data: Path, tmp_path: Path) -> None:
    database = open_database(
        DATABASES["icbhi"], real_data / "icbhi", 22000, tmp_path, skip_bad=False
    )
    folder = real_data / "icbhi" / "audio_and_txt_files"
    lines = {path.stem: path.read_text().split("\n") for path in folder.glob("*.txt")}
    cycles = database.cycles
    assert (database.recordings, len(lines)) == (22, 22)
    assert len(cycles) == sum(line.strip() != "" for content in lines.values() for line in content)
    assert cycles["key"].is_unique
    for row in cycles.itertuples():
        start, end, crackle, wheeze = lines[row.recording][row.cycle].split()
        assert row.start_seconds == float(start)
        assert row.end_seconds == pytest.approx(float(end), abs=0.05)
        assert row.label == FOUR_CLASS.labels[int(crackle) + 2 * int(wheeze)]
        seconds = (row.end_sample - row.start_sample) / 22000
        assert seconds == pytest.approx(row.end_seconds - row.start_seconds, abs=1e-4)
    row = cycles[cycles["device"] == "Litt3200"].iloc[3]
    samples, rate_hz = soundfile.read(folder / f"{row['recording']}.wav", dtype="float32")
    resampled = soxr.resample(samples, rate_hz, 22000, quality="HQ")
    expected = resampled[round(row["start_seconds"] * 22000) : round(row["end_seconds"] * 22000)]
    stored = database.store.samples[row["start_sample"] : row["end_sample"]]
    np.testing.assert_array_equal(stored, expected)
