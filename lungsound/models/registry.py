"""The registry of networks: `model.name` -> how to build it.

A network maps log-mels [B, 1, F, N] to logits [B, classes]. Its L2 penalty acts on the kernels of
its 2-D convolutions (Nguyen & Pernkopf 2020, section III.C.1), or on what its method
`l2_parameters()` returns if it has one.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from lungsound.models.cnn7 import CNN7, min_input_size

INPUT_ARGUMENTS = ("classes", "bands", "frames", "seed")
COMMON_KEYS = ("name", "l2", "adam_eps", "options")  # of the config group, for any network


@dataclass(frozen=True)
class NetworkSpec:
    """How a network is built, and how small its input may be.

    `build` takes the keyword arguments classes, bands (F), frames (N), seed and the network's
    settings; the initial weights depend on these alone. `min_size` takes the settings and returns
    the smallest F, and N, that the network accepts.
    """

    build: Callable[..., nn.Module]
    min_size: Callable[..., int]

    def check_settings(self, settings: Mapping[str, Any]) -> list[str]:
        """Return one line per setting that is missing or unknown."""
        parameters = dict(inspect.signature(self.build).parameters)
        errors = []
        for name in INPUT_ARGUMENTS:
            parameters.pop(name, None)
        for name, parameter in parameters.items():
            if parameter.default is parameter.empty and name not in settings:
                errors.append(f"{name}: expected a value, but got none")
        for name in settings:
            if name not in parameters:
                errors.append(f"{name}: expected none, as the settings are {list(parameters)}")
        return errors


def _build_cnn7(
    classes: int,
    bands: int,
    frames: int,
    seed: int,
    width: float,
    table1: str,
    bn_momentum: float,
    bn_eps: float,
) -> CNN7:
    """Build the paper's network; it has global pooling and does not use `bands` and `frames`."""
    return CNN7(classes, width, table1, bn_momentum, bn_eps, seed)


def _min_size_cnn7(table1: str, **_: Any) -> int:
    return min_input_size(table1)


NETWORKS = {"cnn7": NetworkSpec(_build_cnn7, _min_size_cnn7)}


def register_network(name: str, spec: NetworkSpec) -> None:
    """Make a network available as `model.name=NAME`."""
    NETWORKS[name] = spec


def network_settings(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the network's own settings of the config group `model`, without those that are null.

    They are the group's keys but for COMMON_KEYS, and those in its `options`.
    """
    own = {name: value for name, value in model.items() if name not in COMMON_KEYS}
    given = {name: value for name, value in own.items() if value is not None}
    given.update(model["options"])
    return given


def l2_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that the L2 penalty acts on."""
    own = getattr(network, "l2_parameters", None)
    if own is not None:
        return list(own())
    kernels = [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    return cast(list[nn.Parameter], kernels)
