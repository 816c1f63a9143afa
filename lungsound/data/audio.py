"""WAV and FLAC files -> mono float32 samples, at the requested rate.

soundfile does not report damage: it reads a truncated file as a shorter one, and a file without
samples as 0 frames. Therefore the size in the header is compared with that of the file first.
"""

import io
import struct
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from lungsound.data.readers.files import read_content
from lungsound.errors import DataError

FLAC = b"fLaC"
MIN_RATE_HZ, MAX_RATE_HZ = 1000, 1_000_000
BLOCK_FRAMES = 2**18  # samples of each channel
UNKNOWN_FRAME_COUNT = 2**63 - 1  # libsndfile returns it if the header does not give the length
# Written by programs that stream to a pipe and cannot go back to fill in the size.
STREAMING_SIZES = (0, 0xFFFFFFFF)
# Chunk names that may follow an odd chunk whose writer forgot the padding byte.
KNOWN_RIFF_IDS = (b"fmt ", b"data", b"fact", b"LIST")


def read_audio(path: Path) -> tuple[NDArray[np.float32], int, str]:
    """Return the samples [n] of a WAV or FLAC file as mono, its rate in Hz, and a note or "".

    16-bit, 24-bit and 32-bit integers are scaled to [-1, 1); floats are taken as they are. Raises
    DataError with the file and its fault if it is empty, truncated, only a header, of neither
    format, or has NaN or infinite samples.
    """
    path = Path(path)
    notes: list[str] = []
    try:
        content = read_content(path)
        if not content.startswith(FLAC):
            content, notes = _repair_wav(content)
        samples, rate_hz = _decode(content)
    except ValueError as error:
        raise DataError(f"{path.name}: {error}") from error
    channels = samples.shape[1]
    if channels == 1:
        return samples[:, 0], rate_hz, "; ".join(notes)
    notes.append(f"{channels} channels mixed down to one (their mean)")
    return samples.mean(axis=1, dtype=np.float32), rate_hz, "; ".join(notes)


def resample(samples: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Resample [n] to [round(n * to_hz / from_hz)] by soxr's HQ recipe."""
    if from_hz == to_hz:
        return samples
    resampled: NDArray[np.float32] = soxr.resample(samples, from_hz, to_hz, quality="HQ")
    return resampled


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
    _check_rate(rate_hz)
    _check_finite(samples, rate_hz)
    return samples, rate_hz


def _check_rate(rate_hz: int) -> None:
    """Raise ValueError for a rate out of range: resampled from 1 Hz, a file fills the memory."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise ValueError(
            f"damaged header: expected a rate from {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, "
            f"but got {rate_hz}"
        )


def _check_finite(samples: NDArray[np.float32], rate_hz: int) -> None:
    bad = np.flatnonzero(~np.isfinite(samples).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(samples)} samples are NaN or infinite, the first is sample "
            f"{bad[0]} ({bad[0] / rate_hz:.3f} s): {samples[bad[0]].tolist()}"
        )


def _repair_wav(content: bytes) -> tuple[bytes, list[str]]:
    """Rebuild a WAV from its format and audio; return it and notes. Raises ValueError."""
    chunks = _checked_chunks(content)
    start, promised = chunks[b"data"]
    available = len(content) - start
    notes = []
    # Chunks instead of audio may follow a size of 0.
    following = _index_riff_chunks(content, start + promised).keys()
    is_last = not following or bool(following - set(KNOWN_RIFF_IDS))
    if promised in STREAMING_SIZES and available and is_last:
        notes.append(
            f"its header leaves the length open ({promised:#x}): all {available} bytes after it "
            "are taken as audio"
        )
        promised = available
    if not promised or promised > available:
        fault = "truncated: its header" if promised and available else "header only: it"
        raise ValueError(f"{fault} promises {promised} bytes of audio, {available} are there")
    chunks[b"data"] = (start, promised)
    body = b"WAVE"
    for name in (b"fmt ", b"fact", b"data"):
        if name in chunks:
            start, size = chunks[name]
            body += struct.pack("<4sI", name, size) + content[start : start + size]
            body += b"\0" * (size % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body, notes


def _checked_chunks(content: bytes) -> dict[bytes, tuple[int, int]]:
    """Index the chunks of a WAV file. Raises ValueError without usable format and data chunks."""
    size = len(content)
    if not content:
        raise ValueError("empty, 0 bytes, expected a WAV or FLAC file")
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        start = content[:12]
        raise ValueError(f"not a WAV file: it begins with {start!r}, expected b'RIFF....WAVE'")
    chunks = _index_riff_chunks(content)
    if b"fmt " not in chunks or chunks[b"fmt "][1] < 16 or sum(chunks[b"fmt "]) > size:
        raise ValueError(f"header only or damaged: no whole 'fmt ' chunk in its {size} bytes")
    if b"data" not in chunks:
        raise ValueError(f"header only: no 'data' chunk in its {size} bytes")
    _check_rate(*struct.unpack_from("<I", content, chunks[b"fmt "][0] + 4))
    return chunks


def _index_riff_chunks(content: bytes, offset: int = 12) -> dict[bytes, tuple[int, int]]:
    """Return chunk name -> (start, size) of the content of the first chunk of that name."""
    chunks: dict[bytes, tuple[int, int]] = {}
    while offset + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, offset)
        chunks.setdefault(name, (offset + 8, size))
        end = offset + 8 + size
        offset = end if content[end : end + 4] in KNOWN_RIFF_IDS else end + size % 2
    return chunks
