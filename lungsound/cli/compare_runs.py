"""What `lungsound compare` does: read the predictions of runs, compare, format."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from lungsound.data.splits.patient import has_unknown_patients
from lungsound.errors import ConfigError, DataError
from lungsound.results.comparison import (
    Answers,
    compare_answers,
    ensemble_answers,
    join_answers,
)
from lungsound.results.folder import PREDICTIONS, RunFolder
from lungsound.results.study_folder import STUDY_FILE, read_study
from lungsound.storage.files import write_user_file

WIDTH = 80


def compare_runs(paths: Sequence[Path], score: str | None, file: Path | None) -> str:
    """Return the comparison of each run or study with the first one, for a terminal of 80 columns.

    Raises ConfigError for fewer than two runs, or one that is not finished, and DataError if they
    cannot be compared.
    """
    different = {path.resolve() for path in paths}
    if len(different) < max(2, len(paths)):
        raise ConfigError(f"expected two or more different runs, but got {len(different)}")
    answers = {str(path): _read_answers(path) for path in paths}
    first = next(iter(answers.values()))
    name = score or f"score_{len(first.labels)}"
    table, note = compare_answers(answers, name)
    if file is not None:
        content = table.assign(score_name=name).to_csv(index=False).encode()
        write_user_file(file, content)
    unknown = has_unknown_patients(first.cycles)
    patients = "unknown" if unknown else str(first.cycles["patient"].nunique())
    heading = f"{name} of {len(first.cycles)} test cycles; patients: {patients}"
    names = [f"{number}: {run}" for number, run in enumerate(table["run"], start=1)]
    return "\n".join([heading, _format(table), *names, *filter(None, [note])])


def _read_answers(path: Path) -> Answers:
    """Return the answers of a run, or of all runs of a study, each on its own fold."""
    if not (path / STUDY_FILE).is_file():
        return _read_run(path)
    study, outputs = read_study(path), path.resolve().parents[1]
    if study["swept"] != ["split.fold"]:
        swept = ", ".join(study["swept"])
        raise ConfigError(f"{path}: expected a study over split.fold alone, but it swept {swept}")
    runs = [outputs / Path(job["run"]).name for job in study["jobs"]]
    parts = [_read_run(run) for run in runs]
    try:
        return join_answers(parts)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _read_run(path: Path) -> Answers:
    if not (path / PREDICTIONS).is_file():
        raise ConfigError(
            f"{path}: expected the folder of a finished run, but it has no {PREDICTIONS}"
        )
    try:
        return ensemble_answers(RunFolder(path).read_predictions())
    except DataError as error:
        raise DataError(f"{path / PREDICTIONS}: {error}") from error


def _format(table: pd.DataFrame) -> str:
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in ("run", "score", "95 %", "minus 1", "95 %", "p", "p (Holm)", "McNemar"):
        shown.add_column(heading, justify="right")
    for number, row in enumerate(table.to_dict("records"), start=1):
        cells = [f"{row['score']:.3f}", _range(row, "", "")]
        if number > 1:
            cells += [f"{row['difference']:+.3f}", _range(row, "difference_", "+")]
            for name in ("permutation", "holm", "mcnemar"):
                cells.append("-" if pd.isna(row[name]) else f"{row[name]:.3f}")
        shown.add_row(str(number), *cells)
    page = Console(file=io.StringIO(), width=WIDTH, highlight=False)
    with page.capture() as text:
        page.print(shown)
    return text.get().rstrip()


def _range(row: Mapping[Any, Any], prefix: str, sign: str) -> str:
    low, high = row[f"{prefix}low"], row[f"{prefix}high"]
    return "-" if pd.isna(low) else f"[{low:{sign}.3f}, {high:{sign}.3f}]"
