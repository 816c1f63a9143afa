"""Audio whose bytes went through a text mode, such as git's autocrlf or FTP's: noise as sound."""

import numpy as np

MIN_LINE_FEEDS = 4  # by chance one in 256 follows a carriage return
MIN_OF_EACH_BYTE = 16  # then one byte in 256 is not missing by chance


def check_line_ends(audio: bytes) -> None:
    """Raise ValueError if all line ends in `audio` are those of one system, as in a text file."""
    sign, line_feeds = "", audio.count(b"\n")
    if line_feeds >= MIN_LINE_FEEDS and audio.count(b"\r\n") == line_feeds:
        sign = "a carriage return precedes every line feed byte"
    for byte, name in ((b"\n", "line feed"), (b"\r", "carriage return")):
        if byte not in audio and _rare_bytes(audio) == 1:
            sign = f"no byte is a {name}, but all others occur"
    if sign:
        raise ValueError(
            f"damaged: its line ends were converted ({sign}), as git's autocrlf and FTP's text "
            "mode do: get it again as a binary file"
        )


def _rare_bytes(audio: bytes) -> int:
    """Return how many of the 256 values occur less than MIN_OF_EACH_BYTE times."""
    counts = np.bincount(np.frombuffer(audio, np.uint8), minlength=256)
    return int((counts < MIN_OF_EACH_BYTE).sum())
