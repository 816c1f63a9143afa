"""A network's initial weights from a file."""

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from lungsound.errors import ConfigError


def load_checkpoint(network: nn.Module, path: Path) -> list[str]:
    """Load the tensors whose names and shapes the network has; return a line per other one.

    A first layer for three channels becomes one for a single channel, as timm does it: by its sum.
    Raises ConfigError if the file cannot be read, or none of its tensors fits.
    """
    own, loaded, lines = network.state_dict(), {}, []
    for name, stored in read_checkpoint(path).items():
        if name not in own:
            lines.append(f"{name}: the network has none")
            continue
        is_color = own[name].shape[1:2] == (1,) and stored.shape[1:2] == (3,)
        tensor = stored.sum(1, keepdim=True) if is_color else stored
        if tensor.shape == own[name].shape:
            loaded[name] = tensor
        else:
            shapes = f"{list(stored.shape)} in the file, {list(own[name].shape)} in the network"
            lines.append(f"{name}: {shapes}")
    if not loaded:
        raise ConfigError(
            f"model.checkpoint={path}: expected weights of the network (such as "
            f"{next(iter(own))}), but none fits: {'; '.join(lines[:3])}"
        )
    network.load_state_dict(loaded, strict=False)
    missing = own.keys() - loaded.keys() - {line.partition(":")[0] for line in lines}
    return [*lines, *(f"{name}: the file has none" for name in own if name in missing)]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, a member of a run, or a file of `torch.save`.

    Raises ConfigError if it is neither, or needs code to be read.
    """
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
        content = content.get("state_dict", content.get("model", content))
        tensors = {name.removeprefix("network."): value for name, value in content.items()}
    except Exception as error:  # each format has its own
        raise ConfigError(
            f"model.checkpoint={path}: expected weights in safetensors, or from torch.save without "
            f"code, but got: {str(error).splitlines()[0]}"
        ) from error
    return {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
