"""The waveform store and the database: decoded once, the same waveforms as by hand, all problems in
one error.
"""

import multiprocessing
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr

from lungsound.data import store as store_module
from lungsound.data.cycles import cycle_key
from lungsound.data.database import Database, open_database
from lungsound.data.labels import FOUR_CLASS
from lungsound.data.readers.icbhi import read_icbhi
from lungsound.data.store import open_waveform_store
from lungsound.errors import DataError, StorageError

A, B, C = "101_1b1_Al_sc_Meditron", "102_1b1_Ar_sc_Litt3200", "103_2b2_Ar_mc_LittC2SE"


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
    noise = np.random.default_rng(list(name.encode())).uniform(
        -0.5, 0.5, (seconds * rate_hz, channels)
    )
    soundfile.write(folder / f"{name}.wav", noise, rate_hz, subtype="PCM_16")
    (folder / f"{name}.txt").write_text(annotation)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, rate_hz in ((A, 44100), (B, 4000), (C, 8000)):
        make_recording(tmp_path / "db", name, rate_hz=rate_hz)
    return tmp_path / "db"


def opened(root: Path, skip_bad: bool = False, sample_rate: int = 8000) -> Database:
    return open_database("icbhi", root, sample_rate, root.parent / "store", skip_bad=skip_bad)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded from now on."""
    names: list[str] = []
    real = store_module.read_audio

    def counting(path: Path) -> tuple[np.ndarray, int, str]:
        names.append(path.stem)
        return real(path)

    monkeypatch.setattr(store_module, "read_audio", counting)
    return names


# --- the store ---


def test_waveforms_are_those_decoded_by_hand(root: Path) -> None:
    store = opened(root).store
    for name in (A, B, C):
        samples, rate_hz = soundfile.read(root / f"{name}.wav", dtype="float32")
        entry = store.recordings[name]
        assert (entry["seconds"], entry["rate_hz"], entry["note"], entry["problem"]) == (
            2.0,
            rate_hz,
            "",
            "",
        )
        stored = store.samples[entry["offset"] : entry["offset"] + entry["samples"]]
        np.testing.assert_array_equal(stored, soxr.resample(samples, rate_hz, 8000, quality="HQ"))
    assert len(store.samples) == 3 * 16000


def test_a_second_start_decodes_nothing_and_prints_nothing(
    root: Path, decoded: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    first = opened(root)
    assert decoded == [A, B, C]
    out, err = capfd.readouterr()
    assert (out, "Decoding" in err) == ("", True)
    second = opened(root)
    assert decoded == [A, B, C]
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(first.store.samples, second.store.samples)
    assert first.fingerprint == second.fingerprint


def test_another_rate_and_changed_audio_are_other_stores(root: Path, decoded: list[str]) -> None:
    first = opened(root).store
    other_rate = opened(root, sample_rate=4000).store
    assert (first.fingerprint, len(decoded)) == (other_rate.fingerprint, 6)
    assert first.folder.name == f"{first.fingerprint}-8000"
    assert other_rate.folder.name == f"{first.fingerprint}-4000"
    content = bytearray((root / f"{B}.wav").read_bytes())
    content[-1] ^= 1
    (root / f"{B}.wav").write_bytes(content)
    assert opened(root).store.fingerprint != first.fingerprint


def test_the_fingerprint_does_not_depend_on_the_place_or_the_order(
    root: Path, tmp_path: Path
) -> None:
    recordings, *_ = read_icbhi(root)
    moved = tmp_path / "elsewhere" / "ICBHI_final_database"
    shutil.copytree(root, moved)
    one = open_waveform_store(recordings, 8000, tmp_path / "one")
    other = open_waveform_store(read_icbhi(moved.parent)[0][::-1], 8000, tmp_path / "other")
    assert one.fingerprint == other.fingerprint
    np.testing.assert_array_equal(one.samples, other.samples)


@pytest.mark.parametrize(
    "damage", ["flip a bit", "cut", "delete waveforms", "delete index", "garble index"]
)
def test_a_damaged_store_is_put_aside_and_made_again(
    root: Path, decoded: list[str], capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    store = opened(root).store
    expected = np.array(store.samples)
    path = store.folder / ("index.json" if "index" in damage else "waveforms.f32")
    content = bytearray(path.read_bytes())
    path.unlink()
    if not damage.startswith("delete"):
        content[100] ^= 1
        path.write_bytes(content[:-4] if damage == "cut" else content)
    damaged = path.read_bytes() if path.exists() else None
    again = opened(root).store
    assert len(decoded) == 6
    np.testing.assert_array_equal(again.samples, expected)
    asides = {aside.name: aside.read_bytes() for aside in store.folder.glob("*.damaged-*")}
    assert asides == ({} if damaged is None else {f"{path.name}.damaged-1": damaged})
    assert (f"{path} is damaged" in capsys.readouterr().out) == (damaged is not None)


def test_what_a_killed_build_left_is_cleared_away(
    root: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_checksums", killed)
        with pytest.raises(KeyboardInterrupt):
            opened(root)
    store = opened(root).store
    assert len(decoded) == 6
    assert {path.name for path in store.folder.parent.iterdir()} == {
        store.folder.name,
        store.folder.name + ".lock",
    }
    names = {"waveforms.f32", "index.json", "SHA256SUMS"}
    assert {path.name for path in store.folder.iterdir()} == names


def _open_and_report(root: Path, results: "multiprocessing.Queue[tuple[float, int]]") -> None:
    calls: list[Path] = []
    real = store_module.read_audio

    def counting(path: Path) -> tuple[np.ndarray, int, str]:
        calls.append(path)
        return real(path)

    store_module.read_audio = counting  # in this forked process alone
    results.put((float(opened(root).store.samples.sum()), len(calls)))


def test_processes_that_start_together_build_it_once(root: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_open_and_report, args=(root, results)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert len({total for total, _ in found}) == 1
    assert sorted(calls for _, calls in found) == [0, 0, 3]


def test_a_pickled_store_holds_no_samples_and_reads_the_same(root: Path) -> None:
    store = opened(root).store
    assert store.samples.nbytes > 100_000
    content = pickle.dumps(store)
    assert len(content) < 2000
    np.testing.assert_array_equal(pickle.loads(content).samples, store.samples)


def test_the_waveforms_cannot_be_written_to(root: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        opened(root).store.samples[0] = 1


def test_a_store_that_cannot_be_written_is_a_clear_error(root: Path, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"store_dir"):
        opened(root)


# --- the table of cycles ---


def test_table_has_a_row_per_cycle_in_order(root: Path) -> None:
    database = opened(root)
    cycles = database.cycles
    expected_columns = (
        "recording patient recording_index location mode device cycle start_seconds end_seconds "
        "label start_sample end_sample key part event_type age sex diagnosis content"
    )
    assert list(cycles.columns) == expected_columns.split()
    assert cycles.index.equals(pd.RangeIndex(6))
    assert cycles["age"].isna().all() and (
        cycles[["part", "event_type", "sex", "diagnosis"]] == ""
    ).all(axis=None)
    assert cycles["recording"].tolist() == [A, A, B, B, C, C]
    assert cycles["cycle"].tolist() == [0, 1] * 3
    assert cycles["label"].tolist() == ["normal", "both"] * 3
    assert cycles["patient"].tolist() == ["101", "101", "102", "102", "103", "103"]
    assert cycles["start_sample"].tolist() == [0, 8000, 16000, 24000, 32000, 40000]
    assert cycles["end_sample"].tolist() == [8000, 16000, 24000, 32000, 40000, 48000]
    assert (database.recordings, database.name, database.synthetic, database.notes) == (
        3,
        "icbhi",
        False,
        (),
    )


def test_a_cycles_key_is_its_own(root: Path) -> None:
    before = opened(root).cycles
    # First 8 bytes of `printf '101_1b1_Al_sc_Meditron/0' | sha256sum`.
    assert cycle_key(A, 0) == 0xD53B259841AB9D49
    assert before["key"].dtype == np.uint64
    assert before["key"][0] == cycle_key(A, 0)
    (root / f"{B}.wav").unlink()
    (root / f"{B}.txt").unlink()
    after = opened(root).cycles
    assert after["key"].tolist() == before["key"][before["recording"] != B].tolist()


def test_a_changed_annotation_changes_the_fingerprint_but_not_the_store(
    root: Path, decoded: list[str]
) -> None:
    databases = [opened(root)]
    for text in ("0\t1\t0\t0\n1\t2\t1\t0\n", "0\t1\t0\t0\n1\t1.9\t1\t1\n", "0\t1\t0\t0\n"):
        (root / f"{C}.txt").write_text(text)
        databases.append(opened(root))
    assert len({database.fingerprint for database in databases}) == 4
    assert len(decoded) == 3


# --- bad input ---


def problems_of(root: Path, skip_bad: bool = False) -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        opened(root, skip_bad)
    assert all(
        "\n" not in problem and problem in str(error.value) for problem in error.value.problems
    )
    return error.value.problems


@pytest.mark.parametrize("milliseconds", [1, 49, 50])
def test_an_end_up_to_50_ms_after_the_audio_is_cut_with_a_word(
    root: Path, milliseconds: int
) -> None:
    (root / f"{B}.txt").write_text(f"0\t1\t0\t0\n1\t{2 + milliseconds / 1000}\t0\t0\n")
    database = opened(root)
    last = database.cycles.iloc[3]
    assert (last["end_seconds"], last["end_sample"]) == (2.0, 32000)
    (note,) = database.notes
    assert (
        note
        == f"{B}.txt, line 2: end {2 + milliseconds / 1000:g} s cut to the audio's end at 2.000 s"
    )


def test_50_ms_are_50_ms_also_where_floats_subtract_to_a_little_more(root: Path) -> None:
    assert 20.05 - 20 > 0.05
    make_recording(root, "104_1b1_Al_sc_Meditron", "0\t20.05\t0\t0\n", seconds=20)
    assert opened(root).cycles["end_seconds"].max() == 20.0


def test_a_later_end_is_a_problem(root: Path) -> None:
    (root / f"{B}.txt").write_text("0\t1\t0\t0\n1\t2.051\t0\t0\n")
    (problem,) = problems_of(root)
    assert problem.startswith(
        f"{B}.txt, line 2: end 2.051 s is 51 ms after the audio's end at 2.000 s"
    )


@pytest.mark.parametrize(
    "line", ["2.01\t2.02\t0\t0", "1.00001\t1.00002\t0\t0"], ids=["after the audio", "no sample"]
)
def test_a_cycle_without_a_sample_is_a_problem(root: Path, line: str) -> None:
    (root / f"{B}.txt").write_text(f"0\t1\t0\t0\n{line}\n")
    (problem,) = problems_of(root)
    assert problem.startswith(f"{B}.txt, line 2: ")
    assert "no sample" in problem


def spoil(root: Path) -> dict[str, str]:
    """Nine bad recordings beside the three good ones: name -> what is said about it."""
    said = {}
    for number, (text, message) in enumerate(
        [
            ("0\t1\t0\n", "line 1: 3 fields"),
            ("0\t1\t0\t0\n1\tx\t0\t0\n", "line 2: end is 'x'"),
            ("0\t1\t2\t0\n", "line 1: crackle is '2'"),
            ("", "empty"),
        ]
    ):
        name = f"2{number:02d}_1b1_Al_sc_Meditron"
        make_recording(root, name, text)
        said[name] = f"{name}.txt{':' if message == 'empty' else ','} {message}"
    for number, message in enumerate(["empty", "truncated", "header only", "not a WAV", "NaN"]):
        name = f"3{number:02d}_1b1_Al_sc_Meditron"
        make_recording(root, name)
        path = root / f"{name}.wav"
        content = path.read_bytes()
        path.write_bytes([b"", content[:5000], content[:44], b"no audio" * 20, b""][number])
        if message == "NaN":
            soundfile.write(path, np.array([0.0, np.nan, 0.5]), 4000, subtype="FLOAT")
        said[name] = f"{name}.wav: "
    return said


def test_problems_of_all_files_come_together_and_again_without_decoding(
    root: Path, decoded: list[str]
) -> None:
    said = spoil(root)
    # One recording with both parts bad: both are reported.
    make_recording(root, "400_1b1_Al_sc_Meditron", "1\t0\t0\t0\n2\t3\t0\t0\n")
    (root / "401_1b1_Al_sc_Meditron.txt").write_text("0\t1\t0\t0\n")
    problems = problems_of(root)
    assert len(problems) == len(said) + 3
    for beginning in said.values():
        assert sum(problem.startswith(beginning) for problem in problems) == 1, beginning
    text = "\n".join(problems)
    assert "400_1b1_Al_sc_Meditron.txt, line 1: end 0 is not after start 1" in text
    assert "400_1b1_Al_sc_Meditron.txt, line 2: end 3 s is 1000 ms after the audio's end" in text
    assert "401_1b1_Al_sc_Meditron.txt: annotation without audio" in text
    count = len(decoded)
    assert problems_of(root) == problems
    assert len(decoded) == count


def test_the_error_counts_and_offers_skip_bad(root: Path) -> None:
    (root / f"{A}.wav").write_bytes(b"")
    with pytest.raises(DataError, match=rf"^1 problem in .*{root}.*data\.skip_bad=true"):
        opened(root)


def test_skip_bad_leaves_the_bad_recordings_out_and_lists_them(root: Path) -> None:
    clean = opened(root)
    said = spoil(root)
    database = opened(root, skip_bad=True)
    assert database.recordings == 3
    kept = ["recording", "cycle", "start_seconds", "end_seconds", "label", "key"]
    pd.testing.assert_frame_equal(database.cycles[kept], clean.cycles[kept])
    for one, other in (
        (clean.cycles.iloc[row], database.cycles.iloc[row]) for row in range(len(clean.cycles))
    ):
        np.testing.assert_array_equal(
            database.store.samples[other["start_sample"] : other["end_sample"]],
            clean.store.samples[one["start_sample"] : one["end_sample"]],
        )
    assert len(database.notes) == 1 + len(said)
    assert "3 recordings are used; left out for" in database.notes[0]
    assert all(any(beginning in note for note in database.notes) for beginning in said.values())


def test_skip_bad_with_nothing_left_is_an_error(root: Path) -> None:
    for path in root.glob("*.wav"):
        path.write_bytes(b"")
    assert len(problems_of(root, skip_bad=True)) == 3


def test_stereo_is_used_and_noted(root: Path) -> None:
    make_recording(root, "104_1b1_Al_sc_Meditron", channels=2)
    database = opened(root)
    assert database.recordings == 4
    assert database.notes == (
        "104_1b1_Al_sc_Meditron.wav: 2 channels mixed down to one (their mean)",
    )


# --- the real recordings ---


def test_real_recordings_end_to_end(real_data: Path, tmp_path: Path) -> None:
    database = open_database("icbhi", real_data / "icbhi", 22000, tmp_path, skip_bad=False)
    folder = real_data / "icbhi" / "audio_and_txt_files"
    lines = {path.stem: path.read_text().split("\n") for path in folder.glob("*.txt")}
    cycles = database.cycles
    assert (database.recordings, len(lines)) == (22, 22)
    assert len(cycles) == sum(line.strip() != "" for content in lines.values() for line in content)
    assert set(cycles["label"]) == set(FOUR_CLASS.labels)
    assert cycles["key"].is_unique
    for row in cycles.to_dict("records"):
        start, end, crackle, wheeze = lines[row["recording"]][row["cycle"]].split()
        assert row["start_seconds"] == float(start)
        assert row["end_seconds"] == pytest.approx(float(end), abs=0.05)
        assert (
            row["label"] == ("normal", "crackle", "wheeze", "both")[int(crackle) + 2 * int(wheeze)]
        )
        seconds = (row["end_sample"] - row["start_sample"]) / 22000
        assert seconds == pytest.approx(row["end_seconds"] - row["start_seconds"], abs=1e-4)
    row = cycles[cycles["device"] == "Litt3200"].to_dict("records")[3]
    samples, rate_hz = soundfile.read(folder / f"{row['recording']}.wav", dtype="float32")
    resampled = soxr.resample(samples, rate_hz, 22000, quality="HQ")
    expected = resampled[round(row["start_seconds"] * 22000) : round(row["end_seconds"] * 22000)]
    np.testing.assert_array_equal(
        database.store.samples[row["start_sample"] : row["end_sample"]], expected
    )
