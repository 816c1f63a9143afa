"""Lightning's checkpoints as files that are atomic and checked."""

import io
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from lungsound.storage.files import corrupt_file_on_error, read_file, write_file


class ChecksummedCheckpointIO(TorchCheckpointIO):
    """Writes Lightning's checkpoints atomically, with a checksum that is verified on reading."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a torch file with its checksum in front."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_file(Path(path), buffer.getvalue(), embed_checksum=True)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint, of tensors and plain containers only: no code in it can run."""
        content = read_file(Path(path), embedded_checksum=True)
        file = io.BytesIO(content)
        with corrupt_file_on_error(Path(path)):
            return dict(torch.load(file, map_location="cpu", weights_only=True))
