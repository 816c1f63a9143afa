"""Snapshots as safetensors: `network.*` and `features.*`, with the label order as metadata."""

import json
from pathlib import Path
from typing import Any

from lungsound.storage.files import corrupt_file_on_error
from lungsound.storage.tensors import read_tensors, write_tensors

FORMAT = "lungsound snapshot 1"
PARTS = ("network", "features")


def write_weights(path: Path, snapshot: dict[str, Any]) -> None:
    """Write the result of `SnapshotModule.snapshot`; a run's config.yaml describes its network."""
    tensors = {}
    for part in PARTS:
        for name, tensor in snapshot[part].items():
            tensors[f"{part}.{name}"] = tensor
    label_order = json.dumps(snapshot["label_order"])
    write_tensors(path, tensors, {"format": FORMAT, "label_order": label_order})


def read_weights(path: Path) -> dict[str, Any]:
    """Read a snapshot. Raises CorruptFileError if `write_weights` did not write the file."""
    tensors, metadata = read_tensors(path)
    snapshot: dict[str, Any] = {part: {} for part in PARTS}
    with corrupt_file_on_error(path):
        if metadata["format"] != FORMAT:
            raise ValueError(f"expected the format {FORMAT!r}, but got {metadata['format']!r}")
        snapshot["label_order"] = json.loads(metadata["label_order"])
        for name, tensor in tensors.items():
            part, _, parameter = name.partition(".")
            snapshot[part][parameter] = tensor
    return snapshot
