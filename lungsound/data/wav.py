"""WAV headers: the chunks must account for every byte of the file, and the fields must agree.

libsndfile reads on where a header is wrong: as noise, or as another length. Therefore `fmt ` and
`data` come once, whole chunks follow `data` up to the file's end, and block align and byte rate are
those of the channels, bits and rate.
"""

import re
import struct

from lungsound.data.text_modes import check_text_mode

Chunks = dict[bytes, tuple[int, int]]  # name -> where its content starts, and its size

# First four bytes -> the byte order of all numbers. BW64 is a later name of RF64.
BYTE_ORDERS = {b"RIFF": "<", b"RF64": "<", b"BW64": "<", b"RIFX": ">"}
MIN_RATE_HZ, MAX_RATE_HZ = 1000, 1_000_000
PCM, FLOAT, A_LAW, MU_LAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
# Sizes from here on, and OPEN_SIZES, are left open by programs that write to a pipe and cannot go
# back to fill them in: sox writes 0x7FFFF000, arecord 0x80000000, ffmpeg 0xFFFFFFFF.
MIN_OPEN_SIZE = 0x7FFF0000
OPEN_SIZES = (0, 80_000_000)  # the second is arecord's, read as decimal
MAX_SIZE = 0xFFFFFFFF  # also the size of RF64's audio; its chunk ds64 has the true one
EXTRA_CHUNKS = (
    *(b"LIST", b"fact", b"bext", b"cue ", b"smpl", b"inst", b"id3 ", b"ID3 ", b"iXML", b"PEAK"),
    *(b"JUNK", b"junk", b"FLLR", b"PAD ", b"acid", b"DISP", b"axml", b"chna", b"afsp", b"plst"),
    *(b"cart", b"_PMX", b"LGWV", b"ResU", b"minf", b"elm1", b"regn", b"umid", b"PAD\0", b"id3\0"),
)
KNOWN_CHUNKS = (b"fmt ", b"data", *EXTRA_CHUNKS)
CHUNK_NAME = re.compile(rb"(?!TAG)[ -~]{3}[ -~\0]")
NEXT_CHUNK = re.compile(b"|".join((b"data", *EXTRA_CHUNKS)))
SECOND_HEADER = re.compile(rb"WAVE(?<=(?:RIFF|RIFX|RF64|BW64)....WAVE)", re.DOTALL)
TAGS = (b"ID3", b"TAG", b"APETAGEX")  # music players append them after the last chunk
NEXT_TAG = re.compile(rb"TAG.{125}\Z|APETAGEX|ID3[\2-\4]\0[^\x80-\xff]{5}", re.DOTALL)
CUT_LIST = re.compile(rb"LIST(?=....(INFO|adtl))", re.DOTALL)


def rebuild_wav(content: bytes) -> tuple[bytes, list[str]]:
    """Return a WAV of the format and the audio of `content` alone, and notes for the user.

    Raises ValueError if the header does not say for certain which bytes are the audio.
    """
    order = _byte_order(content)
    chunks, offset = _read_chunks(content, order, 12, stop=b"data")
    if b"fmt " not in chunks or chunks[b"fmt "][1] < 16:
        raise ValueError(f"header only or damaged: no whole 'fmt ' chunk in {len(content)} bytes")
    if content[offset : offset + 4] != b"data" or offset + 8 > len(content):
        raise ValueError(f"header only: no 'data' chunk in its {len(content)} bytes")
    start = offset + 8
    if second := SECOND_HEADER.search(content, start):
        raise ValueError(f"two WAV files in one: another header at byte {second.start() - 8}")
    align, format_notes = _check_format(content, order, chunks[b"fmt "][0])
    size, notes = _audio_size(content, order, start, chunks)
    check_text_mode(content[start : start + size], align, is_open=bool(notes))
    if size % align and not notes:  # an open length may end within a sample
        raise ValueError(f"damaged header: {size} bytes of audio, but {align} bytes per sample")
    notes += format_notes + _check_rest(content, order, start, size)
    chunks[b"data"] = (start, size - size % align)
    return _write_wav(content, order, chunks), notes


def check_wav_format(start: bytes) -> list[str]:
    """Return notes on the format of a WAV that begins with `start`; none for another file.

    Raises ValueError if the fields of its header contradict each other.
    """
    order = BYTE_ORDERS.get(start[:4])
    if order is None or start[8:12] != b"WAVE":
        return []
    chunks, _ = _read_chunks(start, order, 12, stop=b"data")
    return _check_format(start, order, chunks[b"fmt "][0])[1] if b"fmt " in chunks else []


def check_rate(rate_hz: int) -> None:
    """Raise ValueError for a rate out of range: resampled from 1 Hz, a file fills the memory."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise ValueError(
            f"damaged header: expected a rate from {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, "
            f"but got {rate_hz}"
        )


def _byte_order(content: bytes) -> str:
    if not content:
        raise ValueError("empty, 0 bytes, expected a WAV or FLAC file")
    if len(content) > MAX_SIZE:
        raise ValueError(f"{len(content)} bytes, expected less than 4 GiB: cut it into pieces")
    if content[:4] not in BYTE_ORDERS or content[8:12] != b"WAVE":
        start = content[:12]
        raise ValueError(f"not a WAV file: it begins with {start!r}, expected b'RIFF....WAVE'")
    return BYTE_ORDERS[content[:4]]


def _read_chunks(content: bytes, order: str, offset: int, stop: bytes = b"") -> tuple[Chunks, int]:
    """Index the whole chunks from `offset` on up to `stop`; return them and where they end."""
    chunks: Chunks = {}
    while CHUNK_NAME.match(content, offset) and offset + 8 <= len(content):
        name, size = struct.unpack_from(f"{order}4sI", content, offset)
        end = len(content) if name == b"data" and is_open_size(size) else offset + 8 + size
        if name == stop or end > len(content) + 1:  # the padding byte may be counted only
            break
        if name == b"fmt " and name in chunks:
            raise ValueError("damaged header: two 'fmt ' chunks, expected one")
        chunks[name] = (offset + 8, size)
        offset = _next_offset(content, end, size)
    return chunks, offset


def _next_offset(content: bytes, end: int, size: int) -> int:
    """Return where the next chunk starts: the padding byte of an odd one may be forgotten."""
    is_name = CHUNK_NAME.match(content, end) and content[end + 1 : end + 5] not in KNOWN_CHUNKS
    return min(end if is_name else end + size % 2, len(content))


def _audio_size(content: bytes, order: str, start: int, chunks: Chunks) -> tuple[int, list[str]]:
    """Return the size of the audio from `start` on, and a note if the header leaves it open."""
    promised: int = struct.unpack_from(f"{order}I", content, start - 4)[0]
    available = len(content) - start
    if promised == MAX_SIZE and chunks.get(b"ds64", (0, 0))[1] >= 16:
        promised = struct.unpack_from("<Q", content, chunks[b"ds64"][0] + 8)[0]
    if 0 < promised <= available:
        return promised, []
    size = _open_size(content, order, start) if is_open_size(promised) else 0
    if not size:
        fault = (
            "header only: it"
            if is_open_size(promised) or not available
            else "truncated: its header"
        )
        raise ValueError(f"{fault} promises {promised} bytes of audio, {available} are there")
    extent = "all" if size == available else "the first"
    note = f"{extent} {size} bytes after it are taken as audio"
    return size, [f"its header leaves the length open ({promised:#x}): {note}"]


def is_open_size(size: int) -> bool:
    """Return whether a header with this size of its audio leaves the size open."""
    return size in OPEN_SIZES or size >= MIN_OPEN_SIZE


def _open_size(content: bytes, order: str, start: int) -> int:
    """Return the number of bytes from `start` up to the chunks at the file's end, if any."""
    for match in NEXT_CHUNK.finditer(content, start):
        if _count_ignorable(content, order, match.start()) is not None:
            return match.start() - start
    if cut := CUT_LIST.search(content, start):
        raise ValueError(f"damaged: the LIST chunk at byte {cut.start()} is cut short")
    tag = NEXT_TAG.search(content, start)
    return (tag.start() if tag else len(content)) - start


def _check_format(content: bytes, order: str, start: int) -> tuple[int, list[str]]:
    """Return the bytes per sample of all channels (1 for a format that packs them), and notes.

    Raises ValueError if the fields contradict each other. A block align of 0, and a byte rate of 0
    or in bits, leave no doubt of the audio.
    """
    fields: tuple[int, ...] = struct.unpack_from(
        f"{order}HHIIHHHHIH", content.ljust(start + 26, b"\0"), start
    )
    kind, channels, rate_hz, byte_rate, align, bits = fields[:6]
    check_rate(rate_hz)
    if (fields[-1] if kind == EXTENSIBLE else kind) not in (PCM, FLOAT, A_LAW, MU_LAW):
        return 1, []
    expected = channels * -(-bits // 8)
    rate = expected * rate_hz
    fault = (
        f"{channels} x {bits} bits at {rate_hz} Hz are {expected} bytes per sample and {rate} per "
        f"second, but it has {align} and {byte_rate}"
    )
    if not expected or align not in (expected, 0) or byte_rate not in (rate, 8 * rate, 0):
        raise ValueError(f"its header contradicts itself: {fault}: export it again")
    is_right = (align, byte_rate) == (expected, rate)
    return expected, [] if is_right else [f"an error in its header is ignored: {fault}"]


def _check_rest(content: bytes, order: str, start: int, size: int) -> list[str]:
    """Return a note on ignored bytes after the audio. Raises ValueError if they may be audio."""
    end = _next_offset(content, start + size, size)
    rest = len(content) - end
    zeros = rest - len(content[end:].lstrip(b"\0"))
    ignored = _count_ignorable(content, order, end + zeros)
    # If line ends grew by a byte, the last bytes of audio are left over, and may be zeros.
    if ignored is None or 0 < zeros == content.count(b"\r\n", start, end):
        raise ValueError(
            f"damaged: the last {rest} of its {len(content)} bytes are not whole chunks, as bytes "
            "were added, or its header promises too little audio: get it again"
        )
    ignored += zeros
    return [f"{ignored} bytes after its audio are ignored: zeros or a tag"] if ignored else []


def _count_ignorable(content: bytes, order: str, offset: int) -> int | None:
    """Return how many bytes follow the whole chunks from `offset` on; None if not zeros or a tag.

    Raises ValueError if one of the chunks is `data`.
    """
    chunks, end = _read_chunks(content, order, offset)
    rest = content[end:]
    if rest.strip(b"\0") and not rest.startswith(TAGS):
        return None
    if b"data" in chunks:
        start = chunks[b"data"][0] - 8
        raise ValueError(f"a second 'data' chunk at byte {start}, expected one")
    return len(rest)


def _write_wav(content: bytes, order: str, chunks: Chunks) -> bytes:
    body = b"WAVE"
    for name in (b"fmt ", b"fact", b"data"):
        if name in chunks:
            start, size = chunks[name]
            body += struct.pack(f"{order}4sI", name, size) + content[start : start + size]
            body += b"\0" * (size % 2)
    return (b"RIFF" if order == "<" else b"RIFX") + struct.pack(f"{order}I", len(body)) + body
