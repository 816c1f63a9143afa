"""Files that were changed on purpose."""


def flip_bit(content: bytes, place: int, bit: int = 0) -> bytes:
    """`content` with one bit of its byte at `place` changed."""
    return content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]
