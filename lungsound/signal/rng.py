"""The random generators of training: each is a pure function of its purpose."""

from zlib import crc32

import numpy as np


def make_rng(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A generator that depends on its arguments alone, not on workers or the order of work.

    `purpose` names the quantity that is drawn; `numbers`, each from 0 to 2^64 - 1, are its cycle,
    copy, segment or epoch. Raises OverflowError for a number out of range.

    >>> make_rng(0, "roll", 7).integers(386) == make_rng(0, "roll", 7).integers(386)
    np.True_
    """
    # Two words a number: numpy takes as many as a value needs, so that (2^32, 1) and (0, 1, 1)
    # would share a stream.
    entropy = np.array([int(seed), crc32(purpose.encode()), *map(int, numbers)], dtype=np.uint64)
    return np.random.default_rng(entropy.view(np.uint32))
