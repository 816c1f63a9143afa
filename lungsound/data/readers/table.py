"""Reader of a database of one's own: a folder of recordings, and a table with a row per cycle."""

import os
from collections import defaultdict
from collections.abc import Collection
from math import nan
from pathlib import Path

from lungsound.data.readers.cycle_times import TIMES, Parser, Row, parse_path, read_rows
from lungsound.data.readers.files import missing_reason, parse_number, quoted, read_tree
from lungsound.data.recordings import Annotation, ReadResult, Recording
from lungsound.errors import DataError

SUFFIXES = (".wav", ".flac")
TEXTS = ("patient", "device", "location", "diagnosis")
CHOICES = {"sex": ("M", "F"), "set": ("train", "val", "test")}
FACTS = (*TEXTS, *CHOICES, "age")  # one value per recording, all optional


def read_table(root: Path, table: Path, labels: Collection[str]) -> ReadResult:
    """Read the cycles in `table` of the recordings below `root`, sorted by name.

    A recording's name is its path below `root` without the suffix, a cycle's number counts the
    recording's rows from 0, and the column `set` becomes the part. Raises DataError if there is no
    table or no audio.
    """
    root = Path(os.path.expanduser(root))
    sounds, notes = _find_sounds(root)
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(table, _parsers(labels), [*TIMES, "label"], "data.table"):
        rows[recording_name(row.values.get("recording", ""))].append(row)
    recordings, problems = [], [problem for row in rows.pop("", []) for problem in row.problems]
    for name, own in sorted(rows.items()):
        files = sounds.pop(name, [])
        faults = [problem for row in own for problem in row.problems]
        faults += _contradictions(own, table)
        if len(files) != 1:
            found = " and ".join(file.name for file in files) or "there is none"
            expected = f"expected one .wav or .flac of this name below {root}, but got: {found}"
            faults.append(
                f"{table.name}, line {own[0].line}: recording is {quoted(name)}, {expected}"
            )
        problems += faults
        if files:
            recordings.append(_recording(name, files[0], own, table, faults))
    unknown = [one.name for one in recordings if not one.patient]
    if 0 < len(unknown) < len(recordings):
        found = f"{len(unknown)} recordings have none, such as {unknown[0]}"
        problems.append(f"{table.name}: expected a patient for all recordings or none, but {found}")
    if sounds:
        example = f"{len(sounds)}, such as {quoted(min(sounds))}"
        notes.append(f"{table.name}: recordings below {root} without a cycle: {example}")
    return ReadResult(recordings, problems, notes)


def recording_name(text: str) -> str:
    """Return a recording's path without the suffix of audio, as a table may write it."""
    path = parse_path(text)
    return str(path.with_suffix("") if path.suffix.lower() in SUFFIXES else path) if text else ""


def _find_sounds(root: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """Return name -> files of the recordings below `root`, and notes on unusable places."""
    tree = read_tree(root, *SUFFIXES)
    sounds = defaultdict(list)
    for paths in tree.folders.values():
        for path in paths:
            sounds[recording_name(path.relative_to(root).as_posix())].append(path)
    if not sounds:
        reason = missing_reason(root, "no .wav or .flac file in it or below")
        raise DataError(f"No recordings at {root.absolute()}: {reason}. Give data.root=PATH")
    return sounds, tree.unusable


def _parsers(labels: Collection[str]) -> dict[str, Parser]:
    texts = dict.fromkeys(TEXTS, lambda column, cell: cell)
    choices = {column: _choice((*values, "")) for column, values in CHOICES.items()}
    return {**TIMES, "label": _choice(labels), **texts, **choices, "age": _parse_age}


def _choice(values: Collection[str]) -> Parser:
    def parse(column: str, cell: str) -> str:
        if cell not in values:
            expected = ", ".join(value or "an empty cell" for value in values)
            hint = " (data.labels)" * (column == "label")
            raise ValueError(f"{column} is {quoted(cell)}, expected one of {expected}{hint}")
        return cell

    return parse


def _parse_age(column: str, cell: str) -> float:
    return parse_number(column, cell, "years") if cell else nan


def _contradictions(rows: list[Row], table: Path) -> list[str]:
    """Return a problem per column that has several values for one recording."""
    problems = []
    for column in FACTS:
        first_line: dict[str, int] = {}
        for row in rows:
            if column in row.values:
                first_line.setdefault(row.values[column], row.line)
        if len(first_line) > 1:
            (value, line), (other, other_line), *_ = first_line.items()
            fault = f"{column} is {quoted(other)}, but {quoted(value)} in line {line}"
            problems.append(f"{table.name}, line {other_line}: {fault}: expected one per recording")
    return problems


def _recording(
    name: str, audio: Path, rows: list[Row], table: Path, problems: list[str]
) -> Recording:
    cycles = []
    for number, row in enumerate(rows):
        if not row.problems:
            times = row.values["start_seconds"], row.values["end_seconds"]
            cycles.append(Annotation(number, *times, row.values["label"], table_line=row.line))
    facts = rows[0].values
    return Recording(
        name=name,
        audio=audio,
        recording_index="",
        mode="",
        **{column: facts[column] for column in TEXTS},
        age=facts.get("age", nan),
        sex=facts.get("sex", ""),
        part=facts.get("set", ""),
        cycles=tuple(cycles),
        problems=tuple(problems),
        annotation=f"{table.name} ({name})",
    )
