"""The registry of networks: `model.name` -> how to build it. Other names are timm's.

A network maps log-mels [B, 1, F, N] to logits [B, classes]. Its L2 penalty acts on the kernels of
its 2-D convolutions (Nguyen & Pernkopf 2020, section III.C.1), or on what its method
`l2_parameters()` returns if it has one.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, cast

import torch
from torch import nn

from lungsound.errors import ConfigError
from lungsound.models.cnn7 import CNN7, min_input_size

INPUT_ARGUMENTS = ("classes", "bands", "frames", "seed")
# Of the config group, for any network.
COMMON_KEYS = ("name", "l2", "adam_eps", "options", "checkpoint", "pretrained")


@dataclass(frozen=True)
class NetworkSpec:
    """How a network is built, and which input it accepts.

    `build` takes the keyword arguments classes, bands (F), frames (N), seed and the network's
    settings; so does `pretrained`, with published weights. `min_size` takes the settings and
    returns the smallest F, and N; `check` takes all but seed and returns what is wrong, or "":
    without it, a batch is tried.
    Another `version` of code outside this package is another training.
    """

    build: Callable[..., nn.Module]
    min_size: Callable[..., int] = lambda **_: 1
    check: Callable[..., str] | None = None
    pretrained: Callable[..., nn.Module] | None = None
    version: str = ""

    def create(self, seed: int, pretrained: bool = False, **arguments: Any) -> nn.Module:
        """Build the network: its initial weights depend on the arguments of `build` alone.

        With `pretrained` the published ones, if there are any, but for the layers that they lack.
        """
        build = self.pretrained if pretrained and self.pretrained else self.build
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return build(seed=seed, **arguments)

    def check_input(self, **arguments: Any) -> str:
        """Return why the network cannot take log-mels [2, 1, F, N], or ""; takes all but seed."""
        if self.check is not None:
            return self.check(**arguments)
        size, expected = (2, 1, arguments["bands"], arguments["frames"]), [2, arguments["classes"]]
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                found = list(self.create(seed=0, **arguments)(torch.zeros(size)).shape)
            problem = "" if found == expected else f"outputs {found}"
        except Exception as error:  # of anyone's code
            problem = str(error).partition("\n")[0].rstrip(".") or repr(error)
        what = f"expected a network from log-mels {list(size)} to logits {expected}"
        return problem and f"{what}, but got: {problem}"

    def check_settings(self, settings: Mapping[str, Any]) -> list[str]:
        """Return one line per setting that is missing or unknown."""
        parameters, takes_others = {}, False
        for name, parameter in inspect.signature(self.build).parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                takes_others = True
            elif name not in INPUT_ARGUMENTS:
                parameters[name] = parameter
        errors = []
        for name, parameter in parameters.items():
            if parameter.default is parameter.empty and name not in settings:
                errors.append(f"{name}: expected a value, but got none")
        for name in settings:
            if name not in parameters and not takes_others:
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
OURS = tuple(NETWORKS)


def register_network(name: str, spec: NetworkSpec) -> None:
    """Make a network available as `model.name=NAME`."""
    NETWORKS[name] = spec


def find_network(name: str) -> NetworkSpec:
    """Return the network `name`: a registered one, another package's, or timm's.

    Raises ConfigError if there is none.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    for entry in entry_points(group="lungsound.networks", name=name):  # of installed packages
        version = f"{entry.dist.name} {entry.dist.version}" if entry.dist else ""
        return NetworkSpec(entry.load(), version=version)
    try:
        from lungsound.models.timm_networks import timm_spec

        return timm_spec(name)
    except ModuleNotFoundError:
        others = "with lungsound[timm] installed, of timm's"
    except LookupError as error:
        others = f"of timm's, such as {error}"
    raise ConfigError(
        f"model.name: expected one of {', '.join(NETWORKS)}, or {others}, but got {name!r}. Import "
        "the module that registers a network of your own first"
    )


def network_package(name: str) -> str:
    """Return the installed package that a network is from, "" for this one.

    Raises ConfigError if it is from a module that was imported here: another process lacks it.
    """
    if name in OURS:
        return ""
    for entry in entry_points(group="lungsound.networks", name=name):
        return entry.dist.name if entry.dist else ""
    if name in NETWORKS:
        raise ConfigError(
            f"model.name={name}: expected a network of an installed package, but a module that was "
            "imported here registers it: install it as a package with the entry point "
            "lungsound.networks"
        )
    return "timm"


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
