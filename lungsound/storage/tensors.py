"""Tensors as safetensors files, with the SHA-256 of their content in the metadata."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from lungsound.storage.files import checksum_error, corrupt_file_on_error, read_file, write_file
from lungsound.storage.keys import canonical_json

METADATA = "__metadata__"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file; equal content gives equal bytes."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    digest = _sha256(on_cpu, metadata)
    content = safetensors.torch.save(on_cpu, {**metadata, "sha256": digest})
    header, data = _split_header(content)
    # safetensors writes the metadata in random order.
    header[METADATA] = dict(sorted(header[METADATA].items()))
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    write_file(path, len(encoded).to_bytes(8, "little") + encoded + data)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors, on the CPU, and the metadata.

    Raises CorruptFileError if anything in the file is not what `write_tensors` wrote.
    """
    content = read_file(path)
    with corrupt_file_on_error(path):
        tensors = safetensors.torch.load(content)
        metadata: dict[str, str] = _split_header(content)[0].get(METADATA, {})
        expected = metadata.pop("sha256", "")
        if _sha256(tensors, metadata) != expected:
            raise checksum_error(path)
    return tensors, metadata


def _split_header(content: bytes) -> tuple[dict[str, dict[str, str]], bytes]:
    start = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:start]), content[start:]


def _sha256(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 of metadata, names, types, shapes and values."""
    layout = {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in tensors.items()}
    digest = hashlib.sha256(canonical_json([dict(metadata), layout]))
    for name in sorted(tensors):
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
