"""The demo database against ICBHI's published numbers, and its sounds against their physics."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from numpy.random import default_rng
from scipy import signal, stats
from sklearn.metrics import roc_auc_score
from support.files import flip_bit

from lungsound.data.synthetic import database as demo
from lungsound.data.synthetic import sounds
from lungsound.data.synthetic.mixing import mix_recording

NAME = re.compile(
    r"(\d{3})_(\d[bp]\d)_(Tc|Al|Ar|Pl|Pr|Ll|Lr)_(sc|mc)_(AKGC417L|LittC2SE|Litt3200|Meditron)"
)
LINE = re.compile(r"\d+(\.\d{1,3})?\t\d+(\.\d{1,3})?\t[01]\t[01]")
FORMATS = {(4000, "PCM_16"), (44100, "PCM_16"), (44100, "PCM_24")}
BYTES = {"PCM_16": 2, "PCM_24": 3}
CLASS_SHARES = np.array([3642, 1864, 886, 506]) / 6898


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo")
    demo.make_demo(root, seed=3, patients=12, cycles=160)
    return root / "audio_and_txt_files"


@pytest.fixture(scope="module")
def cycles(folder: Path) -> pd.DataFrame:
    """Read by pandas alone; `label` in the order normal, crackle, wheeze, both."""
    columns = ["start", "end", "crackle", "wheeze"]
    tables = [
        pd.read_csv(path, sep="\t", header=None, names=columns).assign(recording=path.stem)
        for path in sorted(folder.glob("*.txt"))
    ]
    table = pd.concat(tables, ignore_index=True)
    return table.assign(label=table.crackle + 2 * table.wheeze)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.*")}


def test_names_and_formats_are_icbhis(folder: Path) -> None:
    assert (folder.parent / "SYNTHETIC.txt").exists()
    paths = sorted(folder.glob("*.wav"))
    assert {path.stem for path in paths} == {path.stem for path in folder.glob("*.txt")}
    assert len(list(folder.iterdir())) == 2 * len(paths)
    patients = set()
    for path in paths:
        name, info = NAME.fullmatch(path.stem), soundfile.info(path)
        assert name, path
        patients.add(int(name[1]))
        assert (info.format, info.channels) == ("WAV", 1)
        assert (info.samplerate, info.subtype) in FORMATS
        assert info.samplerate == 4000 or name[5] != "Litt3200"
    assert len(patients) == 12
    assert not patients & set(range(101, 227))  # ICBHI's own


def test_annotations_are_icbhis(folder: Path, cycles: pd.DataFrame) -> None:
    assert len(cycles) == 160
    for name, part in cycles.groupby("recording"):
        assert part.start.iloc[0] >= 0
        assert part.start.iloc[1:].tolist() == part.end.iloc[:-1].tolist()
        assert part.end.iloc[-1] < soundfile.info(folder / f"{name}.wav").duration
        lines = (folder / f"{name}.txt").read_bytes().decode().splitlines()
        assert all(map(LINE.fullmatch, lines))
    shares = cycles.label.value_counts(normalize=True).sort_index()
    assert np.allclose(shares, CLASS_SHARES, atol=0.02)
    assert (cycles.end - cycles.start).median() == pytest.approx(2.54, abs=0.05)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_plan_of_the_default_size(seed: int) -> None:
    plans = demo.plan_recordings(seed, 36, 864)
    assert len({plan.name for plan in plans}) == len(plans)
    rows = [
        (plan.patient, label, seconds)
        for plan in plans
        for seconds, label in zip(np.diff(plan.borders), plan.labels, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["patient", "label", "seconds"])
    assert (table.patient.nunique(), len(table)) == (36, 864)
    counts = table.label.value_counts().sort_index()
    assert np.abs(counts - 864 * CLASS_SHARES).max() <= 4
    published = {0.05: 1.05, 0.10: 1.33, 0.25: 1.93, 0.5: 2.54, 0.75: 3.37, 0.9: 4.11, 0.95: 4.59}
    assert np.allclose(table.seconds.quantile(list(published)), list(published.values()), rtol=0.03)
    assert 0.2 <= table.seconds.min() < 0.61
    assert 6.41 < table.seconds.max() <= 16.2
    kinds = pd.crosstab(table.patient, table.label, normalize="index").max(axis=1)
    assert 0.6 < kinds.mean() < 0.9  # 0.77 in ICBHI: a patient is mostly, not only, of one kind
    assert {(plan.device.rate_hz, plan.device.subtype) for plan in plans} == FORMATS
    sizes = [plan.seconds * plan.device.rate_hz * BYTES[plan.device.subtype] for plan in plans]
    assert sum(sizes) < 150e6


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        demo.make_demo(tmp_path / name, seed, patients=3, cycles=9)
        files.append(contents(tmp_path / name))
    assert files[0] == files[1]
    assert set(files[0].values()) & set(files[2].values()) == {files[0]["SYNTHETIC.txt"]}


def test_recording_does_not_depend_on_the_others(folder: Path) -> None:
    plan = demo.plan_recordings(3, 12, 160)[-1]
    samples, rate_hz = soundfile.read(folder / f"{plan.name}.wav", dtype="float32")
    assert rate_hz == plan.device.rate_hz
    assert np.abs(samples - mix_recording(3, plan)).max() < 2**-15


def test_annotated_sounds_can_be_heard(folder: Path, cycles: pd.DataFrame) -> None:
    """Crackles make the band of 300 to 1500 Hz spiky, wheezes make its spectrum peaky."""
    spiky, peaky = [], []
    for row in cycles.itertuples():
        waveform, rate_hz = soundfile.read(folder / f"{row.recording}.wav")
        waveform = waveform[int(row.start * rate_hz) : int(row.end * rate_hz)]
        band_pass = signal.butter(4, [300, 1500], "bandpass", fs=rate_hz, output="sos")
        spiky.append(stats.kurtosis(signal.sosfilt(band_pass, waveform)))
        _, power = signal.welch(waveform, rate_hz, nperseg=rate_hz // 20)
        level = 10 * np.log10(power[5:75])  # 100 to 1500 Hz in steps of 20
        peaky.append(np.max(level - signal.medfilt(level, 9)))
    assert roc_auc_score(cycles.crackle, spiky) > 0.75
    assert roc_auc_score(cycles.wheeze, peaky) > 0.75


@pytest.mark.parametrize(
    ("kind", "widths_ms", "durations_ms"),
    [("fine", (0.5, 0.9), (3.5, 10.0)), ("coarse", (1.0, 1.6), (10.0, 14.0))],
)
def test_crackle_widths(
    kind: str, widths_ms: tuple[float, float], durations_ms: tuple[float, float]
) -> None:
    """Initial deflection and two cycles from the zero crossings, as in the clinic.

    0.7 and 5 ms, 1.5 and 10 ms are the centres of the American Thoracic Society (1977); 10 ms is
    CORSA's border.
    """
    rng = default_rng(0)
    widths, durations = sounds.CRACKLE_WIDTHS_MS[kind]
    for _ in range(50):
        wave = sounds.crackle(1e6, rng.uniform(*widths), rng.uniform(*durations))
        crossings = np.flatnonzero(np.diff(np.sign(wave)))
        assert len(crossings) == 3  # four half waves are two cycles
        assert widths_ms[0] <= crossings[0] / 1e3 <= widths_ms[1]
        assert durations_ms[0] <= len(wave) / 1e3 <= durations_ms[1]
        assert (np.diff(crossings) > crossings[0]).all()  # it slows down
        halves = [np.abs(part).max() for part in np.split(wave, crossings + 1)]
        assert halves[1] > halves[2] > halves[3]  # and dies away
        assert np.abs(wave).max() == pytest.approx(1)


def test_crackle_keeps_its_widths_at_the_lowest_rate() -> None:
    fine, low = sounds.crackle(48000, 0.7, 5.0), sounds.crackle(4000, 0.7, 5.0)
    assert len(low) == pytest.approx(len(fine) / 12, abs=1)
    assert np.corrcoef(fine[11::12][: len(low)], low)[0, 1] > 0.99


@pytest.mark.parametrize("hertz", [100.0, 140.0, 400.0, 1000.0])
@pytest.mark.parametrize("seconds", [0.08, 0.5])
def test_wheeze_is_a_sustained_tone_with_harmonics(hertz: float, seconds: float) -> None:
    wave = sounds.wheeze(default_rng(1), 44100, seconds, hertz).astype(float)
    size = 1 << 18
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), size))
    frequencies = np.fft.rfftfreq(size, 1 / 44100)
    fundamental = frequencies[spectrum.argmax()]
    assert 100 - 1 / seconds <= fundamental <= 1000 + 1 / seconds
    assert fundamental == pytest.approx(hertz, rel=0.1, abs=1 / seconds)
    octave = np.abs(frequencies - 2 * fundamental) < 0.2 * fundamental
    between = np.abs(frequencies - 1.5 * fundamental) < 0.1 * fundamental
    if seconds == 0.5:
        assert spectrum[octave].max() > 5 * spectrum[between].max()
    period = round(44100 / hertz)
    power = np.convolve(wave**2, np.full(period, 1 / period), "same")
    loud = np.flatnonzero(power > power.max() / 10)
    assert (loud[-1] - loud[0]) / 44100 >= 0.08
    assert np.sqrt(np.mean(wave**2)) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(
    ("inspiration", "steepest_db", "gentlest_db"), [(True, -15.2, -12.7), (False, -20.3, -13.4)]
)
def test_breath_falls_as_published(
    inspiration: bool, steepest_db: float, gentlest_db: float
) -> None:
    """The fall per octave over the chest wall (Gavriely 1995); a trachea is broader."""
    chest, trachea = (
        signal.welch(
            sounds.breath(default_rng(2), 400_000, 4000, where, inspiration), 4000, nperseg=1024
        )
        for where in (False, True)
    )
    frequencies, power = chest
    inside = (frequencies > 350) & (frequencies < 1500)
    slope = np.polyfit(np.log2(frequencies[inside]), 10 * np.log10(power[inside]), 1)[0]
    assert steepest_db - 0.4 < slope < gentlest_db + 0.4
    above = frequencies > 500
    assert trachea[1][above].sum() > 5 * power[above].sum()


def test_heart_beats_are_between_20_and_150_hz() -> None:
    beats = sounds.heart(default_rng(4), 30 * 4000, 4000, 60.0)
    frequencies, power = signal.welch(beats, 4000, nperseg=4096)
    assert power[(frequencies >= 20) & (frequencies <= 150)].sum() > 0.95 * power.sum()
    peaks, _ = signal.find_peaks(np.abs(beats), height=0.7, distance=2000)
    assert len(peaks) == pytest.approx(30, abs=2)


def test_every_device_limits_its_band() -> None:
    noise = default_rng(5).standard_normal(1 << 17).astype(np.float32)
    responses = set()
    for device in demo.DEVICES:
        recorded = sounds.apply_device_response(device, noise)
        assert recorded.shape == noise.shape
        frequencies, power = signal.welch(recorded, device.rate_hz, nperseg=8192)
        hertz = np.array([device.low_hz / 2, 300, 0.98 * device.rate_hz / 2])
        level = np.interp(hertz, frequencies, 10 * np.log10(power))
        loss = level[1] + device.tilt_db_per_octave * np.log2(hertz / 300) - level
        assert loss[0] > 8  # 12 dB per octave, an octave below the corner
        assert loss[2] > 3
        responses.add(tuple(np.round(level[[0, 2]] - level[1])))
    assert len(responses) > 2


def test_demo_root_is_made_once_per_arguments_and_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = demo.demo_root(tmp_path, 0, patients=2, cycles=4)
    assert root.parent == tmp_path / "demo"
    assert list((root / "audio_and_txt_files").glob("*.wav"))
    before = contents(tmp_path)
    monkeypatch.setattr(demo, "make_demo", lambda folder, *arguments: folder.mkdir(parents=True))
    assert demo.demo_root(tmp_path, 0, patients=2, cycles=4) == root
    assert contents(tmp_path) == before
    roots = {demo.demo_root(tmp_path, *sizes) for sizes in ((1, 2, 4), (0, 3, 4), (0, 2, 5))}
    for source in Path(demo.__file__).parent.glob("*.py"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (tmp_path / "sounds.py").write_text("# louder")
    monkeypatch.setattr(demo, "__file__", str(tmp_path / "database.py"))
    roots.add(demo.demo_root(tmp_path, 0, 2, 4))
    assert len(roots | {root}) == 5


def test_demo_root_of_a_killed_process_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = demo.demo_root(tmp_path / "whole", 0, patients=2, cycles=4)
    with monkeypatch.context() as patch:
        patch.setattr(soundfile, "write", lambda *arguments, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            demo.demo_root(tmp_path / "killed", 0, patients=2, cycles=4)
    root = tmp_path / "killed" / "demo" / whole.name
    assert (root / "SYNTHETIC.txt").exists()  # from the first file on
    name = next(whole.glob("*/*.wav")).name
    half = root / "audio_and_txt_files" / f".{name}.12345678.part"  # as of a kill
    half.parent.mkdir()
    half.write_bytes(b"RIFF")
    assert demo.demo_root(tmp_path / "killed", 0, patients=2, cycles=4) == root
    assert contents(root) == contents(whole)


def test_damaged_demo_is_quarantined_and_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = demo.demo_root(tmp_path, 0, patients=2, cycles=4)
    audio = next(root.glob("*/*.wav"))
    whole, damaged = audio.read_bytes(), flip_bit(audio.read_bytes(), 100)
    audio.write_bytes(damaged)
    assert demo.demo_root(tmp_path, 0, patients=2, cycles=4) == root
    assert audio.read_bytes() == whole
    assert f"{root} is damaged" in capsys.readouterr().out
    quarantined = root.with_name(f"{root.name}.damaged-1") / audio.relative_to(root)
    assert quarantined.read_bytes() == damaged


@pytest.mark.parametrize(("patients", "cycles"), [(0, 10), (5, 4), (700, 800)])
def test_impossible_sizes_are_refused(tmp_path: Path, patients: int, cycles: int) -> None:
    with pytest.raises(ValueError, match="Expected 1 to 699 patients"):
        demo.make_demo(tmp_path, 0, patients, cycles)
