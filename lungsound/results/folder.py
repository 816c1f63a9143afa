"""A run's folder: everything a run leaves, enough to make every score, table and figure again
without training.
"""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lungsound.errors import CorruptFileError, DataError
from lungsound.results.predictions import read_predictions, write_predictions
from lungsound.results.summary import summarize
from lungsound.storage.files import (
    checksum_path,
    corrupt_file_on_error,
    is_intact,
    read_file,
    verify_or_quarantine,
    write_file,
)
from lungsound.storage.keys import canonical_json
from lungsound.storage.locks import file_lock
from lungsound.training.history import parse_history

TRAINING_FILES = ("config.yaml", "facts.json", "split.csv", "history.jsonl", "predictions.parquet")
REPORT_FILES = ("scores.json", "report.md")
TRAJECTORY_KEY_PATTERN = re.compile("[0-9a-f]{16}")


def folder_lock_path(folder: Path) -> Path:
    """Held by the command that works on the folder of a run or a study."""
    return folder.with_name(f".{folder.name}.lock")


class RunFolder:
    """What training leaves (TRAINING_FILES), and what is made of it (REPORT_FILES, and the figures
    that the report shows).
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Be the only process that writes here; wait for another one that does."""
        return file_lock(folder_lock_path(self.path), self.path)

    @property
    def has_predictions(self) -> bool:
        """Whether every score, table and figure can be made without training."""
        return all(is_intact(self.path / name) for name in TRAINING_FILES)

    @property
    def is_complete(self) -> bool:
        """Whether every file is there and whole."""
        if not self.has_predictions or not all(
            is_intact(self.path / name) for name in REPORT_FILES
        ):
            return False
        figures = re.findall(r"\((figures/.+?)\)", self.read_text("report.md"))
        return all(is_intact(self.path / name) for name in figures)

    def quarantine_corrupt(self) -> None:
        """Rename every file that does not match the checksum beside it, so that it is made again.
        Under the lock.
        """
        for beside in sorted(self.path.rglob(checksum_path(Path("*")).name)):
            verify_or_quarantine(beside.with_suffix(""))

    def clear(self, keep: str = "") -> None:
        """Remove all but the file `keep` and its checksum."""
        kept = {keep, checksum_path(Path(keep)).name} if keep else set()
        for path in list(self.path.glob("*")):
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)
                with contextlib.suppress(OSError):  # of what was a folder
                    path.unlink()

    def write_text(self, name: str, text: str) -> None:
        write_file(
            self.path / name, text.encode(errors="backslashreplace")
        )  # file names need not be UTF-8

    def read_text(self, name: str) -> str:
        content = read_file(self.path / name)
        with corrupt_file_on_error(self.path / name):
            return content.decode()

    def write_json(self, name: str, value: Any) -> None:
        self.write_text(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def read_json(self, name: str) -> Any:
        text = self.read_text(name)
        with corrupt_file_on_error(self.path / name):
            return json.loads(text)

    def trajectory(self) -> str:
        """The key of the trajectory its members come from. Raises CorruptFileError for what cannot
        be one.
        """
        path = self.path / "facts.json"
        known = self.read_json(path.name)
        key = known.get("trajectory") if isinstance(known, dict) else None
        if not isinstance(key, str) or not TRAJECTORY_KEY_PATTERN.fullmatch(
            key
        ):  # it becomes a part of a path
            raise CorruptFileError(
                f"{path}: expected a trajectory's key, 16 hex digits, but got {str(key)[:60]!r}"
            )
        return key

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Every metric with its epoch, one line an epoch."""
        self.write_text(
            "history.jsonl", "".join(canonical_json(line).decode() + "\n" for line in history)
        )

    def read_history(self) -> list[dict[str, Any]]:
        path = self.path / "history.jsonl"
        if not is_intact(path):
            return []
        content = read_file(path)
        with corrupt_file_on_error(path):
            return parse_history(content)

    def write_predictions(self, table: pd.DataFrame) -> None:
        write_predictions(table, self.path / "predictions.parquet")

    def read_predictions(self) -> pd.DataFrame:
        return read_predictions(self.path / "predictions.parquet")

    def summary(self) -> dict[str, Any]:
        """Every score that follows from the predictions. Raises DataError where they do not fit
        together.
        """
        table = self.read_predictions()
        try:
            return summarize(table)
        except DataError as error:
            raise DataError(f"{self.path / 'predictions.parquet'}: {error}") from error

    def write_figure(self, name: str, figure: Figure) -> None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
        write_file(self.path / "figures" / f"{name}.png", buffer.getvalue())

    def figures(self) -> list[Path]:
        return sorted((self.path / "figures").glob("*.png"))
