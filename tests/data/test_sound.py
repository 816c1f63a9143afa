"""Recordings of one's own: libsndfile's formats in blocks, and one sentence for each fault."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from support.audio import encode

from lungsound.data import sound
from lungsound.data.sound import array_sound, open_sound
from lungsound.errors import DataError

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 30_011)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks for a short recording."""
    monkeypatch.setattr(sound, "BLOCK_FRAMES", 777)


def written(folder: Path, samples: np.ndarray, rate_hz: int = 4000, **how: str) -> Path:
    path = folder / "breath.wav"
    soundfile.write(path, samples, rate_hz, **{"format": "WAV", "subtype": "FLOAT", **how})
    return path


@pytest.mark.parametrize("rate_hz", [1000, 4000, 22_000, 44_100, 48_000])
def test_blocks_are_the_whole_recording_resampled(tmp_path: Path, rate_hz: int) -> None:
    opened = open_sound(written(tmp_path, NOISE, rate_hz))
    expected = soxr.resample(NOISE.astype(np.float32), rate_hz, 22_000, quality="HQ")
    found = np.concatenate(list(opened.blocks(22_000)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert (opened.samples_at(22_000), opened.note) == (len(expected), "")


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("WAV", "PCM_24"), ("FLAC", "PCM_16"), ("AIFF", "PCM_16"), ("OGG", "VORBIS"),
     ("MP3", "MPEG_LAYER_III")],
)  # fmt: skip
def test_formats_and_channels(tmp_path: Path, kind: str, subtype: str) -> None:
    both = np.stack([NOISE, np.roll(NOISE, 5)], axis=1)
    path = written(tmp_path, both, 8000, format=kind, subtype=subtype)
    opened = open_sound(path)
    expected = soundfile.read(path, dtype="float32")[0].mean(axis=1)
    np.testing.assert_allclose(np.concatenate(list(opened.read())), expected, rtol=0, atol=1e-6)
    assert (opened.rate_hz, opened.samples) == (8000, len(expected))
    assert opened.note == "2 channels mixed down to one (their mean)"


def spoiled(value: float) -> np.ndarray:
    return np.where(np.arange(len(NOISE)) == 20_000, value, NOISE)


def content(kind: str, share: float = 1.0) -> bytes:
    subtype = "MPEG_LAYER_III" if kind == "MP3" else "PCM_16"
    whole = encode(NOISE, kind, subtype, 8000)
    return whole[: int(share * len(whole))]


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (None, "cannot be read: No such file"),
        (b"", "empty, 0 bytes"),
        (b"not audio", r"expected audio that libsndfile reads .* Get it again"),
        (content("WAV", 0.5), "truncated: its header promises more audio than the 14994 samples"),
        (content("AIFF", 0.5), "truncated"),
        (content("MP3", 0.5), "truncated"),
        (content("FLAC", 0.5), "flac decoder lost sync"),
        (encode(NOISE[:0], "WAV", "PCM_16", 8000), "holds no audio"),
        (encode(NOISE * 0, "WAV", "PCM_16", 8000), "silent: all its 30011 samples are equal"),
        (encode(NOISE, "WAV", "PCM_16", 999), "a rate from 1000 to 1000000 Hz, but got 999"),
        (
            content("WAV").replace(
                struct.pack("<IHH", 16000, 2, 16), struct.pack("<IHH", 1, 2, 16)
            ),
            "contradicts itself: 1 x 16 bits at 8000 Hz are 2 bytes per sample",
        ),
        (encode(spoiled(np.nan), "WAV", "FLOAT", 8000), "the one at 2.500 s is nan"),
        (encode(spoiled(np.inf), "WAV", "FLOAT", 8000), "the one at 2.500 s is inf"),
        (encode(NOISE * 32768, "WAV", "FLOAT", 8000), r"in \[-1, 1\], but the largest is 163"),
    ],
)
def test_a_fault_is_named_with_the_file(tmp_path: Path, given: bytes | None, fault: str) -> None:
    path = tmp_path / "breath.wav"
    if given is not None:
        path.write_bytes(given)
    with pytest.raises(DataError, match=rf"^{path}: .*{fault}") as error:
        open_sound(path)
    assert "\n" not in str(error.value)


def test_an_open_length_is_no_truncation(tmp_path: Path) -> None:
    """A recorder that writes to a pipe leaves the size of the audio open."""
    whole = bytearray(content("WAV"))
    whole[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "breath.wav").write_bytes(whole)
    assert open_sound(tmp_path / "breath.wav").samples == len(NOISE)


@pytest.mark.parametrize(
    ("waveform", "rate_hz", "fault"),
    [
        (np.arange(100), 4000, r"expected floats in \[-1, 1\].* but got int64 \[100\]"),
        (np.zeros((2, 3, 4)), 4000, r"but got float64 \[2, 3, 4\]"),
        (np.float64(1), 4000, r"but got float64 \[\]"),
        (NOISE.reshape(1, -1), 4000, r"\[samples, channels\], but got float64 \[1, 30011\]"),
        (NOISE, 10, "a rate from 1000"),
        (spoiled(np.nan), 4000, "is nan"),
        (NOISE[:0], 4000, "holds no audio"),
    ],
)
def test_a_waveform_that_cannot_be_used(waveform: np.ndarray, rate_hz: int, fault: str) -> None:
    with pytest.raises(DataError, match=f"^waveform: .*{fault}"):
        array_sound(waveform, rate_hz)


@pytest.mark.parametrize(
    ("cycle", "fault"),
    [
        ((-0.1, 1.0), "expected 0 <= start < end"),
        ((1.0, 1.0), "expected 0 <= start < end"),
        ((0.0, np.nan), "expected 0 <= start < end"),
        ((7.0, 7.6), r"an end before the audio's, at 7\.503 s"),
        ((1.0, 1.00001), "a sample between them"),
    ],
)
def test_a_cycle_that_the_recording_lacks(cycle: tuple[float, float], fault: str) -> None:
    with pytest.raises(DataError, match=f"^waveform: cycle from .*{fault}"):
        array_sound(NOISE, 4000).span(*cycle, 4000)


def test_a_cycle_may_end_a_little_late() -> None:
    assert array_sound(NOISE, 4000).span(7.25, 7.55, 4000) == (29_000, 30_011)
