"""A user's table of cycles against pandas; every cell that is no time is named."""

from pathlib import Path

import pandas as pd
import pytest

from lungsound.data.readers.cycle_times import read_cycle_times
from lungsound.errors import DataError

HEADER = "recording,start_seconds,end_seconds\n"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_cells_are_those_of_pandas(tmp_path: Path, separator: str, encoding: str) -> None:
    lines = [
        " end_seconds , recording,note, start_seconds ", "2.5 ,a,x, 1", '"3","b é",,.5', ",,,",
        "", " 4e0,a,", "1e1,a,y,4.25",
    ]  # fmt: skip
    lines[5] += ",2.5"
    table = tmp_path / "cycles.csv"
    table.write_bytes("\r\n".join(lines).replace(",", separator).encode(encoding))
    frame = pd.read_csv(table, sep=separator, encoding=encoding, dtype=str)
    frame = frame.rename(columns=str.strip).dropna(how="all")
    times = frame[["start_seconds", "end_seconds"]].astype(float)
    names = frame["recording"].str.strip()
    expected = {name: list(map(tuple, rows.to_numpy())) for name, rows in times.groupby(names)}
    assert len(expected["a"]) == 3
    assert read_cycle_times(table) == expected


@pytest.mark.parametrize(
    ("rows", "problems"),
    [
        ("a,1_0,2\n", ["line 2: start_seconds is '1_0', expected seconds from 0, such as 1.234"]),
        ("a,-1,nan\n", ["line 2: start_seconds is '-1',", "line 2: end_seconds is 'nan',"]),
        ("a,1,٣\n", ["line 2: end_seconds is '٣',"]),
        ('a,1,2\na,"0,5",1\n', ["line 3: start_seconds is '0,5', .* decimal point .*: 0.5"]),
        (
            "a,0,5,1,5\n",
            ["line 2: 5 cells, expected 3 as in the header: is a comma in one of them?"],
        ),
        ("\n\n ,1,2\n", ["line 4: recording is empty, expected a value"]),
        ("a,2,1\nb,1\n", ["line 2: end_seconds is 1, .*start_seconds, 2", "line 3: .* is '',"]),
    ],
)
def test_every_wrong_cell_is_named_by_line_and_column(
    tmp_path: Path, rows: str, problems: list[str]
) -> None:
    (tmp_path / "cycles.csv").write_text(HEADER + rows)
    pattern = "".join(rf"\n  - cycles\.csv, {problem}[^\n]*" for problem in problems)
    with pytest.raises(DataError, match=rf"^[^\n]*expected 0 <= start < end[^\n]*{pattern}$"):
        read_cycle_times(tmp_path / "cycles.csv")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (HEADER, "expected a row per cycle below the header"),
        ("recording,start_seconds,end_seconds, end_seconds\na,1,2,3\n", "end_seconds doubled"),
    ],
)
def test_a_table_that_leaves_a_doubt(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "cycles.csv").write_text(text)
    with pytest.raises(DataError, match=fault):
        read_cycle_times(tmp_path / "cycles.csv")


def test_excels_own_first_line_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "cycles.csv").write_text(f"sep=;\n{HEADER}a,1,2\n".replace(",", ";"))
    assert read_cycle_times(tmp_path / "cycles.csv") == {"a": [(1.0, 2.0)]}
    (tmp_path / "cycles.csv").write_text("sep=;\nrecording;start_seconds\n")
    with pytest.raises(DataError, match=r"line 2: expected .* end_seconds missing"):
        read_cycle_times(tmp_path / "cycles.csv")


def test_a_mark_in_a_columns_name_separates_nothing(tmp_path: Path) -> None:
    (tmp_path / "cycles.csv").write_text(HEADER.strip() + ',"notes; free"\na,1,2,x\n')
    assert read_cycle_times(tmp_path / "cycles.csv") == {"a": [(1.0, 2.0)]}


def test_a_table_in_an_old_code_page_says_how_to_save_it(tmp_path: Path) -> None:
    (tmp_path / "cycles.csv").write_bytes((HEADER + "Größe,1,2\n").encode("cp1252"))
    with pytest.raises(DataError, match=r"expected a table as text in UTF-8, .* 'CSV UTF-8'"):
        read_cycle_times(tmp_path / "cycles.csv")
