"""A run's folder: everything a run leaves, enough to make every score, table and figure again without training."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lungsound.errors import DamagedFileError, DataError
from lungsound.results.predictions import read_predictions, write_predictions
from lungsound.results.summary import summarize
from lungsound.storage.files import checksum_path, is_whole, read_file, understood, whole_or_aside, write_file
from lungsound.storage.keys import canonical_json
from lungsound.storage.locks import locked
from lungsound.training.history import records_in

TRAINED = ("config.yaml", "facts.json", "split.csv", "history.jsonl", "predictions.parquet")
REPORTED = ("scores.json", "report.md")
KEY = re.compile("[0-9a-f]{16}")


def lock_path(folder: Path) -> Path:
    """Held by the command that works on the folder of a run or a study."""
    return folder.with_name(f".{folder.name}.lock")


class RunFolder:
    """What training leaves (TRAINED), and what is made of it (REPORTED, and the figures that the report shows)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Be the only process that writes here; wait for another one that does."""
        return locked(lock_path(self.path), self.path)

    @property
    def trained(self) -> bool:
        """Whether every score, table and figure can be made without training."""
        return all(is_whole(self.path / name) for name in TRAINED)

    @property
    def finished(self) -> bool:
        """Whether every file is there and whole."""
        if not self.trained or not all(is_whole(self.path / name) for name in REPORTED):
            return False
        figures = re.findall(r"\((figures/.+?)\)", self.read_text("report.md"))
        return all(is_whole(self.path / name) for name in figures)

    def put_damaged_aside(self) -> None:
        """Rename every file that does not match the checksum beside it, so that it is made again. Under the lock."""
        for beside in sorted(self.path.rglob(checksum_path(Path("*")).name)):
            whole_or_aside(beside.with_suffix(""))

    def clear(self, keep: str = "") -> None:
        """Remove all but the file `keep` and its checksum."""
        kept = {keep, checksum_path(Path(keep)).name} if keep else set()
        for path in list(self.path.glob("*")):
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)
                with contextlib.suppress(OSError):  # of what was a folder
                    path.unlink()

    def write_text(self, name: str, text: str) -> None:
        write_file(self.path / name, text.encode(errors="backslashreplace"))  # file names need not be UTF-8

    def read_text(self, name: str) -> str:
        content = read_file(self.path / name)
        with understood(self.path / name):
            return content.decode()

    def write_json(self, name: str, value: Any) -> None:
        self.write_text(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def read_json(self, name: str) -> Any:
        text = self.read_text(name)
        with understood(self.path / name):
            return json.loads(text)

    def trajectory(self) -> str:
        """The key of the trajectory its members come from. Raises DamagedFileError for what cannot be one."""
        path = self.path / "facts.json"
        known = self.read_json(path.name)
        key = known.get("trajectory") if isinstance(known, dict) else None
        if not isinstance(key, str) or not KEY.fullmatch(key):  # it becomes a part of a path
            raise DamagedFileError(f"{path}: expected a trajectory's key, 16 hex digits, but got {str(key)[:60]!r}")
        return key

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Every metric with its epoch, one line an epoch."""
        self.write_text("history.jsonl", "".join(canonical_json(line).decode() + "\n" for line in history))

    def read_history(self) -> list[dict[str, Any]]:
        path = self.path / "history.jsonl"
        if not is_whole(path):
            return []
        content = read_file(path)
        with understood(path):
            return records_in(content)

    def write_predictions(self, table: pd.DataFrame) -> None:
        write_predictions(table, self.path / "predictions.parquet")

    def read_predictions(self) -> pd.DataFrame:
        return read_predictions(self.path / "predictions.parquet")

    def summary(self) -> dict[str, Any]:
        """Every score that follows from the predictions. Raises DataError where they do not fit together."""
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
