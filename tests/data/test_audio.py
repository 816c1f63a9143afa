"""WAV and FLAC as they are met: good ones against soundfile and stdlib `wave`, bad ones refused
with a clear line.
"""

import io
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lungsound.data.audio import read_audio, resample
from lungsound.data.store import content_hash
from lungsound.errors import DataError

RATE_HZ = 4000
SAMPLES = np.round(12000 * np.sin(np.arange(800) / 7)).astype("<i2")
AUDIO = SAMPLES.tobytes()
FORMAT = struct.pack("<HHIIHH", 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
# Microsoft's GUID of plain PCM, as WAVE_FORMAT_EXTENSIBLE carries it.
PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
EXTENSIBLE = struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE_HZ, 2 * RATE_HZ, 2, 16, 22, 16, 4) + PCM_GUID


def chunk(name: bytes, content: bytes, size: int | None = None, padding: bool = True) -> bytes:
    length = len(content) if size is None else size
    return name + struct.pack("<I", length) + content + b"\0" * (padding and len(content) % 2)


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def written(folder: Path, content: bytes) -> Path:
    path = folder / "101_1b1_Al_sc_Meditron.wav"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        riff(chunk(b"fmt ", FORMAT), chunk(b"data", AUDIO)),
        riff(
            chunk(b"fmt ", FORMAT),
            chunk(b"LIST", b"INFOISFT"),
            chunk(b"data", AUDIO),
            chunk(b"LIST", b"INFO"),
        ),
        riff(chunk(b"JUNK", bytes(28)), chunk(b"fmt ", FORMAT), chunk(b"data", AUDIO)),
        riff(
            chunk(b"fmt ", EXTENSIBLE),
            chunk(b"fact", struct.pack("<I", 800)),
            chunk(b"data", AUDIO),
        ),
        riff(chunk(b"fmt ", FORMAT), chunk(b"LIST", b"INFOx"), chunk(b"data", AUDIO)),
        riff(
            chunk(b"fmt ", FORMAT), chunk(b"LIST", b"INFOx", padding=False), chunk(b"data", AUDIO)
        ),
        riff(chunk(b"fmt ", FORMAT), chunk(b"data", AUDIO), size=0),
        riff(chunk(b"fmt ", FORMAT), chunk(b"data", AUDIO)) + b"left over by some editor",
    ],
    ids=[
        "plain",
        "LIST",
        "JUNK",
        "extensible",
        "odd padded",
        "odd unpadded",
        "RIFF size 0",
        "trailing bytes",
    ],
)
def test_every_ordinary_header_gives_the_same_samples(tmp_path: Path, content: bytes) -> None:
    samples, rate_hz, note = read_audio(written(tmp_path, content))
    np.testing.assert_array_equal(samples, SAMPLES / np.float32(32768))
    assert samples.dtype == np.float32
    assert (rate_hz, note) == (RATE_HZ, "")


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_length_left_open_by_a_streaming_writer_takes_what_is_there(
    tmp_path: Path, size: int
) -> None:
    content = riff(chunk(b"fmt ", FORMAT), chunk(b"data", AUDIO, size=size))
    samples, _, note = read_audio(written(tmp_path, content))
    np.testing.assert_array_equal(samples, SAMPLES / np.float32(32768))
    assert "1600 bytes" in note


@pytest.mark.parametrize(
    ("subtype", "step"),
    [("PCM_16", 2**-15), ("PCM_24", 2**-23), ("PCM_32", 2**-24), ("FLOAT", 2**-24)],
)
def test_sample_formats_keep_their_resolution(tmp_path: Path, subtype: str, step: float) -> None:
    expected = np.sin(np.arange(3000) / 11) * 0.7
    path = tmp_path / "a.wav"
    soundfile.write(path, expected, 44100, subtype=subtype)
    samples, rate_hz, _ = read_audio(path)
    assert rate_hz == 44100
    np.testing.assert_allclose(samples, expected, rtol=0, atol=step)


def test_stereo_is_mixed_down_with_a_word(tmp_path: Path) -> None:
    left, right = np.full(500, 0.5), np.linspace(-0.5, 0.25, 500)
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([left, right], axis=1), RATE_HZ, subtype="FLOAT")
    samples, _, note = read_audio(path)
    np.testing.assert_allclose(samples, (left + right) / 2, atol=1e-7)
    assert note == "2 channels mixed down to one (their mean)"


def with_nan(values: list[float]) -> bytes:
    content = np.array(values, dtype="<f4").tobytes()
    return riff(
        chunk(b"fmt ", struct.pack("<HHIIHH", 3, 1, RATE_HZ, 4 * RATE_HZ, 4, 32)),
        chunk(b"data", content),
    )


WHOLE = riff(chunk(b"fmt ", FORMAT), chunk(b"data", AUDIO))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty, 0 bytes"),
        (b"RI", "not a WAV file"),
        (b"ID3\x04" + bytes(500), "not a WAV file: it begins with b'ID3"),
        (b"<html>404 not found</html>", "not a WAV file"),
        (WHOLE[:12], "header only"),
        (WHOLE[:30], "header only"),
        (WHOLE[:36], "header only: no 'data' chunk"),
        (WHOLE[:44], "header only: it promises 1600 bytes of audio, 0 are there"),
        (riff(chunk(b"fmt ", FORMAT), chunk(b"data", b"")), "header only: it promises 0 bytes"),
        (
            riff(chunk(b"fmt ", FORMAT), chunk(b"data", b""), chunk(b"LIST", b"INFO")),
            "header only: it promises 0 bytes",
        ),
        (riff(chunk(b"data", AUDIO)), "no whole 'fmt ' chunk"),
        (WHOLE[:-1], "truncated: its header promises 1600 bytes of audio, 1599 are there"),
        (WHOLE[:844], "truncated: its header promises 1600 bytes of audio, 800 are there"),
        (riff(chunk(b"fmt ", FORMAT), chunk(b"data", b"x")), "not one whole sample"),
        (
            riff(chunk(b"fmt ", FORMAT[:4] + bytes(4) + FORMAT[8:]), chunk(b"data", AUDIO)),
            "a rate from 1000 to 1000000 Hz, but got 0",
        ),
        (
            riff(chunk(b"fmt ", b"\x55\x01" + FORMAT[2:]), chunk(b"data", AUDIO)),
            "cannot be decoded",
        ),
        (
            with_nan([0.0, 0.5, float("nan"), float("nan")]),
            "2 of 4 samples are NaN or infinite, the first is sample 2",
        ),
        (
            with_nan([0.0, float("-inf")]),
            "1 of 2 samples are NaN or infinite, the first is sample 1",
        ),
    ],
)
def test_bad_file_is_refused_in_one_line_that_names_it(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError) as error:
        read_audio(path)
    assert str(error.value).startswith(f"{path.name}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def flac(samples: np.ndarray = SAMPLES, subtype: str = "PCM_16", rate_hz: int = RATE_HZ) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, subtype=subtype, format="FLAC")
    return buffer.getvalue()


def test_flac_gives_the_samples_of_the_wav_it_was_made_of(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(flac())
    samples, rate_hz, note = read_audio(tmp_path / "a.flac")
    np.testing.assert_array_equal(samples, SAMPLES / np.float32(32768))
    assert (samples.dtype, rate_hz, note) == (np.float32, RATE_HZ, "")
    wav, *_ = read_audio(written(tmp_path, WHOLE))
    assert content_hash(samples, rate_hz) == content_hash(wav, RATE_HZ)
    (tmp_path / "b.wav").write_bytes(flac())  # what it is, and not what it is called
    np.testing.assert_array_equal(read_audio(tmp_path / "b.wav")[0], samples)


@pytest.mark.parametrize(("subtype", "step"), [("PCM_16", 2**-15), ("PCM_24", 2**-23)])
def test_flac_keeps_its_resolution_and_mixes_down(
    tmp_path: Path, subtype: str, step: float
) -> None:
    left = np.sin(np.arange(3000) / 11) * 0.7
    both = np.stack([left, np.linspace(-0.5, 0.25, 3000)], axis=1)
    (tmp_path / "a.flac").write_bytes(flac(left, subtype, 44100))
    (tmp_path / "b.flac").write_bytes(flac(both, subtype, 44100))
    np.testing.assert_allclose(read_audio(tmp_path / "a.flac")[0], left, rtol=0, atol=step)
    samples, rate_hz, note = read_audio(tmp_path / "b.flac")
    np.testing.assert_allclose(samples, both.mean(axis=1), rtol=0, atol=step)
    assert (rate_hz, note) == (44100, "2 channels mixed down to one (their mean)")


@pytest.mark.parametrize("kept", [4, 8, 20, 41, 60, 200, 0.5, -20, -1])
def test_a_flac_that_breaks_off_is_refused(tmp_path: Path, kept: float) -> None:
    content = flac(np.random.default_rng(0).integers(-9000, 9000, 9000).astype("<i2"))
    cut = content[: int(kept * len(content)) if kept == 0.5 else int(kept)]
    path = tmp_path / "a.flac"
    path.write_bytes(cut)
    with pytest.raises(DataError, match=r"^a\.flac: (cannot be decoded: |truncated: )") as error:
        read_audio(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_a_flac_with_a_wrong_byte_is_refused(tmp_path: Path, place: float) -> None:
    content = bytearray(flac(np.random.default_rng(0).integers(-9000, 9000, 9000).astype("<i2")))
    content[int(place * len(content))] ^= 0x55
    path = tmp_path / "a.flac"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"^a\.flac: cannot be decoded: "):
        read_audio(path)


def test_a_flac_without_a_sample_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(flac(SAMPLES[:0]))
    with pytest.raises(DataError, match=r"^a\.flac: "):
        read_audio(tmp_path / "a.flac")


def test_real_flac_is_read_as_soundfile_reads_its_integers(real_data: Path) -> None:
    for path in sorted((real_data / "sprsound" / "test_wav").iterdir())[:3]:
        integers, expected_hz = soundfile.read(path, dtype="int16")
        samples, rate_hz, note = read_audio(path)
        assert (rate_hz, note) == (expected_hz, "") == (8000, "")
        np.testing.assert_array_equal(samples, integers / np.float32(32768))


def test_content_is_the_sound_and_its_rate() -> None:
    sound = np.linspace(-1, 1, 100, dtype=np.float32)
    assert content_hash(sound, 8000) == content_hash(sound.copy(), 8000)
    others = [content_hash(sound, 4000), content_hash(sound[:-1], 8000), content_hash(-sound, 8000)]
    assert len({content_hash(sound, 8000), *others}) == 4


def test_missing_file_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.wav: cannot be read: No such file"):
        read_audio(tmp_path / "gone.wav")


def test_real_recordings_are_read_as_stdlib_wave_reads_them(real_data: Path) -> None:
    widths = set()
    for path in sorted((real_data / "icbhi").rglob("*.wav"))[:8]:
        with wave.open(str(path)) as file:
            width, rate, frames = (
                file.getsampwidth(),
                file.getframerate(),
                file.readframes(file.getnframes()),
            )
        low_bytes = np.frombuffer(frames, np.uint8).reshape(-1, width)
        padded = np.concatenate(
            [np.zeros((len(low_bytes), 4 - width), np.uint8), low_bytes], axis=1
        )
        expected = padded.view("<i4")[:, 0] / 2**31
        samples, rate_hz, note = read_audio(path)
        assert (rate_hz, note) == (rate, "")
        np.testing.assert_array_equal(samples, expected.astype(np.float32))
        widths.add((rate, 8 * width))
    assert widths == {(44100, 24), (44100, 16), (4000, 16)}


def test_resampling_keeps_a_tone_and_drops_what_the_new_rate_cannot_hold() -> None:
    seconds = np.arange(2 * 44100) / 44100
    kept, dropped = np.sin(2 * np.pi * 1000 * seconds), np.sin(2 * np.pi * 15000 * seconds)
    resampled = resample((kept + dropped).astype(np.float32), 44100, 22000)
    assert len(resampled) == 2 * 22000
    assert resampled.dtype == np.float32
    expected = np.sin(2 * np.pi * 1000 * np.arange(2 * 22000) / 22000)
    np.testing.assert_allclose(resampled[1000:-1000], expected[1000:-1000], atol=1e-4)


def test_resampling_to_the_same_rate_changes_nothing() -> None:
    samples = np.linspace(-1, 1, 100, dtype=np.float32)
    np.testing.assert_array_equal(resample(samples, 4000, 4000), samples)


@pytest.mark.parametrize("promised", [0, 2**36 - 1])
def test_a_flac_of_unknown_or_absurd_length_is_refused_with_what_to_do(
    tmp_path: Path, promised: int
) -> None:
    """The last 36 bits before the checksum in STREAMINFO, which follows `fLaC` and a block header
    of 4 bytes.
    """
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros(4000), 4000, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[21] = (content[21] & 0xF0) | (promised >> 32)
    content[22:26] = (promised & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"a.flac: .*(leaves the length open|truncated|cannot be decoded)"
    ):
        read_audio(path)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_rate_that_would_make_gigabytes_is_refused(tmp_path: Path, suffix: str) -> None:
    """Half an hour at 1 Hz would be 40 million samples at 22 kHz."""
    path = tmp_path / f"101_1b1_Al_sc_Meditron{suffix}"
    soundfile.write(path, np.zeros(1800), 1, subtype="PCM_16")
    with pytest.raises(DataError, match=r"expected a rate from 1000 to 1000000 Hz, but got 1$"):
        read_audio(path)
