"""A user's table: a row per cycle, with recording, start_seconds, end_seconds, and others."""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from unicodedata import normalize

from lungsound.data.readers.files import decode_text, parse_number, quoted, read_content
from lungsound.errors import DataError

Parser = Callable[[str, str], Any]  # column, cell -> value; ValueError with what is wrong


class Row(NamedTuple):
    """A row's line (from 1), the values of its cells without a fault, and a problem per fault."""

    line: int
    values: dict[str, Any]
    problems: list[str]


def parse_filled(column: str, cell: str) -> str:
    """Return the cell. Raises ValueError if it is empty."""
    if not cell:
        raise ValueError(f"{column} is empty, expected a value")
    return cell


TIMES: dict[str, Parser] = {
    "recording": parse_filled,
    "start_seconds": parse_number,
    "end_seconds": parse_number,
}


def read_cycle_times(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Return each recording's cycles (start, end) in the order of the table; ignore other columns.

    Raises DataError with every wrong cell.
    """
    cycles, problems = defaultdict(list), []
    for row in read_rows(path, TIMES, TIMES, "--cycles"):
        problems += row.problems
        if not row.problems:
            times = row.values["start_seconds"], row.values["end_seconds"]
            cycles[str(parse_path(row.values["recording"]))].append(times)
    if problems:
        raise DataError(f"{path}: expected 0 <= start < end in seconds:", tuple(problems))
    return dict(cycles)


def parse_path(text: str) -> PurePosixPath:
    """Return a recording's path as each system writes it: with backslashes, or in NFD as macOS."""
    return PurePosixPath(normalize("NFC", text.replace("\\", "/")))


def _cells_of(header: str, separator: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([header], delimiter=separator), [])]


def read_rows(
    path: Path, parsers: Mapping[str, Parser], required: Collection[str], key: str
) -> list[Row]:
    """Read those columns of a table that have a parser; a missing one has empty cells.

    Cells are separated by commas, semicolons or tabs; spaces around them and empty rows do not
    count, nor does Excel's first line sep=;. Raises DataError if the file, which `key` names, is no
    table, or has not all `required` columns.
    """
    try:
        text = decode_text(read_content(path))
    except UnicodeDecodeError as error:  # an old code page, or a workbook
        raise DataError(
            f"{path}: expected a table as text in UTF-8, but got other bytes: save it as "
            f"'CSV UTF-8' ({error.reason} at byte {error.start}; {key})"
        ) from error
    except ValueError as error:
        raise DataError(f"{path}: expected a table of cycles ({key}): {error}") from error
    above = int(text.lower().startswith("sep="))
    header = [*text.split("\n", 2), ""][above]
    # A mark may also stand inside a column's name.
    marks = [mark for mark in "\t;," if {*required} <= {*_cells_of(header, mark)}]
    separator = marks[0] if marks else next((mark for mark in "\t;" if mark in header), ",")
    table = _read_cells(text, separator, path)
    columns = next(islice(table, above, None), (1, []))[1]
    missing = [column for column in required if column not in columns]
    doubled = [column for column in parsers if columns.count(column) > 1]
    if missing or doubled:
        fault = f"{', '.join(doubled)} doubled" if doubled else f"{', '.join(missing)} missing"
        expected = f"expected the columns {', '.join(required)}, but got {quoted(header)}: {fault}"
        raise DataError(f"{path}, line {above + 1}: {expected}")
    rows = [_parse_row(path, line, columns, cells, parsers) for line, cells in table if any(cells)]
    if not rows:
        raise DataError(f"{path}: expected a row per cycle below the header, but there is none")
    return rows


def _read_cells(text: str, separator: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of each row, the header first."""
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    try:
        for cells in reader:
            yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: expected cells: {error}") from error


def _parse_row(
    path: Path, line: int, columns: Sequence[str], cells: list[str], parsers: Mapping[str, Parser]
) -> Row:
    texts = dict(zip(columns, cells, strict=False))
    values, faults = {}, []
    for column, parse in parsers.items():
        try:
            values[column] = parse(column, texts.get(column, ""))
        except ValueError as error:
            faults.append(str(error))
    start, end = values.get("start_seconds"), values.get("end_seconds")
    if start is not None and end is not None and end <= start:
        faults.append(f"end_seconds is {end:g}, expected more than start_seconds, {start:g}")
    if len(cells) > len(columns):
        expected = f"expected {len(columns)} as in the header: is a comma in one of them?"
        faults = [f"{len(cells)} cells, {expected}"]
    return Row(line, values, [f"{path.name}, line {line}: {fault}" for fault in faults])
