"""A user's own recording, of any format that libsndfile reads: checked, then read in blocks."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import ArrayLike, NDArray

from lungsound.data.audio import BLOCK_FRAMES, UNKNOWN_FRAME_COUNT, mix_down
from lungsound.data.cycles import END_TOLERANCE_SECONDS
from lungsound.data.wav import check_rate, check_wav_format, is_open_size
from lungsound.errors import DataError

Blocks = Iterator[NDArray[np.float32]]
HEADER_BYTES = 2**16  # a WAV's format lies within, but for large tags before it
MAX_AMPLITUDE = 8.0  # floats may pass full scale a little; integers that became floats pass this
SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc"),
    *(".au", ".caf", ".w64", ".rf64"),
)
# libsndfile's log of a WAV or AIFF file whose audio is shorter than its header promises.
PROMISED_BYTES = re.compile(r"(?:data|SSND) : (\d+) \(should be (\d+)\)")


@dataclass(frozen=True, eq=False)
class Sound:
    """A recording that has been read once and has no fault; `note` is "" or for the user.

    `read` yields its samples from the start, mono, in blocks.
    """

    name: str
    rate_hz: int
    samples: int
    note: str
    read: Callable[[], Blocks]

    @property
    def seconds(self) -> float:
        return self.samples / self.rate_hz

    def samples_at(self, sample_rate: int) -> int:
        """Return the number of samples at `sample_rate` Hz; soxr rounds halves up."""
        return (2 * self.samples * sample_rate + self.rate_hz) // (2 * self.rate_hz)

    def span(self, start_seconds: float, end_seconds: float, sample_rate: int) -> tuple[int, int]:
        """Return the first sample of a cycle at `sample_rate` Hz, and the one after its last.

        As in `build_cycle_rows`. Raises DataError if the recording has no such cycle.
        """
        cycle = f"{self.name}: cycle from {start_seconds:g} to {end_seconds:g} s"
        if not 0 <= start_seconds < end_seconds < np.inf:
            raise DataError(f"{cycle}: expected 0 <= start < end in seconds")
        if end_seconds > self.seconds + END_TOLERANCE_SECONDS:
            raise DataError(f"{cycle}: expected an end before the audio's, at {self.seconds:.3f} s")
        end_seconds = min(end_seconds, self.seconds)
        total = self.samples_at(sample_rate)
        start, end = (min(round(s * sample_rate), total) for s in (start_seconds, end_seconds))
        if start >= end:
            raise DataError(f"{cycle}: expected a sample between them, but there is none")
        return start, end

    def blocks(self, sample_rate: int) -> Blocks:
        """Yield the samples at `sample_rate` Hz, equal to `resample` of the whole recording."""
        if sample_rate == self.rate_hz:
            yield from self.read()
            return
        stream = soxr.ResampleStream(self.rate_hz, sample_rate, 1, dtype="float32", quality="HQ")
        for block in self.read():
            yield stream.resample_chunk(block)
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def open_sound(path: Path) -> Sound:
    """Read a file once, in blocks, and check it.

    Raises DataError with the file and its fault if it is missing, no audio, empty, truncated,
    silent, has NaN or infinite samples, or a WAV's header that contradicts itself.
    """

    def read() -> Blocks:
        with path.open("rb") as content, soundfile.SoundFile(content) as file:
            while len(block := file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
                yield mix_down(block)[0]

    try:
        with path.open("rb") as content:
            start = content.read(HEADER_BYTES)
            if not start:
                raise ValueError("empty, 0 bytes, expected audio")
            notes = check_wav_format(start)
            content.seek(0)
            with soundfile.SoundFile(content) as file:
                rate_hz, promised, log = file.samplerate, file.frames, file.extra_info
                notes.append(mix_down(np.zeros((0, file.channels), np.float32))[1])
        check_rate(rate_hz)
        samples = _count_samples(read(), rate_hz)
        _check_length(samples, promised, log)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: headerless, such as .raw
        reason = getattr(error, "error_string", error)
        raise DataError(
            f"{path}: expected audio that libsndfile reads (wav, flac, ogg, mp3, aiff), but got: "
            f"{str(reason).rstrip('.')}. Get it again, or convert it to wav"
        ) from error
    return Sound(str(path), rate_hz, samples, "; ".join(filter(None, notes)), read)


def array_sound(waveform: ArrayLike, sample_rate: float) -> Sound:
    """Check a waveform [n], or [n, channels], of floats in [-1, 1]. Raises DataError."""
    try:
        if not isinstance(sample_rate, int | float | np.number) or sample_rate % 1 != 0:
            raise ValueError(f"expected a whole number of Hz, but got {sample_rate!r}")
        rate_hz = int(sample_rate)
        array = np.asarray(waveform)
        frames = array[:, None] if array.ndim == 1 else array
        if array.dtype.kind != "f" or frames.ndim != 2 or len(frames) < frames.shape[1] > 1:
            raise ValueError(
                "expected floats in [-1, 1], [samples] or [samples, channels], "
                f"but got {array.dtype} {list(array.shape)}"
            )
        check_rate(rate_hz)
        mono, note = mix_down(frames.astype(np.float32))
        samples = _count_samples(iter([mono]), rate_hz)
    except ValueError as error:
        raise DataError(f"waveform: {error}") from error
    return Sound("waveform", rate_hz, samples, note, lambda: iter([mono]))


def _count_samples(blocks: Blocks, rate_hz: int) -> int:
    """Return the number of samples. Raises ValueError if one is not finite, or all are equal."""
    count, low, high = 0, np.inf, -np.inf
    for block in blocks:
        bad = np.flatnonzero(~np.isfinite(block))
        if len(bad):
            raise ValueError(
                f"expected finite samples, but the one at {(count + bad[0]) / rate_hz:.3f} s is "
                f"{block[bad[0]]}: export the file again"
            )
        count += len(block)
        low, high = min(low, block.min(initial=low)), max(high, block.max(initial=high))
    if not count:
        raise ValueError("holds no audio: not one whole sample after its header")
    if max(-low, high) > MAX_AMPLITUDE:
        raise ValueError(
            f"expected samples in [-1, 1], but the largest is {max(-low, high):g}: divide them by "
            "their full scale"
        )
    if low == high:
        raise ValueError(f"silent: all its {count} samples are equal; was the microphone on?")
    return count


def _check_length(samples: int, promised: int, log: str) -> None:
    """Raise ValueError if the header promises more audio than is there, and does not leave it open.

    A WAV's or AIFF's header is corrected by libsndfile, which leaves a line in its log.
    """
    sizes: list[Any] = PROMISED_BYTES.findall(log)
    cut = any(int(size) > int(there) and not is_open_size(int(size)) for size, there in sizes)
    if cut or samples < promised < UNKNOWN_FRAME_COUNT:
        raise ValueError(
            f"truncated: its header promises more audio than the {samples} samples that are there: "
            "get it again, or convert it to wav"
        )
