"""The stored training path: its history, the snapshots of each period, and the resume point."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import Tensor

from lungsound.errors import CorruptFileError, LungsoundError
from lungsound.storage.files import (
    corrupt_file_on_error,
    file_sha256,
    quarantine,
    read_file,
    write_file,
)
from lungsound.storage.keys import canonical_json
from lungsound.storage.locks import try_lock
from lungsound.storage.tensors import read_tensors, write_tensors
from lungsound.training.history import EpochRecord, parse_history
from lungsound.training.schedule import MONITORS, Annealing
from lungsound.training.trajectory_files import RESUME, files_by_epoch, lock, lock_path
from lungsound.training.weights import read_weights, write_weights

SNAPSHOT = "epoch-*.safetensors"
PROBABILITIES = "probabilities-*.safetensors"
# In the metadata of PROBABILITIES: SHA-256 of the weights' file, and rolls of each log-mel.
WEIGHTS, ROLLS = "weights", "rolls"


class Trajectory:
    """A folder with one training path; runs that differ only in their number of periods share it.

    history.jsonl                    metrics and machine, one line per epoch
    epoch-NNNN.safetensors           weights after the last epoch of a period, or its best so far by
                                     any monitor
    probabilities-NNNN.safetensors   probabilities by those weights for every validation and test
                                     cycle, once a run has used them, as the last one needed them
    resume-NNNN.ckpt                 Lightning's state after the last finished epoch
    """

    def __init__(self, folder: Path, annealing: Annealing) -> None:
        self.folder, self.annealing = folder, annealing

    def lock(self) -> AbstractContextManager[None]:
        """Lock the folder; wait if another process trains there."""
        return lock(self.folder)

    def quarantine_corrupt(self) -> bool:
        """Quarantine every corrupt file; return whether there was one."""
        corrupt = [path for path in self._files() if not _is_intact(path)]
        for path in corrupt:
            quarantine(path)
        return bool(corrupt)

    def completed_epochs(self) -> int:
        """Return the last epoch with resume point, history and snapshots; 0 if none has them."""
        epochs = sorted(files_by_epoch(self.folder, RESUME), reverse=True)
        return next((epoch for epoch in epochs if self._is_complete(epoch)), 0)

    def resume_path(self, epoch: int) -> Path:
        """Return the path of Lightning's state after `epoch`."""
        return self._path(RESUME, epoch)

    def snapshot_path(self, epoch: int) -> Path:
        """Return the path of the weights after `epoch`."""
        return self._path(SNAPSHOT, epoch)

    def snapshot(self, epoch: int) -> dict[str, Any]:
        """Return the weights kept after `epoch`."""
        return read_weights(self.snapshot_path(epoch))

    def history(self, epochs: int) -> list[EpochRecord]:
        """Return the records of the first `epochs` epochs."""
        path = self.folder / "history.jsonl"
        if not path.exists():
            return []
        content = read_file(path, embedded_checksum=True)
        with corrupt_file_on_error(path):
            return parse_history(content)[:epochs]

    def add_epoch(self, record: EpochRecord, snapshot: dict[str, Any]) -> None:
        """Store an epoch's record, and its weights if it is the last or the best of its period.

        Raises LungsoundError if another process has stored it: its epochs would be lost.
        """
        epoch = record["epoch"]
        newest = max(files_by_epoch(self.folder, RESUME), default=0)
        if newest >= epoch:
            raise LungsoundError(
                f"{self.folder}: expected to train here alone, but another process has finished "
                f"epoch {newest}: the lock on this folder was lost (docs/server.md). This process "
                f"ends at epoch {epoch}; the same command goes on after the other one"
            )
        history = [*self.history(epoch - 1), record]
        if epoch in self._retained_epochs(history):
            write_weights(self.snapshot_path(epoch), snapshot)
        lines = b"".join(canonical_json(line) + b"\n" for line in history)
        write_file(self.folder / "history.jsonl", lines, embed_checksum=True)

    def probabilities(self, epoch: int, weights: str, rolls: int = 1) -> dict[str, Tensor] | None:
        """Return set -> probabilities [cycles, K] of the snapshot after `epoch`, if stored.

        `weights`: the SHA-256 of the weights' file. An epoch that is trained again, on another
        machine, has other weights: then None is returned, and so it is if they are stored for
        another number of `rolls`.
        """
        path = self._path(PROBABILITIES, epoch)
        try:
            probabilities, metadata = read_tensors(path)
        except FileNotFoundError:
            return None
        except CorruptFileError:
            with try_lock(lock_path(self.folder)) as acquired:
                if acquired and path.exists():
                    quarantine(path)
            return None
        is_same = metadata == _answer_metadata(weights, rolls)
        return probabilities if is_same else None

    def add_probabilities(
        self, epoch: int, probabilities: dict[str, Tensor], weights: str, rolls: int = 1
    ) -> None:
        """Store what the snapshot after `epoch` gives, if its file still has the SHA-256 `weights`.

        Stores nothing while another process trains on this path: that may take hours, and removes
        half-written files.
        """
        snapshot = self.snapshot_path(epoch)
        with try_lock(lock_path(self.folder)) as acquired:
            if acquired and snapshot.exists() and file_sha256(snapshot) == weights:
                metadata = _answer_metadata(weights, rolls)
                write_tensors(self._path(PROBABILITIES, epoch), probabilities, metadata)

    def prune(self, epoch: int) -> None:
        """Remove all files that are not needed to resume after `epoch`; for epoch 0 every file."""
        kept = set()
        if epoch:
            kept = {self.resume_path(epoch), self.folder / "history.jsonl"}
            for number in self._retained_epochs(self.history(epoch)):
                kept |= {self.snapshot_path(number), self._path(PROBABILITIES, number)}
        for path in self._files():
            if path not in kept:
                path.unlink()

    def _path(self, pattern: str, epoch: int) -> Path:
        return self.folder / pattern.replace("*", f"{epoch:04d}")

    def _retained_epochs(self, history: list[EpochRecord]) -> set[int]:
        """Return the epochs whose weights a run may select: each period's last and best ones."""
        retained = set()
        for record in history:
            if record["epoch"] == self.annealing.last_epoch(record["period"]):
                retained.add(record["epoch"])
        for period in {record["period"] for record in history}:
            for monitor in MONITORS:
                retained.add(self.annealing.best_epoch(history, period, monitor))
        return retained

    def _files(self) -> list[Path]:
        """Return all files in the order to remove them: a crash leaves no valid resume point."""
        files = [*files_by_epoch(self.folder, RESUME).values()]
        files += self.folder.glob("history.jsonl")
        for pattern in (PROBABILITIES, SNAPSHOT):
            files += files_by_epoch(self.folder, pattern).values()
        return files

    def _is_complete(self, epoch: int) -> bool:
        try:
            history = self.history(epoch)
        except CorruptFileError:
            return False
        snapshots = map(self.snapshot_path, self._retained_epochs(history))
        return len(history) == epoch and all(path.exists() for path in snapshots)


def _answer_metadata(weights: str, rolls: int) -> dict[str, str]:
    return {WEIGHTS: weights, ROLLS: str(rolls)}


def _is_intact(path: Path) -> bool:
    try:
        if path.suffix == ".safetensors":
            read_tensors(path)
        else:
            read_file(path, embedded_checksum=True)
    except CorruptFileError:
        return False
    return True
