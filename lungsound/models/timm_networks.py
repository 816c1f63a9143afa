"""The networks of timm (PyTorch Image Models), for one input channel."""

import difflib
from functools import partial
from typing import Any

import timm
import torch
from torch import nn

from lungsound.errors import ConfigError
from lungsound.models.registry import NetworkSpec


def timm_spec(name: str) -> NetworkSpec:
    """Return the network `name` of `timm.list_models()`. Raises LookupError with similar names."""
    if not timm.is_model(name):
        names = difflib.get_close_matches(name, timm.list_models(), cutoff=0)
        raise LookupError(", ".join(names))
    build, check = partial(build_timm, name, False), partial(check_timm, name)
    pretrained = partial(build_pretrained, name)
    return NetworkSpec(build, check=check, pretrained=pretrained, version=timm.__version__)


def build_timm(
    name: str, pretrained: bool, /, classes: int, bands: int, frames: int, seed: int, **options: Any
) -> nn.Module:
    """Build a network; `options` go to `timm.create_model`, and img_size if its input is fixed."""
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        options = {"img_size": (bands, frames), **options}
    # A checkpoint is no option: a finished run is loaded without it.
    given: dict[str, Any] = {"pretrained": pretrained, "checkpoint_path": None, "in_chans": 1}
    network: nn.Module = timm.create_model(name, num_classes=classes, **given, **options)
    return network.to(memory_format=torch.channels_last)  # as fast, or up to 1.8 times faster


def build_pretrained(name: str, /, **arguments: Any) -> nn.Module:
    """Build a network with timm's weights. Raises ConfigError if they cannot be had."""
    try:
        return build_timm(name, True, **arguments)
    except Exception as error:  # the hub's client and timm have their own
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"model.pretrained=true: expected timm's weights of {name}, but got: {reason}. Without "
            "a network: model.checkpoint=FILE"
        ) from error


def check_timm(name: str, /, classes: int, bands: int, frames: int, **options: Any) -> str:
    """Return why the network cannot be built or run, tried without memory and arithmetic."""
    try:
        with torch.device("meta"):
            network = build_timm(name, False, classes, bands, frames, seed=0, **options)
            shape = network(torch.zeros(2, 1, bands, frames)).shape
        problem = "" if shape == (2, classes) else f"outputs {list(shape)}, not [2, {classes}]"
    except Exception as error:  # of a thousand networks
        problem = str(error).partition("\n")[0].rstrip(".") or repr(error)
    remedy = (
        "Choose another model.name or size (features.n_mels, segment), or timm's own arguments, "
        "such as +model.options.img_size=[48,96]"
    )
    if "table1" in options:  # of the paper's network
        remedy = "Add model=timm, which has none of the paper's network's settings"
    what = f"expected a network of timm for log-mels [{bands}, {frames}]"
    return problem and f"{what}, but got: {problem}. {remedy}"
