"""Weights are safetensors files that anyone can read, and a changed bit is noticed."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lungsound.errors import CorruptFileError
from lungsound.storage.tensors import read_tensors, write_tensors
from lungsound.training.weights import read_weights

TENSORS = {
    "weight": torch.linspace(-1, 1, 6).reshape(2, 3),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "nan": torch.tensor([torch.nan]),
}
METADATA = {"format": "some", "label_order": '["normal","crackle"]'}


def assert_equal(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=0, equal_nan=True)


def test_tensors_are_read_by_us_and_by_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    write_tensors(path, TENSORS, METADATA)
    tensors, metadata = read_tensors(path)
    assert_equal(tensors, TENSORS)
    assert_equal(load_file(path), TENSORS)
    assert metadata == METADATA


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """In the length, the header, the metadata and the values; for every one of the bits."""
    path = tmp_path / "file.safetensors"
    write_tensors(path, TENSORS, METADATA)
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=r"file\.safetensors"):
            read_tensors(path)
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        with pytest.raises(CorruptFileError):
            read_tensors(path)


def test_equal_tensors_are_equal_files_in_every_process(tmp_path: Path) -> None:
    """safetensors itself writes the metadata in an order of chance."""
    code = (
        "import torch; from pathlib import Path; "
        "from lungsound.storage.tensors import write_tensors; "
        "write_tensors(Path({!r}), {{'a': torch.ones(2)}}, {{k: k for k in 'abcdefgh'}})"
    )
    exec(code.format(str(tmp_path / "here")))
    subprocess.run([sys.executable, "-c", code.format(str(tmp_path / "there"))], check=True)
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


def test_another_programs_file_is_no_snapshot(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "file.safetensors", METADATA)
    with pytest.raises(CorruptFileError, match="checksum"):
        read_weights(tmp_path / "file.safetensors")
    write_tensors(tmp_path / "file.safetensors", TENSORS, METADATA)
    with pytest.raises(CorruptFileError, match="expected the format"):
        read_weights(tmp_path / "file.safetensors")
