"""Audio whose bytes went through a text mode, such as git's autocrlf or FTP's: noise as sound."""

import numpy as np

MIN_LINE_FEEDS = 4  # by chance one in 256 follows a carriage return
MIN_PAIRS = 10  # expected by chance: then they are not all missing by chance
MIN_OF_EACH_BYTE = 16  # then one byte in 256 is not missing by chance


def check_text_mode(audio: bytes, align: int, is_open: bool) -> None:
    """Raise ValueError if all line ends in `audio` are those of one system, as in a text file.

    If the header leaves its length open, it does not show that bytes came or went: then pairs of
    carriage return and line feed must not be lacking, and UTF-8 is not audio. `align`: bytes per
    sample of all channels.
    """
    sign, line_feeds, pairs = "", audio.count(b"\n"), audio.count(b"\r\n")
    if line_feeds >= MIN_LINE_FEEDS and pairs == line_feeds:
        sign = "a carriage return precedes every line feed byte"
    for byte, name in ((b"\n", "line feed"), (b"\r", "carriage return")):
        if byte not in audio and _rare_bytes(audio) == 1:
            sign = f"no byte is a {name}, but all others occur"
    if is_open and max(MIN_PAIRS, 16 * pairs) <= _expected_pairs(audio, align):
        sign = "no carriage return precedes a line feed byte"
    if is_open and _is_utf_8(audio):
        sign = "the audio is text in UTF-8"
    if sign:
        raise ValueError(
            f"damaged: it was converted as text ({sign}), as git's autocrlf and FTP's text mode "
            "do: get it again as a binary file"
        )


def _expected_pairs(audio: bytes, align: int) -> float:
    """Return how often a carriage return precedes a line feed by chance.

    The bytes of a sample differ: in quiet audio its highest byte is neither.
    """
    values, samples = np.frombuffer(audio, np.uint8), (len(audio) - 1) // align
    returns = (values[: samples * align].reshape(-1, align) == ord("\r")).sum(axis=0)
    line_feeds = (values[1 : samples * align + 1].reshape(-1, align) == ord("\n")).sum(axis=0)
    return float(returns @ line_feeds / max(samples, 1))


def _is_utf_8(audio: bytes) -> bool:
    try:
        return len(audio) - len(audio.decode()) >= MIN_OF_EACH_BYTE
    except UnicodeDecodeError:
        return False


def _rare_bytes(audio: bytes) -> int:
    """Return how many of the 256 values occur less than MIN_OF_EACH_BYTE times."""
    counts = np.bincount(np.frombuffer(audio, np.uint8), minlength=256)
    return int((counts < MIN_OF_EACH_BYTE).sum())
