"""Where every random draw of training comes from: a pure function of what it is for."""

from zlib import crc32

import numpy as np


def make_rng(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A generator that depends on its arguments alone: not on workers, on the order of work or on
    the past.

    `purpose` says what is drawn; `numbers`, each from 0 to 2^64 - 1, say for whom and when (cycle,
    copy, epoch). Raises OverflowError for a number out of range.
    """
    # Two words a number: numpy takes as many as a value needs, so that (2^32, 1) and (0, 1, 1)
    # would share a stream.
    entropy = np.array([int(seed), crc32(purpose.encode()), *map(int, numbers)], dtype=np.uint64)
    return np.random.default_rng(entropy.view(np.uint32))
