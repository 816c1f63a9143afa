"""A network's initial weights from a file."""

import re
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from lungsound.errors import ConfigError

WRAPPERS = ("state_dict", "model_state_dict", "model")  # what others call the weights in a file
PREFIX = re.compile(r"^(module\.)?(network\.)?")  # of DataParallel, and of a run's members


def load_checkpoint(network: nn.Module, path: Path) -> list[str]:
    """Load the tensors that file and network share; return a line per other tensor of either.

    A layer for three channels becomes one for a single channel, as timm does it: by its sum. Raises
    ConfigError if the file cannot be read, shares no layer's weights, or has some not finite.
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
    if not any(tensor.ndim >= 2 for tensor in shared.values()):  # biases alone fit by chance
        raise ConfigError(
            f"model.checkpoint={path}: expected weights of the network, but no layer's fit: "
            f"{others[0]} (the file has, for example, {next(iter(stored), 'nothing')})"
        )
    for name, tensor in shared.items():
        if not tensor.isfinite().all():
            raise ConfigError(
                f"model.checkpoint={path}: expected finite weights, but {name} has NaN or infinity"
            )
    network.load_state_dict(shared, strict=False)
    return others


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, such as a run's member, or one of `torch.save`."""
    cause: Exception
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
        for key in WRAPPERS:
            content = content.get(key, content)
        tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
        return {PREFIX.sub("", name): value for name, value in tensors.items()}
    except AttributeError as error:
        found, cause = f"a {type(content).__name__}", error
    except Exception as error:  # each format has its own
        found, cause = "a file of another kind, or a damaged one", error
        if type(error).__name__ == "UnpicklingError":  # by name: nothing here imports pickle
            found = "other objects, such as a whole model (save its state_dict())"
    raise ConfigError(
        f"model.checkpoint={path}: expected weights (safetensors, or a state_dict saved by "
        f"torch.save), but got {found}"
    ) from cause


def _shape(tensor: Tensor | None) -> str:
    return "none" if tensor is None else str(list(tensor.shape))
