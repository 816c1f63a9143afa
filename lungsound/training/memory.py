"""Keep freed memory for the next step of a training on a CPU."""

import ctypes
import sys

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER = -1


def keep_freed_memory() -> None:
    """Let malloc keep freed memory in this process, and not return it to the kernel.

    By default glibc returns each large tensor at once, and every page of the next one is zeroed by
    the kernel: 700 MB per step for a network of full width, about a fifth of the time (figures:
    docs/performance.md). The numbers are the same. Without glibc it does nothing.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, NEVER)
