"""One step on CUDA tensors without a GPU: fake ones, with shapes and devices and no numbers.

A tensor on another device raises there, and so does every wait of the host for a number of the
device (`.item()`).
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from lungsound.data.labels import label_set
from lungsound.models.cnn7 import CNN7
from lungsound.signal.features import NORMALIZATION_AXES, Features
from lungsound.training.batches import Batch
from lungsound.training.losses import focal_loss
from lungsound.training.module import SnapshotModule
from lungsound.training.schedule import Annealing

BATCH, SAMPLES, CHUNKS, CYCLES = 6, 66_000, 2, 4
ANNEALING = Annealing("cosine", 2, 2, None, 1e-3, "best", "score", "last")


@pytest.fixture
def on_cuda() -> Iterator[None]:
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def module_on_cuda(normalization: str, table1: str = "inputs", classes: int = 4) -> SnapshotModule:
    """Inside a fake mode: made on the CPU, with numbers, and moved, as Lightning does."""
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        features = Features(22_000, 512, 512, 50, 0.0, 7500.0, 1e-11, normalization)
        network = CNN7(classes, 0.0625, table1, bn_momentum=0.9, bn_eps=1e-5, seed=0)
        truth = torch.arange(CYCLES) % classes, label_set(classes)
        module = SnapshotModule(features, network, ANNEALING, 1.0, CHUNKS, 0.001, 1e-8, *truth)
    return module.to("cuda")


def batch_on_cuda() -> Batch:
    def whole_numbers(high: int) -> torch.Tensor:
        return torch.randint(high, (BATCH,), device="cuda")

    return {
        "waveforms": torch.randn(BATCH, SAMPLES, device="cuda"),
        "alpha": torch.rand(BATCH, device="cuda"),
        "f_hi": torch.rand(BATCH, device="cuda"),
        "roll": whole_numbers(80),
        "chunk": whole_numbers(CHUNKS),
        "target": whole_numbers(2),
        "cycle": whole_numbers(CYCLES),
        "partner": whole_numbers(BATCH),
        "share": torch.rand((), device="cuda"),
        "band_mask": torch.randint(50, (BATCH, 2), device="cuda"),
        "frame_mask": torch.randint(50, (BATCH, 2), device="cuda"),
    }


def backward(loss: torch.Tensor) -> None:
    """What loss.backward() does: torch's own threads for it refuse to start without a GPU."""
    waiting: dict[Any, dict[int, torch.Tensor]] = {loss.grad_fn: {0: torch.ones_like(loss)}}
    while waiting:
        leaves = [node for node in waiting if hasattr(node, "variable")]
        # The latest operation first: nothing that is still to come adds to its gradients.
        node = leaves[0] if leaves else max(waiting, key=lambda node: node._sequence_nr())
        gradients = waiting.pop(node)
        if leaves:
            new, old = gradients[0].sum_to_size(node.variable.shape), node.variable.grad
            node.variable.grad = new if old is None else old + new
            continue
        outputs = node(*(gradients.get(place) for place in range(max(gradients) + 1)))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        for output, (parent, place) in zip(outputs, node.next_functions, strict=True):
            if parent is not None and output is not None:
                known = waiting.setdefault(parent, {})
                known[place] = known[place] + output if place in known else output


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.parametrize("table1", ["inputs", "outputs"])
@pytest.mark.parametrize("normalization", NORMALIZATION_AXES)
def test_a_training_step_stays_on_its_device(
    on_cuda: None, normalization: str, table1: str
) -> None:
    module, batch = module_on_cuda(normalization, table1), batch_on_cuda()
    optimizer = module.configure_optimizers()
    for group in optimizer.param_groups:
        assert group["fused"]
        group["fused"] = False  # its kernel needs a driver
    for _ in range(2):  # the second finds Adam's moments
        optimizer.zero_grad()
        loss = module.training_step(batch, 0)
        with torch.no_grad():
            backward(loss)
        assert all(parameter.grad is not None for parameter in module.parameters())
        optimizer.step()
    assert loss.device.type == "cuda"
    tensors = [*module.parameters(), *module.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"cuda"}


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.parametrize("classes", [4, 2])
def test_a_validation_step_stays_on_its_device(on_cuda: None, classes: int) -> None:
    module, batch = module_on_cuda("segment", classes=classes), batch_on_cuda()
    with torch.no_grad():
        loss = module.validation_step(batch, 0)
        probabilities, cycle = module.predict_step(batch)
    scores = module.validation_scores
    for tensor in (loss, scores.sums, scores.chunks, probabilities, cycle):
        assert tensor.device.type == "cuda"


@pytest.mark.parametrize("normalization", ["band", "global"])
def test_statistics_are_fitted_on_the_device(on_cuda: None, normalization: str) -> None:
    features = module_on_cuda(normalization).features
    features.fit_statistics([batch_on_cuda()["waveforms"]] * 2)
    assert features.std.device.type == "cuda"


def test_backward_is_torchs_own() -> None:
    network = CNN7(4, 0.0625, "inputs", bn_momentum=0.9, bn_eps=1e-5, seed=0)
    log_mels, target = torch.randn(3, 1, 50, 60), torch.tensor([0, 2, 3])
    focal_loss(network(log_mels), target, 1.0).backward()
    expected = [parameter.grad for parameter in network.parameters()]
    network.zero_grad()
    loss = focal_loss(network(log_mels), target, 1.0)
    with torch.no_grad():
        backward(loss)
    ours = [parameter.grad for parameter in network.parameters()]
    torch.testing.assert_close(ours, expected)


def test_what_these_tests_would_see(on_cuda: None) -> None:
    """A tensor left on the CPU, and two waits for the device."""
    here, there = torch.arange(3), torch.arange(3, device="cuda")
    with pytest.raises(RuntimeError, match=r"two .*devices"):
        here + there
    with pytest.raises(DataDependentOutputException):
        there.sum().item()
    with pytest.raises(DynamicOutputShapeException):
        there.bincount()
