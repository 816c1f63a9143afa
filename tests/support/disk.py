"""Disks that are full, and files that cannot be written to."""

import contextlib
import ctypes
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def drop_root_privileges() -> Iterator[None]:
    """Inside, permission bits bind root as they bind everyone (without CAP_DAC_OVERRIDE and
    CAP_DAC_READ_SEARCH).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    before, without = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    for sets in (before, without):
        assert libc.capget(header, sets) == 0
    without[0] &= ~0b110
    assert libc.capset(header, without) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


@contextlib.contextmanager
def disk_full_for(code: int, name: str) -> Iterator[list[str]]:
    """Inside, a file of ours whose name matches is refused by the disk when its bytes are written;
    lists those.
    """
    original, met = os.fsync, []

    def full(handle: int) -> None:
        written = Path(f"/proc/self/fd/{handle}").readlink().name
        if re.fullmatch(rf"\.(?:{name})\.[^.]*(\.part)?", written):
            met.append(written)
            raise OSError(code, os.strerror(code))
        original(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        yield met


@contextlib.contextmanager
def read_only(*folders: Path) -> Iterator[None]:
    """Inside, nothing can be made in the folders."""
    modes = {folder: folder.stat().st_mode for folder in folders}
    for folder in folders:
        folder.chmod(0o555)
    try:
        with drop_root_privileges():
            yield
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)
