"""The folder of a run, in the order in which its files are written.

config.yaml, metadata.json, split.csv, history.jsonl, members/    by training
predictions.parquet                                               from the members
scores.json, report.md, figures/                                  from the predictions
SHA256SUMS                                                        last: the run is complete

Methods import torch, pandas and matplotlib, which take seconds: commands that list runs need none.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lungsound.errors import CorruptFileError, DataError
from lungsound.storage.files import (
    checksum_error,
    corrupt_file_on_error,
    file_sha256,
    link_or_copy,
    quarantine,
    quarantine_mismatched,
    read_checksums,
    read_file,
    remove,
    write_checksums,
    write_file,
)
from lungsound.storage.keys import canonical_json
from lungsound.storage.locks import file_lock
from lungsound.training.history import EpochRecord, parse_history

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CONFIG, HISTORY, MEMBERS = "config.yaml", "history.jsonl", "members"
PREDICTIONS = "predictions.parquet"
TRAINING_FILES = (CONFIG, "metadata.json", "split.csv", HISTORY)
REPORT_FILES = ("scores.json", "report.md")
# The files in SHA256SUMS, besides members and figures.
CHECKED_FILES = (*TRAINING_FILES, PREDICTIONS, *REPORT_FILES)
FORMER_METADATA = "facts.json"  # release 0.1 wrote it, and neither members nor SHA256SUMS
TRAJECTORY_KEY_PATTERN = re.compile("[0-9a-f]{16}")

Parsed = TypeVar("Parsed")


def folder_lock_path(folder: Path) -> Path:
    """Return the lock file of the folder of a run or a study."""
    return folder.with_name(f".{folder.name}.lock")


class RunFolder:
    """Reads and writes the files of one run, and checks which are present."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Lock the folder; wait if another process writes to it."""
        return file_lock(folder_lock_path(self.path), self.path)

    @property
    def is_trained(self) -> bool:
        """Whether all files of training are present, each member's weights included."""
        return self._has(*TRAINING_FILES) and len(self.member_paths()) == self._num_members()

    @property
    def has_predictions(self) -> bool:
        """Whether predictions are present: scores, tables and figures need no training."""
        return self._has(PREDICTIONS) and (self.is_former or self.is_trained)

    @property
    def is_complete(self) -> bool:
        """Whether all files in SHA256SUMS exist; `quarantine_corrupt` verifies their content."""
        if self.is_former:
            return self._has(PREDICTIONS, CONFIG, "split.csv", *REPORT_FILES)
        digests = read_checksums(self.path)
        return digests.keys() >= set(CHECKED_FILES) and self._has(*digests) and self.is_trained

    @property
    def is_former(self) -> bool:
        """Whether release 0.1 wrote the folder."""
        return self._has(FORMER_METADATA)

    def _has(self, *names: str) -> bool:
        return all((self.path / name).is_file() for name in names)

    def _num_members(self) -> int | None:
        try:
            return self.metadata().get("annealing.cycles")
        except (CorruptFileError, FileNotFoundError):
            return None

    def quarantine_corrupt(self) -> None:
        """Quarantine every corrupt file. Call it only under the lock.

        These are the files that do not match SHA256SUMS and, if it is missing or incomplete, those
        that cannot be read.
        """
        from lungsound.training.weights import read_weights

        listed = read_checksums(self.path)
        quarantine_mismatched(self.path)
        if listed.keys() >= set(CHECKED_FILES):
            return
        readers: list[tuple[Path, Callable[[], Any]]] = [
            (self.metadata_path, self.metadata),
            (self.path / HISTORY, self.read_history),
            (self.path / PREDICTIONS, self.read_predictions),
            *((path, partial(read_weights, path)) for path in self.member_paths()),
        ]
        for path, read in readers:
            try:
                read()
            except FileNotFoundError:
                continue
            except CorruptFileError:
                quarantine(path)

    def write_checksums(self) -> None:
        """Write SHA256SUMS, which makes the run complete."""
        paths = [*(self.path / name for name in CHECKED_FILES), *self.member_paths()]
        paths += sorted((self.path / "figures").glob("*.p*"))
        digests = {path.relative_to(self.path).as_posix(): file_sha256(path) for path in paths}
        write_checksums(self.path, digests)

    def clear(self, keep: str = "") -> None:
        """Remove all but the file `keep`."""
        for path in list(self.path.glob("*")):
            if path.name != keep:
                remove(path)

    def write_text(self, name: str, text: str) -> None:
        """Write UTF-8; escape what is not, such as a path in another encoding."""
        write_file(self.path / name, text.encode(errors="backslashreplace"))

    def read_text(self, name: str) -> str:
        """Return the text; CorruptFileError if it is not UTF-8."""
        return self._read(name, bytes.decode)

    def write_json(self, name: str, value: Any) -> None:
        """Write strict JSON: no NaN."""
        self.write_text(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def read_json(self, name: str) -> Any:
        """Return the value; CorruptFileError if it is not JSON."""
        return self._read(name, _parse_json)

    @property
    def metadata_path(self) -> Path:
        """metadata.json, or facts.json of a run of release 0.1."""
        return self.path / (FORMER_METADATA if self.is_former else "metadata.json")

    def metadata(self) -> dict[str, Any]:
        """Return the run's metadata: options, counts, trajectory, machine."""
        return self._read(self.metadata_path.name, _parse_object)

    def trajectory_key(self) -> str:
        """Return the key of the trajectory that the members come from.

        Raises CorruptFileError if it does not look like a key: callers put it into a path.
        """
        key = self.metadata().get("trajectory")
        if not isinstance(key, str) or not TRAJECTORY_KEY_PATTERN.fullmatch(key):
            raise CorruptFileError(
                f"{self.metadata_path}: expected a trajectory's key, 16 hex digits, "
                f"but got {str(key)[:60]!r}"
            )
        return key

    def read_config(self) -> dict[str, Any]:
        """Return the run's configuration; CorruptFileError if it is not plain values."""
        from lungsound.results.config import parse_config

        return self._read(CONFIG, parse_config)

    def write_history(self, history: list[EpochRecord]) -> None:
        """Write every metric with its epoch, one line per epoch."""
        lines = [canonical_json(record).decode() + "\n" for record in history]
        self.write_text(HISTORY, "".join(lines))

    def read_history(self) -> list[EpochRecord]:
        """Return the records of every epoch; none if there is no history."""
        return self._read(HISTORY, parse_history) if self._has(HISTORY) else []

    def remove_results(self) -> None:
        """Remove members and predictions, before training starts or continues."""
        for path in (*self.member_paths(), self.path / PREDICTIONS):
            path.unlink(missing_ok=True)

    def link_members(self, snapshots: Sequence[Path]) -> None:
        """Link, or else copy, snapshots of the store to members/member-MM.safetensors."""
        for member, snapshot in enumerate(snapshots, start=1):
            link_or_copy(snapshot, self.path / MEMBERS / f"member-{member:02d}.safetensors")

    def member_paths(self) -> list[Path]:
        """Return the members' weights, in order."""
        paths = (self.path / MEMBERS).glob("member-*.safetensors")
        return sorted(paths, key=lambda path: (len(path.name), path.name))

    def write_predictions(self, table: "pd.DataFrame") -> None:
        """Write predictions.parquet."""
        from lungsound.results.predictions import encode_predictions

        write_file(self.path / PREDICTIONS, encode_predictions(table))

    def read_predictions(self) -> "pd.DataFrame":
        """Return the table of predictions.parquet."""
        from lungsound.results.predictions import parse_predictions

        return self._read(PREDICTIONS, parse_predictions)

    def _read(self, name: str, parse: Callable[[bytes], Parsed]) -> Parsed:
        """Return the parsed content; CorruptFileError if it is not what was written."""
        content = read_file(self.path / name)
        expected = read_checksums(self.path).get(name)
        if expected is not None and hashlib.sha256(content).hexdigest() != expected:
            raise checksum_error(self.path / name)
        with corrupt_file_on_error(self.path / name):
            return parse(content)

    def summary(self) -> dict[str, Any]:
        """Return every score. Raises DataError if the predictions do not fit together."""
        from lungsound.results.summary import summarize

        table = self.read_predictions()
        try:
            return summarize(table)
        except DataError as error:
            raise DataError(f"{self.path / PREDICTIONS}: {error}") from error

    def write_figure(self, name: str, figure: "Figure") -> None:
        """Write figures/NAME.png, and as a PDF for publications."""
        from lungsound.storage.figures import pdf_bytes, write_figure

        path = self.path / "figures" / f"{name}.png"
        write_figure(path, figure)
        write_file(path.with_suffix(".pdf"), pdf_bytes(figure))

    def figures(self) -> list[Path]:
        """Return the figures' PNG files."""
        return sorted((self.path / "figures").glob("*.png"))


def _parse_json(content: bytes) -> Any:
    return json.loads(content.decode())  # json would read UTF-16, too


def _parse_object(content: bytes) -> dict[str, Any]:
    value = _parse_json(content)
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return value
