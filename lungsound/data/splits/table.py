"""Which cycles are train, val and test, and the checks every split must pass."""

import csv
import io
import re
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from lungsound.data.labels import FOUR_CLASS, SPRSOUND_SEVEN, TWO_CLASS
from lungsound.errors import CorruptFileError, DataError, StorageError
from lungsound.storage.files import checksum_path, read_file

SET_NAMES = ("train", "val", "test")
TEST_FRACTION, VAL_FRACTION = 0.2, 0.2
ICBHI_LABELS = tuple(dict.fromkeys(FOUR_CLASS.labels + TWO_CLASS.labels))
INTEGER_PATTERN = re.compile(r"\d{1,18}", re.ASCII)
ALL_CLASSES = (*ICBHI_LABELS, *SPRSOUND_SEVEN.labels)


def random_split(cycles: pd.DataFrame, seed: int) -> pd.Series:
    """The paper's protocol: by cycle, stratified; 20 % of each class test, 20 % of the rest val.

    Returns the set of every row, with the index of `cycles` (columns label, key). The rows' order
    does not matter. Patients are shared between the sets: `leaks.leak_report` counts them.
    """
    sets = pd.Series("train", index=cycles.index, name="set", dtype="str")
    for number, label in enumerate(ICBHI_LABELS):
        rows = np.flatnonzero(cycles["label"] == label)
        rows = rows[np.argsort(cycles["key"].to_numpy()[rows])]
        rows = np.random.default_rng([seed, zlib.crc32(b"split"), number]).permutation(rows)
        test = round(TEST_FRACTION * len(rows))
        val = round(VAL_FRACTION * (len(rows) - test))
        sets.iloc[rows[:test]] = "test"
        sets.iloc[rows[test : test + val]] = "val"
    return sets


def read_split(path: Path, cycles: pd.DataFrame) -> tuple[pd.Series, tuple[str, ...]]:
    """The set of every row of `cycles` as a `split.csv` says (columns recording, cycle, set; others
    are ignored).

    Returns the sets, with the index of `cycles` and "" for a cycle that the file does not name, and
    notes. Raises DataError with every line that names a cycle the database lacks, a cycle twice, or
    an unknown set.
    """
    path = Path(path)
    row_by_cycle = {
        key: row for row, key in enumerate(zip(cycles["recording"], cycles["cycle"], strict=True))
    }
    set_by_row: dict[int, str] = {}
    problems = []
    for line, values in _read_rows(path):
        where = f"{path.name}, line {line}:"
        recording, cycle, set_name = values
        row = (
            row_by_cycle.get((recording, int(cycle))) if INTEGER_PATTERN.fullmatch(cycle) else None
        )
        if row is None:
            problems.append(
                f"{where} the database has no cycle {cycle!r} of recording {recording!r}"
            )
        elif row in set_by_row:
            problems.append(
                f"{where} cycle {cycle} of recording {recording} is named a second time"
            )
        if set_name not in SET_NAMES:
            problems.append(f"{where} set {set_name!r}, expected one of {', '.join(SET_NAMES)}")
        if row is not None:
            set_by_row[row] = set_name
    if problems:
        message = f"The split file {path} does not fit the database ({len(problems)} problems; split.file):"
        raise DataError(message, tuple(problems))
    sets = pd.Series(
        [set_by_row.get(row, "") for row in range(len(cycles))],
        index=cycles.index,
        name="set",
        dtype="str",
    )
    missing = len(cycles) - len(set_by_row)
    return sets, (
        f"{path.name} names {len(set_by_row)} of {len(cycles)} cycles: {missing} left out",
    ) if missing else ()


def split_table(cycles: pd.DataFrame, sets: pd.Series) -> pd.DataFrame:
    """The content of a `split.csv`: recording, cycle, patient, label, set, content, of every cycle
    that is in a set.
    """
    table = cycles[["recording", "cycle", "patient", "label"]].assign(
        set=sets, content=cycles["content"]
    )
    return table[table["set"] != ""].reset_index(drop=True)


def check_classes(cycles: pd.DataFrame, sets: pd.Series, column: str = "label") -> tuple[str, ...]:
    """Notes on classes (the values of `column`) that are in a set and that val or test lacks.

    Raises DataError where a class that is in a set has no training cycle, or a set has no cycle at
    all.
    """
    classes = cycles[column][sets != ""]
    present_labels = [label for label in ALL_CLASSES if label in set(classes)]
    counts = pd.crosstab(classes, sets).reindex(
        index=present_labels, columns=list(SET_NAMES), fill_value=0
    )
    problems = [f"the {name} set is empty" for name in SET_NAMES if not counts[name].sum()]
    for label, row in counts.iterrows():
        if not row["train"]:
            counts_text = ", ".join(f"{row[name]} in {name}" for name in SET_NAMES)
            problems.append(
                f"class {label} has no training cycle ({counts_text}; {sum(classes == label)} in all)"
            )
    if problems:
        raise DataError(
            "This split cannot be trained on; take another split.seed, split.fold, split.file or protocol:",
            tuple(problems),
        )
    return tuple(
        f"class {label} has no {name} cycle: scores of {name} are over the other classes"
        for name in ("val", "test")
        for label in counts.index[counts[name] == 0]
    )


def _read_rows(path: Path) -> list[tuple[int, tuple[str, str, str]]]:
    """Line number from 1 and (recording, cycle, set) of each row."""
    try:
        text = read_file(path).decode("utf-8-sig")
    except OSError as error:
        raise DataError(
            f"The split file {path.absolute()} cannot be read: {error.strerror} (split.file)"
        ) from error
    except StorageError as error:
        raise DataError(f"{error} (split.file)") from error
    except CorruptFileError as error:
        raise CorruptFileError(
            f"The split file {path} does not match its checksum, {checksum_path(path).name} beside it: it is damaged, "
            "or was edited. Take another copy, or delete the checksum where the file is right (split.file)"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"The split file {path} is not a text file: {error.reason} (split.file)"
        ) from error
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="")
    header = reader.fieldnames or []
    if missing := [column for column in ("recording", "cycle", "set") if column not in header]:
        raise DataError(
            f"{path.name}, line 1: the header is {','.join(header)!r}, expected the columns recording, cycle and set; "
            f"{' and '.join(missing)} missing (split.file={path})"
        )
    return [(reader.line_num, (row["recording"], row["cycle"], row["set"])) for row in reader]
