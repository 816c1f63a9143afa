"""Time stretching, by the physics of a tone."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lungsound.signal.stretch import stretched_length, time_stretch

RATE_HZ = 22_000
METHODS = ("phase_vocoder", "resample")


def tone(hertz: float, seconds: float) -> NDArray[np.float32]:
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (0.5 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def peak_hz(waveform: NDArray[np.float32]) -> float:
    """The frequency of the highest peak, to a tenth of a hertz."""
    points = 10 * RATE_HZ
    windowed = waveform * np.hanning(len(waveform))
    return float(np.abs(np.fft.rfft(windowed, points)).argmax() * RATE_HZ / points)


@pytest.mark.parametrize("rate", [0.9, 0.97, 1.03, 1.1])
@pytest.mark.parametrize("hertz", [220.0, 1500.0])
def test_the_phase_vocoder_keeps_the_pitch_and_resampling_multiplies_it(
    rate: float, hertz: float
) -> None:
    waveform = tone(hertz, 2.0)
    assert peak_hz(time_stretch(waveform, rate, "phase_vocoder")) == pytest.approx(hertz, abs=1)
    assert peak_hz(time_stretch(waveform, rate, "resample")) == pytest.approx(hertz * rate, abs=1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rate", [0.9, 1.0, 1.1])
@pytest.mark.parametrize("number", [1, 2, 100, 1100, 2047, 2048, 2049, 30_001])
@pytest.mark.filterwarnings("error")
def test_the_length_is_divided_by_the_rate_without_a_warning(
    number: int, rate: float, method: str
) -> None:
    waveform = tone(500, 2)[1 : number + 1]
    stretched = time_stretch(waveform, rate, method)
    assert stretched.dtype == np.float32
    assert len(stretched) == stretched_length(number, rate)
    assert abs(len(stretched) - number / rate) <= 0.5
    assert np.isfinite(stretched).all()


@pytest.mark.filterwarnings("error")
def test_a_cycle_of_50_ms_keeps_its_sound() -> None:
    waveform = tone(1000, 0.05)
    for rate in (0.9, 1.1):
        stretched = time_stretch(waveform, rate, "phase_vocoder")
        assert peak_hz(stretched) == pytest.approx(1000, abs=10)
        assert np.square(stretched).mean() == pytest.approx(np.square(waveform).mean(), rel=0.2)
        resampled = time_stretch(waveform, rate, "resample")
        assert peak_hz(resampled) == pytest.approx(1000 * rate, abs=10)


@pytest.mark.parametrize("method", METHODS)
def test_a_read_only_piece_of_the_store_is_taken(tmp_path: Path, method: str) -> None:
    tone(500, 1).tofile(tmp_path / "waveforms.f32")
    piece = np.memmap(tmp_path / "waveforms.f32", dtype=np.float32, mode="r")[99:9999]
    expected = time_stretch(tone(500, 1)[99:9999], 0.9, method)
    np.testing.assert_array_equal(time_stretch(piece, 0.9, method), expected)


@pytest.mark.parametrize("method", METHODS)
def test_rate_one_changes_nothing_to_hear(method: str) -> None:
    # As long as the longest cycle: in float32 the vocoder's phases have drifted by then.
    noise = np.random.default_rng(0).standard_normal(16 * RATE_HZ).astype(np.float32)
    np.testing.assert_allclose(time_stretch(noise, 1.0, method), noise, atol=1e-5)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="0 samples"):
        time_stretch(tone(500, 0), 1.1, "resample")
    with pytest.raises(ValueError, match="rate 0"):
        time_stretch(tone(500, 1), 0, "resample")
    with pytest.raises(ValueError, match="got 'wsola'"):
        time_stretch(tone(500, 1), 1.1, "wsola")
