"""Read and write a split as a file (split.csv)."""

import csv
import io
import os
import re
from collections.abc import Set
from pathlib import Path

import pandas as pd

from lungsound.data.readers.files import decode_text, quoted, read_content
from lungsound.data.splits.checks import SET_NAMES
from lungsound.errors import DataError

INTEGER_PATTERN = re.compile(r"\d{1,18}", re.ASCII)
COLUMNS = ("recording", "cycle", "set")


def file_split(cycles: pd.DataFrame, file: Path | str) -> tuple[pd.Series, tuple[str, ...]]:
    """Read the sets from a table with the columns recording, cycle and set; return them, and notes.

    Other columns are ignored. A cycle that the table does not name has the set "". Raises DataError
    with every line that names a cycle the database lacks, a cycle twice, or an unknown set.
    """
    path = Path(os.path.expanduser(file))
    names = list(zip(cycles["recording"], cycles["cycle"], strict=True))
    set_by_name = dict.fromkeys(names, "")
    last_cycles = cycles.groupby("recording")["cycle"].max()
    rows = _read_rows(path)
    check_names(path, {row[1] for row in rows}, set(last_cycles.index))
    problems = []
    for line, recording, cycle, set_name in rows:
        where = f"{path.name}, line {line}:"
        name = (recording, int(cycle) if INTEGER_PATTERN.fullmatch(cycle) else -1)
        if set_name not in SET_NAMES:
            problems.append(f"{where} set {set_name!r}, expected one of {', '.join(SET_NAMES)}")
        if name not in set_by_name:
            lacking = f"the database has no cycle {cycle!r} of recording {recording!r}"
            if recording in last_cycles:
                lacking += f", which has 0 to {last_cycles[recording]}"
            problems.append(f"{where} {lacking}")
        elif set_by_name[name]:
            problems.append(
                f"{where} cycle {cycle} of recording {recording} is named a second time"
            )
        else:
            set_by_name[name] = set_name
    if problems:
        count = len(problems)
        raise DataError(
            f"The split file {path} does not fit the database ({count} problems; split.file):",
            tuple(problems),
        )
    sets = pd.Series([set_by_name[name] for name in names], cycles.index, "str", "set")
    missing = int((sets == "").sum())
    if not missing:
        return sets, ()
    used = len(sets) - missing
    return sets, (f"{path.name} names {used} of {len(sets)} cycles: {missing} left out",)


def check_names(path: Path, listed: Set[str], present: Set[str]) -> None:
    """Raise DataError if most of a split's names and most of the database's fit nothing."""
    fitting = len(listed & present)
    if listed and (not fitting or 2 * fitting < min(len(listed), len(present))):
        raise DataError(
            f"{fitting or 'None'} of the {len(listed)} recordings in the split file {path} are in "
            f"the database: it names {quoted(min(listed - present))}, the database "
            f"{min(present - listed, default='none')!r}. "
            "Expected names as in the database, without folder and suffix (split.file)"
        )


def split_table(cycles: pd.DataFrame, sets: pd.Series) -> pd.DataFrame:
    """Return the content of a `split.csv`: a row for every cycle that is in a set."""
    columns = ["recording", "cycle", "patient", "label"]
    table = cycles[columns].assign(set=sets, content=cycles["content"])
    return table[table["set"] != ""].reset_index(drop=True)


def read_split_text(path: Path, title: str = "split file") -> str:
    """Return the text of a split's file. Raises DataError if it cannot be read as text."""
    try:
        return decode_text(read_content(path))
    except UnicodeDecodeError as error:
        reason = f"is not a text file: {error.reason}"
    except ValueError as error:
        reason = str(error)
    raise DataError(f"The {title} {path.absolute()} {reason} (split.file)")


def _read_rows(path: Path) -> list[tuple[int, str, str, str]]:
    """Return line number (from 1), recording, cycle and set of each row."""
    reader = csv.DictReader(io.StringIO(read_split_text(path)), restval="")
    header = reader.fieldnames or []
    if missing := [column for column in COLUMNS if column not in header]:
        raise DataError(
            f"{path.name}, line 1: the header is {','.join(header)!r}, expected the columns "
            f"recording, cycle and set; {' and '.join(missing)} missing (split.file={path})"
        )
    return [(reader.line_num, row["recording"], row["cycle"], row["set"]) for row in reader]
