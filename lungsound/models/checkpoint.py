"""A network's initial weights from a file."""

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from lungsound.errors import ConfigError


def load_checkpoint(network: nn.Module, path: Path) -> list[str]:
    """Load the tensors that file and network share; return a line per other tensor of either.

    A layer for three channels becomes one for a single channel, as timm does it: by its sum. Raises
    ConfigError if the file cannot be read, or shares none.
    """
    shared, others = {}, []
    stored, own = read_checkpoint(path), network.state_dict()
    for name in {**own, **stored}:
        theirs, ours = stored.get(name), own.get(name)
        if theirs is not None and ours is not None:
            if theirs.shape[1:2] == (3,) and ours.shape[1:2] == (1,):
                theirs = theirs.sum(1, keepdim=True)
            if theirs.shape == ours.shape:
                shared[name] = theirs
                continue
        others.append(f"{name}: {_shape(theirs)} in the file, {_shape(ours)} in the network")
    if not shared:
        raise ConfigError(
            f"model.checkpoint={path}: expected weights of the network, but none fits: {others[0]}"
        )
    network.load_state_dict(shared, strict=False)
    return others


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, such as a run's member, or one of `torch.save`."""
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
        content = content.get("state_dict", content.get("model", content))
        items = [(name.removeprefix("network."), value) for name, value in content.items()]
    except Exception as error:  # each format has its own
        raise ConfigError(
            f"model.checkpoint={path}: expected weights in safetensors, or from torch.save without "
            f"code, but got {error!r:.200}"
        ) from error
    return {name: value for name, value in items if isinstance(value, Tensor)}


def _shape(tensor: Tensor | None) -> str:
    return "none" if tensor is None else str(list(tensor.shape))
