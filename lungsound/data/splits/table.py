"""Read and write a split as a file (split.csv)."""

import csv
import io
import os
import re
from pathlib import Path

import pandas as pd

from lungsound.data.splits.checks import SET_NAMES
from lungsound.errors import DataError, StorageError
from lungsound.storage.files import read_file

INTEGER_PATTERN = re.compile(r"\d{1,18}", re.ASCII)
COLUMNS = ("recording", "cycle", "set")


def file_split(cycles: pd.DataFrame, file: Path | str) -> tuple[pd.Series, tuple[str, ...]]:
    """Read the sets from a table with the columns recording, cycle and set; return them, and notes.

    Other columns are ignored. A cycle that the table does not name has the set "". Raises DataError
    with every line that names a cycle the database lacks, a cycle twice, or an unknown set.
    """
    path = Path(os.path.expanduser(file))
    names = zip(cycles["recording"], cycles["cycle"], strict=True)
    row_by_cycle = {name: row for row, name in enumerate(names)}
    set_by_row: dict[int, str] = {}
    problems = []
    for line, (recording, cycle, set_name) in _read_rows(path):
        where = f"{path.name}, line {line}:"
        number = int(cycle) if INTEGER_PATTERN.fullmatch(cycle) else -1
        row = row_by_cycle.get((recording, number))
        if set_name not in SET_NAMES:
            problems.append(f"{where} set {set_name!r}, expected one of {', '.join(SET_NAMES)}")
        if row is None:
            problems.append(
                f"{where} the database has no cycle {cycle!r} of recording {recording!r}"
            )
            continue
        if row in set_by_row:
            problems.append(
                f"{where} cycle {cycle} of recording {recording} is named a second time"
            )
        set_by_row[row] = set_name
    if problems:
        count = len(problems)
        raise DataError(
            f"The split file {path} does not fit the database ({count} problems; split.file):",
            tuple(problems),
        )
    sets = [set_by_row.get(row, "") for row in range(len(cycles))]
    missing = len(cycles) - len(set_by_row)
    note = f"{path.name} names {len(set_by_row)} of {len(cycles)} cycles: {missing} left out"
    return pd.Series(sets, cycles.index, "str", "set"), (note,) if missing else ()


def split_table(cycles: pd.DataFrame, sets: pd.Series) -> pd.DataFrame:
    """Return the content of a `split.csv`: a row for every cycle that is in a set."""
    columns = ["recording", "cycle", "patient", "label"]
    table = cycles[columns].assign(set=sets, content=cycles["content"])
    return table[table["set"] != ""].reset_index(drop=True)


def _read_rows(path: Path) -> list[tuple[int, tuple[str, str, str]]]:
    """Return line number (from 1) and (recording, cycle, set) of each row."""
    reader = csv.DictReader(io.StringIO(_read_text(path), newline=""), restval="")
    header = reader.fieldnames or []
    if missing := [column for column in COLUMNS if column not in header]:
        raise DataError(
            f"{path.name}, line 1: the header is {','.join(header)!r}, expected the columns "
            f"recording, cycle and set; {' and '.join(missing)} missing (split.file={path})"
        )
    return [(reader.line_num, (row["recording"], row["cycle"], row["set"])) for row in reader]


def _read_text(path: Path) -> str:
    try:
        return read_file(path).decode("utf-8-sig")
    except OSError as error:
        reason = f"{path.absolute()} cannot be read: {error.strerror}"
    except StorageError as error:
        raise DataError(f"{error} (split.file)") from error
    except UnicodeDecodeError as error:
        reason = f"{path} is not a text file: {error.reason}"
    raise DataError(f"The split file {reason} (split.file)")
