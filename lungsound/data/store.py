"""The waveform store: all recordings decoded and resampled once, in one memory-mapped file."""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, get_origin, get_type_hints

import numpy as np
import soundfile
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from lungsound.data.audio import constant_stretches, read_audio, resample
from lungsound.data.recordings import Recording
from lungsound.errors import CorruptFileError, DataError
from lungsound.storage.files import (
    corrupt_file_on_error,
    is_intact_folder,
    quarantine_mismatched,
    read_file,
    storage_error,
    write_checksums,
    write_stream,
)
from lungsound.storage.keys import canonical_json, content_key
from lungsound.storage.locks import file_lock

# Increase it if the content for the same recordings changes: older stores are then ignored.
FORMAT_VERSION = 3
WAVEFORMS, INDEX = "waveforms.f32", "index.json"
MIN_SILENCE_SECONDS = 0.020


class StoredRecording(TypedDict):
    """Position of a recording's samples in the store, its original length and rate, its faults."""

    offset: int  # first sample, in the store's samples
    samples: int  # at the store's rate
    seconds: float  # of the audio file
    rate_hz: int  # of the audio file
    content: str  # a hash of the decoded samples, whatever the file's name and format
    silence: list[int]  # start, end, ... of stretches of equal samples, in the audio file's samples
    note: str
    problem: str  # "" or why it could not be read; then samples is 0


ENTRY_TYPES = {
    name: get_origin(one) or one for name, one in get_type_hints(StoredRecording).items()
}


@dataclass(eq=False)
class WaveformStore:
    """Resampled mono waveforms, one after the other; cheap to pickle for DataLoader workers."""

    folder: Path
    fingerprint: str
    sample_rate: int
    recordings: dict[str, StoredRecording]
    _samples: np.memmap | None = field(default=None, repr=False)

    @property
    def samples(self) -> np.memmap:
        """All samples, float32 [n], read-only; mapped on first use in each process."""
        if self._samples is None:
            self._samples = np.memmap(self.folder / WAVEFORMS, dtype="<f4", mode="r")
        return self._samples

    def __getstate__(self) -> dict[str, Any]:
        # A pickled memmap is a copy of all it maps: each worker would receive the whole database.
        return {**self.__dict__, "_samples": None}


def open_waveform_store(
    recordings: Sequence[Recording], sample_rate: int, store_dir: Path
) -> WaveformStore:
    """Open the waveforms of `recordings` at `sample_rate` Hz in `store_dir`; decode them if needed.

    If two processes open it, one builds it. A recording that cannot be read is in the index with
    its problem. Raises StorageError if the store cannot be written.
    """
    recordings = sorted(recordings, key=lambda recording: recording.name)
    sounds = [[recording.name, _file_sha256(recording.audio)] for recording in recordings]
    fingerprint = content_key([FORMAT_VERSION, sounds])
    folder = Path(store_dir).absolute() / "waveforms" / f"{fingerprint}-{sample_rate}"
    try:
        index = _read_index(folder, recordings) or _build(recordings, sample_rate, folder)
    except OSError as error:
        raise storage_error(folder, _estimate_bytes(recordings, sample_rate), error) from error
    return WaveformStore(folder, fingerprint, sample_rate, index)


def _estimate_bytes(recordings: Sequence[Recording], sample_rate: int) -> int:
    """Estimate the size of the store from the headers of the audio files."""
    seconds = 0.0
    for recording in recordings:
        with contextlib.suppress(soundfile.LibsndfileError):  # an unreadable one takes no space
            seconds += soundfile.info(recording.audio).duration
    return 4 * round(seconds * sample_rate)


def _file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _read_index(folder: Path, recordings: Sequence[Recording]) -> dict[str, StoredRecording] | None:
    """Return the index of a complete store; None if there is none, or a file of it is corrupt."""
    if not is_intact_folder(folder):
        return None
    try:
        content = read_file(folder / INDEX)
        with corrupt_file_on_error(folder / INDEX):
            index: dict[str, StoredRecording] = json.loads(content)
            _check_index(index, recordings, (folder / WAVEFORMS).stat().st_size)
    except (FileNotFoundError, CorruptFileError):
        return None  # missing: another process has just quarantined it
    return index


def _check_index(
    index: dict[str, StoredRecording], recordings: Sequence[Recording], size: int
) -> None:
    """Raise ValueError unless `index` has `recordings`, one after the other, in `size` bytes."""
    offset = 0
    for recording, (name, entry) in zip(recordings, index.items(), strict=True):
        types = {key: type(value) for key, value in entry.items()}
        if name != recording.name or types != ENTRY_TYPES:
            raise ValueError(f"{name}: expected {', '.join(ENTRY_TYPES)}")
        is_sane = entry["samples"] >= 0 and 0 <= entry["seconds"] < math.inf
        if entry["offset"] != offset or not is_sane or (entry["problem"] and entry["samples"]):
            raise ValueError(f"{name}: expected its samples from {offset} on")
        offset += entry["samples"]
    if 4 * offset != size:
        raise ValueError(f"expected {4 * offset} bytes of samples, but got {size}")


def _build(
    recordings: Sequence[Recording], sample_rate: int, folder: Path
) -> dict[str, StoredRecording]:
    """Decode all recordings; write SHA256SUMS last, which makes the store complete."""
    with file_lock(folder.with_name(folder.name + ".lock"), folder):
        if index := _read_index(folder, recordings):  # another process was faster
            return index
        quarantine_mismatched(folder)
        index = {}
        waveforms = _decode_all(recordings, sample_rate, index)
        size = _estimate_bytes(recordings, sample_rate)
        digests = {WAVEFORMS: write_stream(folder / WAVEFORMS, waveforms, size)}
        digests[INDEX] = write_stream(folder / INDEX, [canonical_json(index)])
        write_checksums(folder, digests)
    return index


def _decode_all(
    recordings: Sequence[Recording], sample_rate: int, index: dict[str, StoredRecording]
) -> Iterator[bytes]:
    """Yield the waveforms as bytes; add each recording's entry to `index`."""
    offset = 0
    for recording in track(
        recordings, f"Decoding to {sample_rate} Hz", console=Console(stderr=True)
    ):
        samples, entry = decode(recording.audio)
        if entry["rate_hz"]:
            samples = resample(samples, entry["rate_hz"], sample_rate)
        index[recording.name] = {**entry, "offset": offset, "samples": len(samples)}
        offset += len(samples)
        yield samples.astype("<f4").tobytes()


def decode(audio: Path) -> tuple[NDArray[np.float32], StoredRecording]:
    """Return a file's samples [n] and their entry, at the file's own rate and offset 0.

    A file that cannot be read has no samples, a rate of 0 and a problem.
    """
    samples, rate_hz, note, problem = np.zeros(0, np.float32), 0, "", ""
    try:
        samples, rate_hz, note = read_audio(audio)
    except DataError as error:
        problem = str(error)
    return samples, {
        "offset": 0,
        "samples": len(samples),
        "seconds": len(samples) / rate_hz if rate_hz else 0.0,
        "rate_hz": rate_hz,
        "content": content_hash(samples, rate_hz),
        "silence": constant_stretches(samples, round(MIN_SILENCE_SECONDS * rate_hz)),
        "note": note,
        "problem": problem,
    }


def content_hash(samples: NDArray[np.float32], rate_hz: int) -> str:
    """Return 16 hex digits, equal for equal samples, whatever the file's name and format."""
    content = str(rate_hz).encode() + samples.astype("<f4", copy=False).tobytes()
    return hashlib.sha256(content).hexdigest()[:16]
