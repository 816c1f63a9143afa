"""The networks of timm (PyTorch Image Models), for one input channel."""

import difflib
from functools import partial
from typing import Any

import timm
import torch
from torch import nn

from lungsound.errors import ConfigError
from lungsound.models.registry import NetworkSpec


def timm_spec(name: str) -> NetworkSpec | None:
    """Return the network `name` of `timm.list_models()`, perhaps with a tag of its weights."""
    if not timm.is_model(name):
        return None
    return NetworkSpec(
        partial(build_timm, name, False),
        check=partial(check_timm, name),
        pretrained=partial(build_pretrained, name),
        version=f"timm {timm.__version__}",
    )


def nearest_names(name: str) -> list[str]:
    """Return three names that are like `name`."""
    return difflib.get_close_matches(name, timm.list_models(), cutoff=0)


def build_timm(
    name: str, pretrained: bool, /, classes: int, bands: int, frames: int, seed: int, **options: Any
) -> nn.Module:
    """Build a network; `options` go to `timm.create_model`.

    A network whose input size is fixed is built for [bands, frames].
    """
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        options = {"img_size": (bands, frames), **options}
    network: nn.Module = timm.create_model(
        name,
        pretrained=pretrained,
        checkpoint_path=None,  # not among the options: a finished run is loaded without it
        in_chans=1,
        num_classes=classes,
        **options,
    )
    return network


def build_pretrained(name: str, /, **arguments: Any) -> nn.Module:
    """Build a network with weights from timm's hub. Raises ConfigError if they cannot be had."""
    try:
        return build_timm(name, True, **arguments)
    except Exception as error:  # the hub's client and timm have their own
        raise ConfigError(
            f"model.pretrained=true: expected weights of {name} from the network or its cache, but "
            f"got: {first_line(error)}. model.checkpoint=FILE takes them from a file"
        ) from error


def check_timm(name: str, /, classes: int, bands: int, frames: int, **options: Any) -> str:
    """Return why the network cannot be built or run, tried without memory and arithmetic."""
    try:
        with torch.device("meta"):
            network = build_timm(name, False, classes, bands, frames, seed=0, **options)
            shape = tuple(network(torch.zeros(2, 1, bands, frames)).shape)
        if shape == (2, classes):
            return ""
        problem = f"it returns {list(shape)} in place of [2, {classes}]"
    except Exception as error:  # of a thousand networks
        problem = first_line(error)
    return (
        f"expected a network of timm for log-mels of {bands} bands and {frames} frames, but got: "
        f"{problem}. Choose model=timm, another size (features.n_mels, segment), or timm's own "
        "arguments, such as +model.options.img_size=[48,96]"
    )


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
