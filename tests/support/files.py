"""Files that were changed on purpose."""


def flip_bit(content: bytes, place: int) -> bytes:
    """`content` with one bit of its byte at `place` changed."""
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
