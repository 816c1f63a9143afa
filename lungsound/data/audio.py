"""WAV and FLAC files -> mono float32 samples, at the requested rate.

soundfile does not report damage: it reads a truncated file as a shorter one, and a file without
samples as 0 frames. Therefore a WAV's header is compared with its bytes first: see wav.py.
"""

import io
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from lungsound.data.readers.files import read_content
from lungsound.data.wav import check_rate, rebuild_wav
from lungsound.errors import DataError

FLAC = b"fLaC"
FLAC_START = FLAC + b"\0\0\0\x22"  # and the head of its first block, the format
BLOCK_FRAMES = 2**18  # samples of each channel
UNKNOWN_FRAME_COUNT = 2**63 - 1  # libsndfile returns it if the header does not give the length


def read_audio(path: Path) -> tuple[NDArray[np.float32], int, str]:
    """Return the samples [n] of a WAV or FLAC file as mono, its rate in Hz, and a note or "".

    16-bit, 24-bit and 32-bit integers are scaled to [-1, 1); floats are taken as they are. Raises
    DataError with the file and its fault if it is empty, truncated, only a header, of neither
    format, or has NaN or infinite samples.
    """
    path = Path(path)
    notes: list[str] = []
    try:
        content = _skip_tag(read_content(path))
        if not content.startswith(FLAC):
            content, notes = rebuild_wav(content)
        elif content.find(FLAC_START, 1) > 0:
            raise ValueError("two FLAC files in one: expected one")
        samples, rate_hz = _decode(content)
    except ValueError as error:
        raise DataError(f"{path.name}: {error}") from error
    mono, note = mix_down(samples)
    return mono, rate_hz, "; ".join([*notes, note] if note else notes)


def mix_down(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], str]:
    """Return the mean of the channels [n] of samples [n, channels], and a note or ""."""
    channels = samples.shape[1]
    if channels == 1:
        return samples[:, 0], ""
    note = f"{channels} channels mixed down to one (their mean)"
    return samples.mean(axis=1, dtype=np.float32), note


def resample(samples: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Resample [n] to [round(n * to_hz / from_hz)] by soxr's HQ recipe."""
    if from_hz == to_hz:
        return samples
    resampled: NDArray[np.float32] = soxr.resample(samples, from_hz, to_hz, quality="HQ")
    return resampled


def constant_stretches(samples: NDArray[np.float32], min_samples: int) -> list[int]:
    """Return start, end, start, end, ... of the stretches of equal samples in [n]."""
    edges = np.flatnonzero(np.diff(samples, prepend=np.nan, append=np.nan))
    is_long = np.diff(edges) >= min_samples
    stretches = np.stack([edges[:-1], edges[1:]], axis=1)[is_long]
    return [int(edge) for edge in stretches.ravel()]


def _skip_tag(content: bytes) -> bytes:
    """Return a FLAC file without the ID3 tag that a music player puts before it."""
    sizes = zip(content[6:10], (21, 14, 7, 0), strict=False)  # 7 bits of each byte
    flac = content[10 + sum(byte << shift for byte, shift in sizes) :]
    return flac if content.startswith(b"ID3") and flac.startswith(FLAC) else content


def _decode(content: bytes) -> tuple[NDArray[np.float32], int]:
    """Return samples [n, channels] and rate of a file. Raises ValueError with its fault."""
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            declared, rate_hz = file.frames, file.samplerate
            if declared == UNKNOWN_FRAME_COUNT:
                raise ValueError("its header leaves the length open: encode the file again")
            # In blocks: in one call soundfile would allocate whatever length the header has.
            blocks = [np.zeros((0, file.channels), np.float32)]
            while len(block := file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
                blocks.append(block)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"cannot be decoded: {error.error_string}") from error
    samples = np.concatenate(blocks)
    if len(samples) != declared:
        raise ValueError(
            f"truncated: its header promises {declared} samples of audio, {len(samples)} are there"
        )
    if not declared:
        raise ValueError("holds no audio: not one whole sample after its header")
    check_rate(rate_hz)
    _check_finite(samples, rate_hz)
    return samples, rate_hz


def _check_finite(samples: NDArray[np.float32], rate_hz: int) -> None:
    bad = np.flatnonzero(~np.isfinite(samples).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(samples)} samples are NaN or infinite, the first is sample "
            f"{bad[0]} ({bad[0] / rate_hz:.3f} s): {samples[bad[0]].tolist()}"
        )
