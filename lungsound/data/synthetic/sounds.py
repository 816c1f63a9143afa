"""Sound models of the SYNTHETIC demo database: from a generator and plain numbers to waveforms.

Times are seconds, frequencies hertz; every waveform is float32 [samples] at `rate_hz`. The caller
sets the levels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

FloatArray = NDArray[np.float32]

# Initial deflection width and two-cycle duration in milliseconds. Centres: fine 0.7 and 5 ms,
# coarse 1.5 and 10 ms (American Thoracic Society 1977; Murphy, Holford & Knowler, N Engl J Med
# 296:968, 1977); the ranges also keep CORSA's border of 10 ms between fine and coarse (Sovijärvi et
# al., Eur Respir Rev 10:591, 2000).
CRACKLE_WIDTHS_MS = {"fine": ((0.5, 0.9), (4.0, 6.0)), "coarse": ((1.0, 1.5), (10.0, 12.0))}
WHEEZE_HZ = (100.0, 1000.0)  # fundamentals (CORSA)
WHEEZE_MIN_SECONDS = 0.08  # the shortest that is still heard as a wheeze (CORSA: 80 to 100 ms)
# Knee in Hz and fall in dB per octave of breath noise. Chest wall: 12.7 to 15.2 dB in inspiration,
# 13.4 to 20.3 in expiration (Gavriely et al., Thorax 50:1292, 1995), here above a knee near 200 Hz.
# Trachea: a sharp cut-off at 850 to 1600 Hz (Gavriely, Palti & Alroy, J Appl Physiol 50:307, 1981).
TRACHEA_BREATH = ((850, 1600), (18, 24))
CHEST_BREATH = {True: ((180, 260), (12.7, 15.2)), False: ((150, 220), (13.4, 20.3))}


@dataclass(frozen=True)
class Device:
    """A stethoscope or microphone, with the file format it records in.

    Its response is a band-pass (12 dB per octave at `low_hz`, 24 at `high_hz`) with a tilt around
    300 Hz. The numbers follow the instruments' families (contact microphone, amplified
    stethoscopes), not a calibration.
    """

    name: str
    mode: str
    rate_hz: int
    subtype: str
    share: float  # of the database's seconds
    low_hz: float
    high_hz: float
    tilt_db_per_octave: float
    floor_db: float  # its own white noise, relative to full scale


def coloured_noise(
    rng: np.random.Generator, samples: int, rate_hz: int, knee_hz: float, db_per_octave: float
) -> FloatArray:
    """Return Gaussian noise of rms 1, flat up to `knee_hz`, then falling by `db_per_octave`."""
    size = fft.next_fast_len(samples, real=True)
    bins = size // 2 + 1
    spectrum = rng.standard_normal(2 * bins, dtype=np.float32).view(np.complex64)
    octaves = np.log2(np.maximum(_frequencies(size, rate_hz), knee_hz) / knee_hz)
    shape = np.float32(10) ** (-db_per_octave / 20 * octaves).astype(np.float32)
    shape[0] = 0
    return _at_rms_1(fft.irfft(spectrum * shape, size)[:samples])


def breath(
    rng: np.random.Generator, samples: int, rate_hz: int, trachea: bool, inspiration: bool
) -> FloatArray:
    """Return noise of rms 1 with the spectrum of one breath phase."""
    knee_hz, db_per_octave = TRACHEA_BREATH if trachea else CHEST_BREATH[inspiration]
    return coloured_noise(rng, samples, rate_hz, rng.uniform(*knee_hz), rng.uniform(*db_per_octave))


def phase_envelope(rng: np.random.Generator, samples: int, inspiration: bool) -> FloatArray:
    """Return the loudness of one breath phase, 0 to 1.

    Sound follows flow, which peaks late in inspiration and early in expiration; the rest of an
    expiration is close to silent.
    """
    time = np.linspace(0, 1, samples, dtype=np.float32)
    peak = rng.uniform(0.45, 0.65) if inspiration else rng.uniform(0.2, 0.35)
    warped = time ** np.float32(np.log(0.5) / np.log(peak))
    return np.asarray(np.sin(np.pi * warped).clip(0) ** (0.8 if inspiration else 1.2), np.float32)


def crackle(
    rate_hz: float, width_ms: float, two_cycles_ms: float, delay: float = 0.0
) -> FloatArray:
    """Return a crackle of peak 1, from its initial deflection width and two-cycle duration.

    y(t) = m(t) sin(4 pi t^a), a = log(1/4) / log(width / two cycles), m(t) = (1 - cos(2 pi
    sqrt(t))) / 2, t in units of the two cycles: a damped oscillation that slows down (Kiyokawa et
    al., Chest 119:1886, 2001; the widths are defined in Hoevers & Loudon, Chest 98:1240, 1990).
    `delay` shifts it by a fraction of a sample.
    """
    seconds = two_cycles_ms / 1000
    time = (np.arange(1 + np.floor(seconds * rate_hz + delay)) - delay) / (rate_hz * seconds)
    time = time[(time > 0) & (time < 1)]
    exponent = np.log(0.25) / np.log(width_ms / two_cycles_ms)
    wave = np.sin(4 * np.pi * time**exponent) * (1 - np.cos(2 * np.pi * np.sqrt(time))) / 2
    return np.asarray(wave / max(np.abs(wave).max(initial=0), 1e-6), np.float32)


def wheeze(
    rng: np.random.Generator, rate_hz: int, seconds: float, fundamental_hz: float
) -> FloatArray:
    """Return a wheeze of rms 1: a tone with its harmonics, slowly modulated in pitch and level.

    `seconds` lie between the points of half amplitude; the waveform is up to 30 % longer.
    Sustained, sinusoidal, 100 to 1000 Hz with harmonics: Sovijärvi et al., Eur Respir Rev 10:591,
    2000.
    """
    edge = rng.uniform(0.1, 0.3) * seconds  # it neither begins nor ends at once
    time = np.arange(round((seconds + edge) * rate_hz)) / rate_hz
    glide, depth = rng.uniform(-0.12, 0.12), rng.uniform(0, 0.02)
    vibrato = depth * np.sin(2 * np.pi * rng.uniform(2, 5) * time + rng.uniform(0, 2 * np.pi))
    hertz = np.clip(fundamental_hz * (1 + glide * (time / time[-1] - 0.5) + vibrato), *WHEEZE_HZ)
    phase = 2 * np.pi * np.cumsum(hertz) / rate_hz
    decay_db = rng.uniform(8, 16)  # from one harmonic to the next
    tone = np.zeros(len(time))
    for harmonic in range(1, 6):
        if harmonic * hertz.max() < 0.45 * rate_hz:
            gain = 10 ** (-decay_db * (harmonic - 1) / 20)
            tone += gain * np.sin(harmonic * phase + rng.uniform(0, 2 * np.pi))
    tone *= np.minimum(1, np.minimum(time, time[-1] - time) / edge)
    tremor = rng.uniform(0, 0.3)
    angle = 2 * np.pi * rng.uniform(1, 4) * time + rng.uniform(0, 2 * np.pi)
    return _at_rms_1(tone * (1 + tremor * np.sin(angle)))


def heart(
    rng: np.random.Generator, samples: int, rate_hz: int, beats_per_minute: float
) -> FloatArray:
    """Return heart beats, the first sound of peak near 1: two thumps per beat, 20 to 150 Hz.

    S1 lasts about 0.12 s, S2 about 0.08 s, a little higher and softer (Rangayyan & Lehner, CRC Crit
    Rev Biomed Eng 15:211, 1988). Beats vary by 3 % as a resting pulse does.
    """
    beats = np.zeros(samples, np.float32)
    first = (0.0, 0.12, rng.uniform(35, 60), 1.0)
    second = (rng.uniform(0.28, 0.34), 0.08, rng.uniform(50, 90), 0.6)
    start, period = rng.uniform(0, 1), 60 / beats_per_minute
    while start * rate_hz < samples:
        for delay, seconds, hertz, gain in (first, second):
            time = np.arange(int(seconds * rate_hz), dtype=np.float32) / rate_hz
            window = np.sin(np.pi * time / seconds) ** 2
            thump = gain * window * np.sin(2 * np.pi * hertz * time)
            add_at(beats, thump, round((start + delay) * rate_hz))
        start += period * rng.normal(1, 0.03)
    return beats


def add_at(mix: FloatArray, sound: NDArray[np.floating], start: int) -> None:
    """Add `sound` to `mix` in place from sample `start`; leave out what lies past the end."""
    part = sound[: max(0, len(mix) - start)]
    mix[start : start + len(part)] += part.astype(np.float32)


def apply_device_response(device: Device, waveform: FloatArray) -> FloatArray:
    """Return the waveform [n] as the device records it, [n]."""
    size = fft.next_fast_len(len(waveform), real=True)
    hertz = np.maximum(_frequencies(size, device.rate_hz), 1)
    gain = (hertz / 300) ** (device.tilt_db_per_octave / (20 * np.log10(2)))
    gain /= (1 + (device.low_hz / hertz) ** 4) ** 0.5 * (1 + (hertz / device.high_hz) ** 8) ** 0.5
    gain = gain.astype(np.float32)
    return np.asarray(fft.irfft(fft.rfft(waveform, size) * gain, size)[: len(waveform)], np.float32)


def _at_rms_1(waveform: NDArray[np.floating]) -> FloatArray:
    return np.asarray(waveform / np.sqrt(np.mean(waveform**2)), np.float32)


def _frequencies(size: int, rate_hz: int) -> FloatArray:
    return np.arange(size // 2 + 1, dtype=np.float32) * np.float32(rate_hz / size)
