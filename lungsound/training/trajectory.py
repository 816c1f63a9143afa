"""The stored training path: per epoch what was logged, per period its snapshots, and the point to
go on from.
"""

import io
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from lungsound.errors import CorruptFileError
from lungsound.storage.files import (
    corrupt_file_on_error,
    is_intact,
    read_file,
    verify_or_quarantine,
    write_file,
)
from lungsound.storage.keys import canonical_json
from lungsound.storage.locks import file_lock
from lungsound.training.history import parse_history
from lungsound.training.schedule import MONITORS, Annealing

EpochRecord = dict[str, Any]


def lock(folder: Path) -> AbstractContextManager[None]:
    """The lock of a trajectory's folder: for who trains there, or removes it."""
    return file_lock(folder.with_name(f"{folder.name}.lock"), folder)


class Trajectory:
    """A folder with one training path, as far as it has come. Runs of any number of periods share
    it.

    resume-EPOCH.ckpt  Lightning's whole state after that epoch; the only word on how far the path
    has come history.jsonl      one line an epoch epoch-EPOCH.pt     the weights after an epoch that
    is the last of its period, or its best so far by any monitor
    """

    def __init__(self, folder: Path, annealing: Annealing) -> None:
        self.folder, self.annealing = folder, annealing

    def lock(self) -> AbstractContextManager[None]:
        """Be the only process that trains on this path; wait for another one that does."""
        return lock(self.folder)

    def quarantine_corrupt(self) -> bool:
        """Rename every file that does not match its checksum; what needs it is trained again.
        Whether there was one.
        """
        return not all([verify_or_quarantine(path, sealed=True) for path in self._files()])

    def completed_epochs(self) -> int:
        """The last epoch that a resume point, whole and with all that belongs to it, was written
        for; 0: none.
        """
        points = sorted(files_by_epoch(self.folder, "resume-*.ckpt"), reverse=True)
        return next((epoch for epoch in points if self._is_intact(epoch)), 0)

    def resume_path(self, epoch: int) -> Path:
        return self.folder / f"resume-{epoch:04d}.ckpt"

    def history(self, epochs: int) -> list[EpochRecord]:
        """What was logged in the first `epochs` epochs."""
        path = self.folder / "history.jsonl"
        content = read_file(path, sealed=True) if path.exists() else b""
        with corrupt_file_on_error(path):
            return parse_history(content)[:epochs]

    def snapshot(self, epoch: int) -> dict[str, Any]:
        """The weights kept after `epoch`."""
        return load_tensors(self.snapshot_path(epoch))

    def snapshot_path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:04d}.pt"

    def add_epoch(self, record: EpochRecord, snapshot: dict[str, Any]) -> None:
        """Store an epoch's record, and its weights where it is the last or so far the best of its
        period.
        """
        epoch = record["epoch"]
        history = [*self.history(epoch - 1), record]
        if epoch in self._retained_epochs(history):
            save_tensors(snapshot, self.snapshot_path(epoch))
        write_file(
            self.folder / "history.jsonl",
            b"".join(canonical_json(line) + b"\n" for line in history),
            embed_checksum=True,
        )

    def prune(self, epoch: int) -> None:
        """Once `epoch` has its resume point: drop all others, and snapshots that are no longer the
        best of anything.

        Epoch 0 has none: everything goes.
        """
        if not epoch:
            for path in self._files():
                path.unlink()
            return
        kept = self._retained_epochs(self.history(epoch))
        for number, path in files_by_epoch(self.folder, "epoch-*.pt").items():
            if number not in kept:
                path.unlink()
        for number, path in files_by_epoch(self.folder, "resume-*.ckpt").items():
            if number != epoch:
                path.unlink()

    def _retained_epochs(self, history: list[EpochRecord]) -> set[int]:
        """The epochs whose weights some run may select: each period's last, and its best by every
        monitor.
        """
        periods = {record["period"] for record in history}
        last = {
            max(record["epoch"] for record in history if record["period"] == period)
            for period in periods
        }
        return {epoch for epoch in last if epoch % self.annealing.epochs_per_period == 0} | {
            self.annealing.best_epoch(history, period, monitor)
            for period in periods
            for monitor in MONITORS
        }

    def _files(self) -> list[Path]:
        """Resume points first: where they go and a death follows, nothing is left that counts."""
        points, snapshots = (
            files_by_epoch(self.folder, name).values() for name in ("resume-*.ckpt", "epoch-*.pt")
        )
        return [*points, *self.folder.glob("history.jsonl"), *snapshots]

    def _is_intact(self, epoch: int) -> bool:
        try:
            history = self.history(epoch)
        except CorruptFileError:
            return False
        return (
            len(history) == epoch
            and is_intact(self.resume_path(epoch), sealed=True)
            and all(
                is_intact(self.snapshot_path(kept), sealed=True)
                for kept in self._retained_epochs(history)
            )
        )


def files_by_epoch(folder: Path, pattern: str) -> dict[int, Path]:
    """epoch -> file, of those that `pattern` fits with a number for its *; a copy that someone made
    there is none.
    """
    before, after = pattern.split("*")
    names = {
        path: path.name.removeprefix(before).removesuffix(after) for path in folder.glob(pattern)
    }
    return {int(name): path for path, name in names.items() if name.isascii() and name.isdigit()}


def save_tensors(content: Any, path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_file(path, buffer.getvalue(), embed_checksum=True)


def load_tensors(path: Path) -> Any:
    """Plain containers of tensors, on the CPU; nothing in the file can run code."""
    content = read_file(path, sealed=True)
    with corrupt_file_on_error(path):
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


class ChecksummedCheckpointIO(CheckpointIO):
    """Lightning's checkpoints through our one writing function: whole or not there, and checked
    when read.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        save_tensors(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load_tensors(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)
