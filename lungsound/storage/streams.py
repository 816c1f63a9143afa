"""Standard output and error that end no work: closed, on a full disk, or without some letters."""

import errno
import io
import os
import select
import sys
from typing import Any


class _LossyFile(io.FileIO):
    """A file that discards everything from the first write that fails, as after `| head -1`."""

    def write(self, content: Any) -> int:
        rest = memoryview(content)
        try:
            while rest:
                written = super().write(rest)
                if written is None:  # a full pipe that does not block
                    select.select([], [self], [])
                rest = rest[written or 0 :]
        except OSError as error:
            _discard(self.fileno())
            # Nobody could read it of stderr, whose buffer cannot be written while it is emptied.
            if self.fileno() == 1 and error.errno != errno.EPIPE:
                print(f"stdout: {error.strerror}; the work goes on without it", file=sys.stderr)
        return len(content)


def tolerate_output_errors() -> None:
    """Let no error of stdout or stderr end this process; escape letters that they cannot print.

    Does nothing to a stream that is not the process's own, such as a notebook's.
    """
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:  # closed by >&-: otherwise the next file would get its number
            _discard(descriptor)
        elif stream is not getattr(sys, f"__{name}__"):
            continue
        file: Any = _LossyFile(descriptor, "w", closefd=False)
        is_unbuffered = getattr(stream, "write_through", False)  # python -u
        if not is_unbuffered:
            file = io.BufferedWriter(file)
        encoding = getattr(stream, "encoding", "utf-8")
        is_line_buffered = getattr(stream, "line_buffering", False)
        settings = (encoding, "backslashreplace", None, is_line_buffered, is_unbuffered)
        setattr(sys, name, io.TextIOWrapper(file, *settings))


def _discard(descriptor: int) -> None:
    """Let what is written to a file descriptor vanish."""
    null = os.open(os.devnull, os.O_WRONLY)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)
