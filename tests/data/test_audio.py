"""WAV and FLAC: good files against soundfile and stdlib `wave`, bad ones refused in one line."""

import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.audio import RATE_HZ, SAMPLES, chunk, encode, riff

from lungsound.data.audio import read_audio, resample
from lungsound.data.store import content_hash
from lungsound.errors import DataError


def read(folder: Path, content: bytes, name: str = "a.wav") -> tuple[np.ndarray, int, str]:
    (folder / name).write_bytes(content)
    return read_audio(folder / name)


@pytest.mark.parametrize(
    ("kind", "subtype", "step"),
    [
        ("WAV", "PCM_16", 2**-15),
        ("WAV", "PCM_24", 2**-23),
        ("WAV", "PCM_32", 2**-24),
        ("WAV", "FLOAT", 2**-24),
        ("FLAC", "PCM_16", 2**-15),
        ("FLAC", "PCM_24", 2**-23),
    ],
)
def test_formats_keep_their_resolution_and_mix_down(
    tmp_path: Path, kind: str, subtype: str, step: float
) -> None:
    left = np.sin(np.arange(3000) / 11) * 0.7
    both = np.stack([left, np.linspace(-0.5, 0.25, 3000)], axis=1)
    samples, rate_hz, note = read(tmp_path, encode(left, kind, subtype, 44100))
    np.testing.assert_allclose(samples, left, rtol=0, atol=step)
    assert (rate_hz, note) == (44100, "")
    samples, _, note = read(tmp_path, encode(both, kind, subtype, 44100))
    np.testing.assert_allclose(samples, both.mean(axis=1), rtol=0, atol=1.5 * step)
    assert note == "2 channels mixed down to one (their mean)"


def floats(*values: float) -> bytes:
    header = struct.pack("<HHIIHH", 3, 1, RATE_HZ, 4 * RATE_HZ, 4, 32)
    return riff(chunk(b"fmt ", header), chunk(b"data", np.array(values, "<f4").tobytes()))


NOISE = encode(np.random.default_rng(0).integers(-9000, 9000, 9000).astype("<i2"), "FLAC", "PCM_16")
SLOW = np.zeros(1800)  # half an hour at 1 Hz: 40 million samples at 22 kHz
RATE_RANGE = "a rate from 1000 to 1000000 Hz, but got"


def flip_byte(share: float) -> bytes:
    content = bytearray(NOISE)
    content[int(share * len(content))] ^= 0x55
    return bytes(content)


def promise_frames(count: int) -> bytes:
    """A FLAC file whose STREAMINFO has another number of frames: 36 bits from byte 21 on."""
    content = bytearray(NOISE)
    content[21] = (content[21] & 0xF0) | (count >> 32)
    content[22:26] = (count & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            floats(0, 0.5, np.nan, np.nan),
            "2 of 4 samples are NaN or infinite, the first is sample 2",
        ),
        (floats(0, -np.inf), "1 of 2 samples are NaN or infinite, the first is sample 1"),
        (encode(SLOW, "WAV", "PCM_16", 1), f"{RATE_RANGE} 1"),
        (encode(SLOW, "FLAC", "PCM_16", 1), f"{RATE_RANGE} 1"),
        (encode(SAMPLES[:0], "FLAC", "PCM_16"), ""),
        *((NOISE[:length], "") for length in (4, 8, 20, 41, 60, 200, len(NOISE) // 2, -20, -1)),
        *((flip_byte(share), "cannot be decoded: ") for share in (0.2, 0.5, 0.9)),
        (2 * NOISE, "two FLAC files in one"),
        (promise_frames(0), "leaves the length open: encode the file again"),
        (promise_frames(2**36 - 1), ""),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_bad_file_is_refused_in_one_line_with_its_name(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "101_1b1_Al_sc_Meditron.wav"
    with pytest.raises(DataError) as error:
        read_audio(path) if content is None else read(tmp_path, content, path.name)
    assert str(error.value).startswith(f"{path.name}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_real_flac_is_read_as_soundfile_reads_its_integers(real_data: Path) -> None:
    for path in sorted((real_data / "sprsound" / "test_wav").iterdir())[:3]:
        integers, expected_hz = soundfile.read(path, dtype="int16")
        samples, rate_hz, note = read_audio(path)
        assert (rate_hz, note) == (expected_hz, "") == (8000, "")
        np.testing.assert_array_equal(samples, integers / np.float32(32768))


def test_real_wav_is_read_as_stdlib_wave_reads_it(real_data: Path) -> None:
    formats = set()
    for path in sorted((real_data / "icbhi").rglob("*.wav"))[:8]:
        with wave.open(str(path)) as file:
            width, rate = file.getsampwidth(), file.getframerate()
            frames = file.readframes(file.getnframes())
        low_bytes = np.frombuffer(frames, np.uint8).reshape(-1, width)
        padded = np.pad(low_bytes, ((0, 0), (4 - width, 0)))
        expected = padded.view("<i4")[:, 0] / 2**31
        samples, rate_hz, note = read_audio(path)
        assert (rate_hz, note) == (rate, "")
        np.testing.assert_array_equal(samples, expected.astype(np.float32))
        formats.add((rate, 8 * width))
    assert formats == {(44100, 24), (44100, 16), (4000, 16)}


def test_content_is_the_sound_and_its_rate() -> None:
    sound = np.linspace(-1, 1, 100, dtype=np.float32)
    assert content_hash(sound, 8000) == content_hash(sound.copy(), 8000)
    others = [content_hash(sound, 4000), content_hash(sound[:-1], 8000), content_hash(-sound, 8000)]
    assert len({content_hash(sound, 8000), *others}) == 4


def test_resampling_keeps_a_tone_and_drops_what_the_new_rate_cannot_hold() -> None:
    seconds = np.arange(2 * 44100) / 44100
    kept, dropped = np.sin(2 * np.pi * 1000 * seconds), np.sin(2 * np.pi * 15000 * seconds)
    samples = (kept + dropped).astype(np.float32)
    resampled = resample(samples, 44100, 22000)
    assert (len(resampled), resampled.dtype) == (2 * 22000, np.float32)
    expected = np.sin(2 * np.pi * 1000 * np.arange(2 * 22000) / 22000)
    np.testing.assert_allclose(resampled[1000:-1000], expected[1000:-1000], atol=1e-4)
    np.testing.assert_array_equal(resample(samples, 4000, 4000), samples)
