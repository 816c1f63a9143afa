"""Whether two runs came to the same bits."""

from pathlib import Path

import torch
from safetensors.torch import load_file


def result_bytes(folder: Path) -> dict[str, bytes]:
    """The files of a run that hold what its training came to."""
    names = ("split.csv", "history.jsonl", "predictions.parquet", "scores.json")
    return {name: (folder / name).read_bytes() for name in names}


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Every tensor of every stored snapshot, by the snapshot's file name."""
    trajectories = folder.parents[1] / "store" / "trajectories"
    paths = sorted(trajectories.glob("*/epoch-*.safetensors"))
    assert paths
    return {path.name: load_file(path) for path in paths}


def assert_identical_runs(folder: Path, other: Path) -> None:
    """Bit for bit: weights, history, predictions, scores."""
    mine, theirs = weights(folder), weights(other)
    assert mine.keys() == theirs.keys()
    for name, tensors in mine.items():
        assert tensors.keys() == theirs[name].keys()
        for key, tensor in tensors.items():
            torch.testing.assert_close(tensor, theirs[name][key], rtol=0, atol=0, equal_nan=True)
    assert result_bytes(folder) == result_bytes(other)
