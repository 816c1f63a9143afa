"""The random generators of training: each depends on seed, purpose and item numbers alone."""

from zlib import crc32

import numpy as np


def make_rng(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """Make a generator that depends on its arguments alone, not on workers or the order of calls.

    `purpose` names what is drawn; `numbers`, each from 0 to 2^64 - 1, identify the cycle, copy,
    segment or epoch. Raises OverflowError for a number out of range.

    Examples:
        >>> make_rng(0, "roll", 7).integers(386) == make_rng(0, "roll", 7).integers(386)
        np.True_
    """
    # Two 32-bit integers per number: by itself numpy uses as many as a number needs, so that
    # (2^32, 1) and (0, 1, 1) would give the same generator.
    entropy = np.array([int(seed), crc32(purpose.encode()), *map(int, numbers)], dtype=np.uint64)
    return np.random.default_rng(entropy.view(np.uint32))
