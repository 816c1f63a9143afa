"""Audio files as bytes: WAV files chunk by chunk, and what soundfile writes."""

import io
import struct

import numpy as np
import soundfile

RATE_HZ = 4000
SAMPLES = np.round(12000 * np.sin(np.arange(800) / 7)).astype("<i2")
EXPECTED = SAMPLES / np.float32(32768)
AUDIO = SAMPLES.tobytes()


def chunk(name: bytes, content: bytes, size: int | None = None, padding: bool = True) -> bytes:
    length = len(content) if size is None else size
    return name + struct.pack("<I", length) + content + b"\0" * (padding and len(content) % 2)


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def fmt(
    channels: int = 1, rate_hz: int = RATE_HZ, byte_rate: int = 8000, align: int = 2, bits: int = 16
) -> bytes:
    """A format chunk of plain PCM."""
    return chunk(b"fmt ", struct.pack("<HHIIHH", 1, channels, rate_hz, byte_rate, align, bits))


def encode(
    samples: np.ndarray, kind: str, subtype: str, rate_hz: int = RATE_HZ, endian: str = "FILE"
) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, subtype=subtype, format=kind, endian=endian)
    return buffer.getvalue()
