"""The network against Table I, Glorot's limits, and Keras' momentum and L2."""

import math
from itertools import pairwise

import pytest
import torch
from support.runs import compose_settings
from torch import nn

from lungsound.data.labels import FOUR_CLASS
from lungsound.models.cnn7 import CNN7, block_sizes, min_input_size
from lungsound.signal.features import Features
from lungsound.training.module import SnapshotModule
from lungsound.training.schedule import Annealing

READINGS = ("inputs", "outputs")
TABLE_1 = [50, 48, 23, 21, 10, 8, 3]
PAPER_FILTERS = [64, 128, 128, 256, 256, 512, 512]


def network(option: str = "cnn7", classes: int = 4, seed: int = 0, table1: str = "inputs") -> CNN7:
    """The network of an option of conf/model."""
    model = compose_settings(f"model={option}").model
    return CNN7(classes, model.width, table1, model.bn_momentum, model.bn_eps, seed)


def small(seed: int = 0, table1: str = "inputs") -> CNN7:
    return CNN7(4, 0.03125, table1, 0.99, 1e-3, seed)


def parameters_by_hand(filters: list[int], dense: int, classes: int) -> int:
    blocks = sum(2 * m + 9 * m * n + n for m, n in pairwise([1, *filters]))
    head = 2 * filters[-1] + (filters[-1] * dense + dense) + 2 * dense + (dense * classes + classes)
    return blocks + head


def trainable(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("table1", READINGS)
def test_the_papers_number_of_parameters(table1: str) -> None:
    assert trainable(network(table1=table1)) == 4_916_742
    for option, filters in (
        ("cnn7", PAPER_FILTERS),
        ("cnn7_quarter", [n // 4 for n in PAPER_FILTERS]),
    ):
        for classes in (4, 2):
            by_hand = parameters_by_hand(filters, filters[-1], classes)
            assert trainable(network(option, classes, table1=table1)) == by_hand


@pytest.mark.parametrize("table1", READINGS)
def test_table_1_gives_the_heights_of_inputs_or_of_outputs(table1: str) -> None:
    model = network(table1=table1).eval()
    inputs: list[torch.Size] = []
    outputs: list[torch.Size] = []

    def note(_: nn.Module, arguments: tuple[torch.Tensor], result: torch.Tensor) -> None:
        inputs.append(arguments[0].shape[-2:])
        outputs.append(result.shape[-2:])

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(note)
    assert model(torch.zeros(1, 1, 50, 193)).shape == (1, 4)
    assert [height for height, _ in {"inputs": inputs, "outputs": outputs}[table1]] == TABLE_1
    assert inputs[1:] == outputs[:-1]
    for axis, size in enumerate((50, 193)):
        assert block_sizes(size, table1) == [shape[axis] for shape in (inputs[0], *outputs)]


@pytest.mark.parametrize("table1", READINGS)
def test_the_smallest_picture_passes_and_one_less_does_not(table1: str) -> None:
    model, size = small(table1=table1).eval(), min_input_size(table1)
    assert model(torch.zeros(1, 1, size, size)).isfinite().all()
    for shape in ((size - 1, size), (size, size - 1)):
        with pytest.raises(RuntimeError, match="size"):
            model(torch.zeros(1, 1, *shape))


def test_weights_are_glorot_uniform_and_biases_zero() -> None:
    layers = [layer for layer in network().modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == 7 + 2
    for layer in layers:
        weight = layer.weight
        fan_in, fan_out = weight[0].numel(), weight.shape[0] * weight[0, 0].numel()
        limit, size = math.sqrt(6 / (fan_in + fan_out)), weight.numel()
        # Missed by chance in e^-20 of draws.
        assert limit * (1 - 20 / size) < weight.abs().max() <= limit
        # A uniform draw's variance is limit² / 3; its estimate's own is limit⁴ · 4 / 45 / size.
        deviation = limit**2 * math.sqrt(4 / 45 / size)
        assert abs(weight.square().mean() - limit**2 / 3) < 5 * deviation
        assert not layer.bias.any()


def test_weights_are_a_function_of_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = small(seed=5).state_dict()
    torch.manual_seed(2)
    again, other = small(seed=5).state_dict(), small(seed=6).state_dict()
    for name, values in first.items():
        assert torch.equal(values, again[name])
        drawn = name.endswith("weight") and values.dim() > 1  # a batch normalization's starts at 1
        assert torch.equal(values, other[name]) != drawn


def test_batch_normalization_counts_momentum_as_keras_does() -> None:
    model = CNN7(4, 0.03125, "inputs", bn_momentum=0.9, bn_eps=1e-3, seed=0).train()
    model(torch.full((2, 1, 50, 50), 3.0))
    assert model.blocks[0].running_mean.item() == pytest.approx(0.9 * 0 + 0.1 * 3)
    kinds = nn.BatchNorm2d | nn.BatchNorm1d
    norms = [layer for layer in model.modules() if isinstance(layer, kinds)]
    assert {(layer.momentum, layer.eps) for layer in norms} == {(1 - 0.9, 1e-3)}
    assert len(norms) == 7 + 2


def training(model: CNN7, l2: float) -> SnapshotModule:
    annealing = Annealing("cosine", 2, 2, None, 1e-3, "best", "score", "last")
    features = Features(8000, 64, 64, 16, 0.0, 4000.0, 1e-11, "segment")
    truth = torch.tensor([0])
    return SnapshotModule(features, model, annealing, 1.0, 1, l2, 1e-7, truth, FOUR_CLASS)


def test_l2_is_a_weight_decay_of_twice_that_on_the_kernels_alone() -> None:
    model = small()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    kernels = {f"blocks.{3 * block + 1}.weight" for block in range(7)}
    decay = {}
    for group in training(model, l2=0.25).configure_optimizers().param_groups:
        for parameter in group["params"]:
            decay[names[id(parameter)]] = group["weight_decay"]
    assert decay == {name: 0.5 if name in kernels else 0 for name in names.values()}
