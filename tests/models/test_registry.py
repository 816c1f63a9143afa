"""The registry of networks, and a network that is added without touching ours."""

import importlib
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from support.runs import ROOT, compose_settings
from torch import nn

from lungsound.errors import ConfigError
from lungsound.models import registry
from lungsound.models.registry import (
    NETWORKS,
    NetworkSpec,
    find_network,
    l2_parameters,
    network_package,
)
from lungsound.runs.build import build_components
from lungsound.runs.inputs import build_network

# What a contributor writes: CONTRIBUTING.md shows the same file.
PACKAGE = textwrap.dedent(
    '''
    """The mean of each band over time, and one linear layer."""

    import torch
    from torch import nn

    from lungsound.models.registry import NetworkSpec, register_network


    class BandMeans(nn.Module):
        def __init__(self, classes, bands, frames, seed, hidden):
            super().__init__()
            generator = torch.Generator().manual_seed(seed)
            self.hidden, self.output = nn.Linear(bands, hidden), nn.Linear(hidden, classes)
            for layer in (self.hidden, self.output):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                nn.init.zeros_(layer.bias)

        def forward(self, log_mels):
            return self.output(torch.relu(self.hidden(log_mels.mean((1, 3)))))

        def l2_parameters(self):
            return [self.hidden.weight]


    register_network("band_means", NetworkSpec(BandMeans, min_size=lambda **_: 1))
    '''
)
OURS = ("width", "table1", "bn_momentum", "bn_eps")
BAND_MEANS = ("model.name=band_means", *(f"model.{name}=null" for name in OURS))
HIDDEN = "+model.options.hidden=3"


@pytest.fixture
def band_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package = tmp_path / "their_networks"
    package.mkdir()
    (package / "__init__.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("their_networks")
    yield
    del NETWORKS["band_means"], sys.modules["their_networks"]


@pytest.mark.usefixtures("band_means")
def test_a_network_of_another_package_trains(
    run_training: Callable[..., Path], tmp_path: Path
) -> None:
    small = ("annealing.cycles=1", "annealing.epochs_per_cycle=1", "features.n_mels=12")
    folder = run_training(tmp_path / "run", *BAND_MEANS, HIDDEN, *small)
    predictions = pd.read_parquet(folder / "predictions.parquet")
    columns = ["p_normal", "p_crackle", "p_wheeze", "p_both"]
    assert predictions[columns].sum(axis=1).to_numpy() == pytest.approx(1)
    assert predictions[columns].std().min() > 0


@pytest.mark.usefixtures("band_means")
def test_l2_acts_on_what_the_network_names(tmp_path: Path) -> None:
    overrides = (*BAND_MEANS, HIDDEN, "model.l2=0.25", f"store_dir={tmp_path}")
    module = build_components(compose_settings("experiment=tiny", *overrides)).module
    decayed, others = module.configure_optimizers().param_groups
    assert decayed["weight_decay"] == 0.5
    assert [parameter is module.network.hidden.weight for parameter in decayed["params"]] == [True]
    assert others["weight_decay"] == 0
    assert len(others["params"]) == len(list(module.network.parameters())) - 1


@pytest.mark.usefixtures("band_means")
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (BAND_MEANS, r"model\.hidden: expected a value"),
        ((*BAND_MEANS, HIDDEN, "model.width=1"), r"model\.width: expected none"),
        (("model.width=null",), r"model\.width: expected a value"),
        (("+model.options.depth=3",), r"model\.depth: expected none"),
        (("model.name=resnet",), r"model\.name: expected one of cnn7, band_means, .* 'resnet'"),
    ],
)
def test_settings_must_be_the_networks_own(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_settings("experiment=tiny", *overrides)


def test_a_network_of_an_installed_package_needs_no_registration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs.py").write_text(
        "from torch import nn\n\n\n"
        "def small(bands, frames, **_):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(bands * frames, 4))\n"
    )
    installed = tmp_path / "their_networks-1.2.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: their-networks\nVersion: 1.2\n"
    )
    (installed / "entry_points.txt").write_text("[lungsound.networks]\nsmall = theirs:small\n")
    monkeypatch.syspath_prepend(tmp_path)
    settings = compose_settings("experiment=tiny", "model=own", "model.name=small")
    weights = [next(build_network(settings).parameters()) for _ in range(2)]
    assert torch.equal(*weights)  # though torch's generator went on
    assert find_network("small").version == "their-networks 1.2"


def test_the_guides_network_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (ROOT / "docs" / "own_network.md").read_text()
    (code,) = re.findall(r"```python\n# mine\.py\n(.*?)```", guide, re.DOTALL)
    monkeypatch.setattr(registry, "NETWORKS", NETWORKS.copy())
    exec(code, {"__name__": "mine"})
    words = ("model=own", "model.name=small", "+model.options.width=8")
    network = build_network(compose_settings("experiment=tiny", *words))
    assert network(torch.zeros(2, 1, 50, 85)).shape == (2, 4)
    assert sum(weight.numel() for weight in network.parameters()) == 8 * 25 + 8 + 8 * 4 + 4


def takes_colors(classes: int, bands: int, frames: int, seed: int) -> nn.Module:
    return nn.Conv2d(3, classes, 1)


def has_three_outputs(classes: int, bands: int, frames: int, seed: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(bands * frames, 3))


def keeps_the_rank(classes: int, bands: int, frames: int, seed: int) -> nn.Module:
    return nn.Linear(frames, classes)


def takes_classes_alone(classes: int) -> nn.Module:
    return nn.Linear(2, classes)


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (takes_colors, r"3 channels, but got 1 channels instead"),
        (has_three_outputs, r"outputs \[2, 3\]"),
        (keeps_the_rank, r"outputs \[2, 1, 50, 4\]"),
        (takes_classes_alone, r"takes_classes_alone\(\) got an unexpected keyword argument 'seed'"),
    ],
)
def test_a_network_that_cannot_take_the_input_is_refused(
    build: Callable[..., nn.Module], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NETWORKS, "wrong", NetworkSpec(build))
    what = (
        r"model\.name=wrong: expected a network from log-mels \[2, 1, 50, 85\] to logits \[2, 4\]"
    )
    with pytest.raises(ConfigError, match=rf"{what}, but got: .*{problem}"):
        compose_settings("experiment=tiny", "model=own", "model.name=wrong")


def dropout_network(classes: int, bands: int, frames: int, seed: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(bands * frames, classes))


def test_a_resumed_training_drops_out_the_same(
    run_training: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NETWORKS, "dropout", NetworkSpec(dropout_network))
    words = ("model=own", "model.name=dropout", "model.width=null", "augment=none")
    words += ("annealing.epochs_per_cycle=1",)
    run_training(tmp_path / "resumed", *words, "annealing.cycles=1")
    torch.rand(7)
    runs = [run_training(tmp_path / name, *words) for name in ("resumed", "straight")]
    resumed, straight = (pd.read_parquet(run / "predictions.parquet") for run in runs)
    pd.testing.assert_frame_equal(resumed, straight, check_exact=True)


def test_l2_acts_on_the_kernels_of_convolutions_by_default() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    assert [parameter is network[0].weight for parameter in l2_parameters(network)] == [True]
    assert network(torch.zeros(2, 1, 4, 4)).shape == (2, 2)


def test_the_package_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (network_package("cnn7"), network_package("resnet18")) == ("", "timm")
    monkeypatch.setitem(NETWORKS, "mine", NETWORKS["cnn7"])
    with pytest.raises(ConfigError, match=r"model\.name=mine: expected a network of an installed"):
        network_package("mine")
