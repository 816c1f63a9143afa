"""A user's table of known cycles: recording, start_seconds, end_seconds."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from lungsound.data.readers.files import decode_text, quoted, read_content
from lungsound.errors import DataError

COLUMNS = ("recording", "start_seconds", "end_seconds")


def read_cycle_times(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Return each recording's cycles (start, end) in the order of the table; ignore other columns.

    Cells are separated by commas, semicolons or tabs. Raises DataError with every wrong line.
    """
    try:
        text = decode_text(read_content(path))
    except ValueError as error:  # also a UnicodeDecodeError
        raise DataError(f"{path}: expected a table of cycles: {error}") from error
    header = text.partition("\n")[0]
    separator = next((mark for mark in "\t;" if mark in header), ",")
    reader = csv.DictReader(io.StringIO(text), restval="", delimiter=separator)
    if missing := [column for column in COLUMNS if column not in (reader.fieldnames or [])]:
        raise DataError(
            f"{path}, line 1: expected the columns {', '.join(COLUMNS)}, but got {quoted(header)}: "
            f"{', '.join(missing)} missing"
        )
    cycles, problems = defaultdict(list), []
    for row in _rows(reader, path):
        try:
            cycles[row["recording"]].append(_parse_times(row["start_seconds"], row["end_seconds"]))
        except ValueError as error:
            problems.append(f"line {reader.line_num}: {error}")
    if problems:
        raise DataError(f"{path}: expected 0 <= start < end in seconds:", tuple(problems))
    return dict(cycles)


def _rows(reader: "csv.DictReader[str]", path: Path) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: expected cells: {error}") from error


def _parse_times(start: str, end: str) -> tuple[float, float]:
    times = float(start), float(end)
    if not 0 <= times[0] < times[1] < math.inf:
        raise ValueError(f"start {start}, end {end}")
    return times
