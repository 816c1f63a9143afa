"""Time stretching of a cycle's waveform."""

import librosa
import numpy as np
import soxr
from numpy.typing import NDArray

STRETCH_METHODS = ("phase_vocoder", "resample")
N_FFT = 2048  # samples of the phase vocoder's window: librosa's default


def time_stretch(waveform: NDArray[np.float32], rate: float, method: str) -> NDArray[np.float32]:
    """Play a waveform [n] `rate` times as fast: float32 [stretched_length(n, rate)].

    `phase_vocoder` keeps the pitch (librosa.effects.time_stretch), `resample` multiplies it by
    `rate` (soxr HQ). Nguyen & Pernkopf 2020, section III.B.1. Raises ValueError for an empty
    waveform, a rate that is not above 0 and an unknown method.
    """
    if not len(waveform) or not rate > 0:
        given = f"{len(waveform)} samples and rate {rate}"
        raise ValueError(f"Expected samples and a rate above 0, but got {given}")
    if method not in STRETCH_METHODS:
        raise ValueError(f"Expected `method` to be one of {STRETCH_METHODS}, but got {method!r}")
    length = stretched_length(len(waveform), rate)
    if method == "resample":
        stretched = soxr.resample(waveform, rate, 1.0, quality="HQ")
    else:
        # librosa adds up phases in the waveform's precision: float32 leaves noise at -20 dB in a
        # cycle of 16 s. It warns if a waveform is shorter than its window; the silence added here
        # is cut off again below.
        size = max(len(waveform), N_FFT)
        padded = librosa.util.fix_length(waveform.astype(np.float64), size=size)
        stretched = librosa.effects.time_stretch(padded, rate=rate, n_fft=N_FFT)
    return librosa.util.fix_length(stretched, size=length).astype(np.float32, copy=False)


def stretched_length(samples: int, rate: float) -> int:
    """Return the number of samples of a stretched waveform: round(n / rate), at least 1.

    Examples:
        >>> stretched_length(22_000, 1.1)
        20000
    """
    return max(1, round(samples / rate))
