"""WAV headers: every byte is accounted for, or the file is refused."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.audio import AUDIO, EXPECTED, RATE_HZ, SAMPLES, chunk, encode, fmt, riff

from lungsound.data.audio import read_audio
from lungsound.data.store import content_hash
from lungsound.errors import DataError

# Microsoft's GUID of plain PCM, as WAVE_FORMAT_EXTENSIBLE carries it.
PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
EXTENSIBLE = struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE_HZ, 2 * RATE_HZ, 2, 16, 22, 16, 4) + PCM_GUID
FMT, DATA = fmt(), chunk(b"data", AUDIO)
WHOLE = riff(FMT, DATA)
FACT, LIST = chunk(b"fact", struct.pack("<I", 800)), chunk(b"LIST", b"INFOISFT")
RF64 = encode(SAMPLES, "RF64", "PCM_16")
BIG = encode(SAMPLES, "WAV", "PCM_16", endian="BIG")
ID3 = b"ID3\x03\0\0\0\0\0\x05hello"


def odd(name: bytes) -> bytes:
    """A chunk of an odd size without the padding byte."""
    return chunk(name, b"INFOx", padding=False)


def read(folder: Path, content: bytes) -> tuple[np.ndarray, int, str]:
    (folder / "a.wav").write_bytes(content)
    return read_audio(folder / "a.wav")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(WHOLE, id="plain"),
        pytest.param(riff(FMT, LIST, DATA, chunk(b"LIST", b"INFO")), id="LIST"),
        pytest.param(riff(chunk(b"JUNK", bytes(28)), FMT, DATA), id="JUNK"),
        pytest.param(riff(chunk(b"fmt ", EXTENSIBLE), FACT, DATA), id="extensible"),
        pytest.param(riff(FMT, chunk(b"LIST", b"INFOx"), DATA), id="odd padded"),
        pytest.param(riff(FMT, odd(b"LIST"), DATA), id="odd unpadded"),
        pytest.param(riff(odd(b"bext"), odd(b"mine"), FMT, DATA), id="odd unpadded, rare"),
        pytest.param(riff(FMT, odd(b"LIST") + b"p" + DATA), id="odd, padded by a letter"),
        pytest.param(riff(FMT, DATA, odd(b"LIST")), id="odd at the end"),
        pytest.param(riff(FMT, DATA, chunk(b"id3 ", ID3), chunk(b"cue ", bytes(4))), id="id3, cue"),
        pytest.param(riff(FMT, DATA, chunk(b"mine", bytes(3))), id="unknown chunk"),
        pytest.param(riff(chunk(b"PAD\0", bytes(9)), FMT, DATA), id="PAD with a zero"),
        pytest.param(riff(FMT, DATA, chunk(b"id3\0", ID3)), id="id3 with a zero"),
        pytest.param(
            riff(FMT, DATA, chunk(b"LIST", b"INFOx", 6, padding=False)), id="padding counted"
        ),
        pytest.param(riff(FMT, DATA, size=0), id="RIFF size 0"),
        pytest.param(RF64, id="RF64"),
        pytest.param(RF64.replace(b"RF64", b"BW64", 1), id="BW64"),
        pytest.param(BIG, id="RIFX"),
        pytest.param(encode(SAMPLES, "FLAC", "PCM_16"), id="FLAC called .wav"),
        pytest.param(ID3 + encode(SAMPLES, "FLAC", "PCM_16"), id="FLAC after a tag"),
    ],
)
def test_every_ordinary_header_gives_the_same_samples(tmp_path: Path, content: bytes) -> None:
    samples, rate_hz, note = read(tmp_path, content)
    np.testing.assert_array_equal(samples, EXPECTED)
    assert (samples.dtype, rate_hz, note) == (np.float32, RATE_HZ, "")
    assert content_hash(samples, rate_hz) == content_hash(EXPECTED, RATE_HZ)


COUNTED = chunk(b"LIST", b"INFOx", size=6, padding=False)  # the padding byte is not there


ID3V1 = b"TAG" + bytes(125)
ENDS = [
    *(b"", LIST, COUNTED, chunk(b"fact", b"1234") + chunk(b"id3 ", ID3), LIST + bytes(7)),
    *(chunk(b"cart", bytes(9)), chunk(b"_PMX", b"<x>"), ID3V1, LIST + ID3V1, ID3, b"APETAGEX12"),
]


@pytest.mark.parametrize("rest", ENDS)
@pytest.mark.parametrize("size", [0, 80000000, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF])
def test_open_length_ends_at_the_last_chunks(tmp_path: Path, size: int, rest: bytes) -> None:
    samples, _, note = read(tmp_path, riff(FMT, chunk(b"data", AUDIO, size=size), rest))
    np.testing.assert_array_equal(samples, EXPECTED)
    assert f"({size:#x})" in note
    assert "1600 bytes" in note


def test_open_length_of_rf64_and_rifx_is_the_rest(tmp_path: Path) -> None:
    size = struct.pack("<Q", len(AUDIO))
    for content in (
        RF64.replace(size, struct.pack("<Q", 2**64 - 1)),
        RF64.replace(size, bytes(8)),
        BIG.replace(b"data" + struct.pack(">I", len(AUDIO)), b"data" + b"\xff" * 4),
    ):
        samples, _, note = read(tmp_path, content)
        np.testing.assert_array_equal(samples, EXPECTED)
        assert "1600 bytes" in note


@pytest.mark.parametrize("rest", [bytes(1), bytes(468), ID3V1, ID3, bytes(2) + LIST])
def test_zeros_and_tags_at_the_end_are_ignored_with_a_note(tmp_path: Path, rest: bytes) -> None:
    samples, _, note = read(tmp_path, WHOLE + rest)
    np.testing.assert_array_equal(samples, EXPECTED)
    assert note.startswith(f"{len(rest.removesuffix(LIST))} bytes after its audio are ignored")


@pytest.mark.parametrize(("byte_rate", "align"), [(0, 2), (64000, 2), (8000, 0), (0, 0)], ids=str)
def test_header_that_is_clear_in_spite_of_an_error_is_read_with_a_note(
    tmp_path: Path, byte_rate: int, align: int
) -> None:
    samples, _, note = read(tmp_path, riff(fmt(byte_rate=byte_rate, align=align), DATA))
    np.testing.assert_array_equal(samples, EXPECTED)
    assert f"but it has {align} and {byte_rate}" in note


NO_RATE = fmt(rate_hz=0)
NO_DATA = chunk(b"data", b"")
ZEROS_AT_THE_END = riff(FMT, chunk(b"data", b"\n\0" + bytes(20))).replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty, 0 bytes"),
        (b"RI", "not a WAV file"),
        (b"ID3\x04" + bytes(500), "not a WAV file: it begins with b'ID3"),
        (b"<html>404 not found</html>", "not a WAV file"),
        (WHOLE[:12], "header only"),
        (WHOLE[:30], "header only"),
        (WHOLE[:36], "header only: no 'data' chunk"),
        (WHOLE[:44], "header only: it promises 1600 bytes of audio, 0 are there"),
        (riff(FMT, NO_DATA), "header only: it promises 0 bytes"),
        (riff(FMT, NO_DATA, chunk(b"LIST", b"INFO")), "header only: it promises 0 bytes"),
        (riff(DATA), "no whole 'fmt ' chunk"),
        (WHOLE[:-1], "truncated: its header promises 1600 bytes of audio, 1599 are there"),
        (WHOLE[:844], "truncated: its header promises 1600 bytes of audio, 800 are there"),
        (riff(NO_RATE, DATA), "a rate from 1000 to 1000000 Hz, but got 0"),
        (riff(chunk(b"fmt ", b"\x55\x01" + FMT[10:]), DATA), "cannot be decoded"),
        # Bytes that belong to no chunk, or chunks that come twice.
        (riff(FMT, chunk(b"data", AUDIO, size=800)), "the last 800 of its 1644 bytes"),
        (WHOLE + b"left over by some editor", "the last 24 of its 1668 bytes"),
        (ZEROS_AT_THE_END, "the last 1 of its 67 bytes"),
        (ZEROS_AT_THE_END + LIST, "the last 17 of its 83 bytes"),
        (riff(FMT, DATA, chunk(b"LIST", b"INFO", size=9)), "the last 12 of its 1656 bytes"),
        (riff(FMT, DATA, DATA), "a second 'data' chunk at byte 1644"),
        (riff(FMT, DATA, LIST, NO_DATA), "a second 'data' chunk at byte 1660"),
        (riff(FMT, chunk(b"data", AUDIO, size=0)) + LIST[:12], "LIST chunk at byte 1644 is cut"),
        (riff(FMT, NO_DATA, DATA), "a second 'data' chunk at byte 44"),
        (riff(FMT, NO_DATA, chunk(b"data", AUDIO, size=0)), "a second 'data' chunk at byte 44"),
        (riff(FMT, NO_DATA, LIST, DATA), "a second 'data' chunk at byte 60"),
        (riff(FMT, chunk(b"data", AUDIO, size=0), DATA), "a second 'data' chunk at byte 1644"),
        (riff(FMT, NO_DATA, chunk(b"data", AUDIO, size=2**32 - 1)), "a second 'data' chunk at"),
        (riff(FMT, fmt(2, align=4, byte_rate=16000), DATA), "two 'fmt ' chunks"),
        (WHOLE + WHOLE, "two WAV files in one: another header at byte 1644"),
        (WHOLE[:1000] + WHOLE, "two WAV files in one: another header at byte 1000"),
        (riff(FMT, chunk(b"data", AUDIO, size=0)) + WHOLE, "two WAV files in one"),
        (riff(FMT, chunk(b"data", AUDIO[:-1])), "1599 bytes of audio, but 2 bytes per sample"),
        # Fields that contradict each other.
        (riff(fmt(byte_rate=16000, align=4), DATA), "1 x 16 bits at 4000 Hz are 2 bytes per"),
        (riff(fmt(channels=2), DATA), "2 x 16 bits at 4000 Hz are 4 bytes per sample and 16000"),
        (riff(fmt(bits=24), DATA), "are 3 bytes per sample and 12000 per second, but it has 2"),
        (riff(fmt(bits=8), DATA), "are 1 bytes per sample and 4000 per second, but it has 2"),
        (riff(fmt(rate_hz=8000), DATA), "and 16000 per second, but it has 2 and 8000"),
        (riff(fmt(channels=0, align=0, byte_rate=0), DATA), "0 x 16 bits"),
        (riff(fmt(align=4), DATA), "8000 per second, but it has 4 and 8000"),
    ],
)
def test_bad_header_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError) as error:
        read(tmp_path, content)
    assert str(error.value).startswith("a.wav: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def grow_line_ends(content: bytes) -> bytes:
    return content.replace(b"\n", b"\r\n")


def shrink_line_ends(content: bytes) -> bytes:
    return content.replace(b"\r\n", b"\n")


def read_as_python_text(content: bytes) -> bytes:
    return shrink_line_ends(content).replace(b"\r", b"\n")


def write_as_old_mac_text(content: bytes) -> bytes:
    return content.replace(b"\n", b"\r")


def encode_as_utf_8(content: bytes) -> bytes:
    return content.decode("latin-1").encode()


def open_length(content: bytes) -> bytes:
    """Leave the size of the audio open: the header no longer shows that bytes came or went."""
    at = content.index(b"data") + 4
    return content[:at] + b"\xff" * 4 + content[at + 4 :]


def convert_text(content: bytes) -> list[bytes]:
    """The file after each text conversion that changes it."""
    conversions = (grow_line_ends, shrink_line_ends, read_as_python_text, write_as_old_mac_text)
    converted = [convert(content) for convert in (*conversions, encode_as_utf_8)]
    return [other for other in converted if other != content]


def test_audio_of_an_open_length_that_became_utf_8_is_refused(tmp_path: Path) -> None:
    content = open_length(encode(SAMPLES, "WAV", "PCM_U8", rate_hz=8000))
    with pytest.raises(DataError, match="UTF-8"):
        read(tmp_path, encode_as_utf_8(content))


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_U8", "FLOAT"])
def test_no_text_conversion_is_read_as_sound(tmp_path: Path, subtype: str) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, 1_200_000)
    content = encode(noise, "WAV", subtype)
    flac = convert_text(encode(noise, "FLAC", "PCM_16"))
    converted = [*convert_text(content), *flac, *convert_text(open_length(content))]
    assert len(converted) == 15
    for other in converted:
        with pytest.raises(DataError):
            read(tmp_path, other)


@pytest.mark.parametrize("size", [2000, 0xFFFFFFFF])
def test_line_ends_of_a_comment_are_not_those_of_the_audio(tmp_path: Path, size: int) -> None:
    quiet = np.arange(2000) % 100 + 100
    audio = chunk(b"data", quiet.astype(np.uint8).tobytes(), size=size)
    comment = chunk(b"LIST", b"INFOICMT\x10\0\0\0" + b"a\r\n\r\n\r\n\r\n\r\n\r\n\r\n\0")
    eight_bits = fmt(byte_rate=4000, align=1, bits=8)
    samples, _, _ = read(tmp_path, riff(comment, eight_bits, audio, comment))
    np.testing.assert_array_equal(samples, (quiet - 128) / 128)


def test_no_text_conversion_of_a_real_recording_is_read_as_sound(
    real_data: Path, tmp_path: Path
) -> None:
    paths = sorted((real_data / "icbhi").rglob("*.wav"))[::3]
    assert len(paths) == 8
    for path in paths:
        content = path.read_bytes()
        is_long = len(content) > 1_000_000  # a short one loses too few bytes to find out
        opened = convert_text(open_length(content)) if is_long else []
        for other in [*convert_text(content), *opened]:
            with pytest.raises(DataError):
                read(tmp_path, other)
        samples, rate_hz, _ = read(tmp_path, open_length(content) + LIST)
        expected, expected_hz = soundfile.read(path, dtype="float32")
        assert rate_hz == expected_hz
        np.testing.assert_array_equal(samples, expected)
