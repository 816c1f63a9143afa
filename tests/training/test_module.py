"""The training step: of a compiled network, and of items that are mixed and masked."""

from functools import partial

import numpy as np
import pytest
import torch

from lungsound.data.labels import FOUR_CLASS
from lungsound.models.cnn7 import CNN7
from lungsound.signal.features import Features
from lungsound.training.batches import Batch
from lungsound.training.module import SnapshotModule
from lungsound.training.schedule import Annealing

ANNEALING = Annealing("cosine", 2, 2, None, 1e-3, "best", "score", "last")


def make_module() -> SnapshotModule:
    network = CNN7(4, 0.0625, "inputs", bn_momentum=0.9, bn_eps=1e-5, seed=0)
    features = Features(22_000, 512, 512, 50, 0.0, 7500.0, 1e-11, "segment")
    truth = torch.tensor([0])
    return SnapshotModule(features, network, ANNEALING, 1.0, 2, 0.001, 1e-8, truth, FOUR_CLASS)


def random_batch(items: int) -> Batch:
    generator = torch.Generator().manual_seed(items)
    numbers = partial(torch.randint, size=(items,), generator=generator)
    log_mels = torch.randn(items, 50, 128, generator=generator)
    return {
        "log_mels": log_mels, "roll": numbers(100), "chunk": numbers(2), "target": numbers(4)
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_a_compiled_network_has_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = torch.compile

    def compile_without_code(forward, *, mode, dynamic):  # type: ignore[no-untyped-def]
        """The graphs of torch.compile, run by torch's own kernels: no compiler is needed."""
        assert mode == "reduce-overhead"
        return captured(forward, backend="aot_eager", dynamic=dynamic, fullgraph=True)

    monkeypatch.setattr(torch, "compile", compile_without_code)
    plain, compiled = make_module(), make_module()
    compiled.compile_network()
    for items in (6, 6, 3):  # the last batch of an epoch has fewer
        losses = [module.training_step(random_batch(items), 0) for module in (plain, compiled)]
        torch.testing.assert_close(*losses)
        for loss in losses:
            loss.backward()
    torch.testing.assert_close(
        [p.grad for p in compiled.parameters()], [p.grad for p in plain.parameters()]
    )
    # The statistics of batch normalization are among them.
    torch.testing.assert_close(dict(compiled.state_dict()), dict(plain.state_dict()))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.parametrize("has_teacher", [False, True])
def test_the_loss_of_mixed_items_is_the_mean_of_both_losses(has_teacher: bool) -> None:
    module, batch = make_module(), random_batch(6)
    partner, share = np.array([3, 0, 5, 1, 2, 4]), 0.3
    truth = np.eye(4)[batch["target"]]
    if has_teacher:
        truth = np.random.default_rng(0).dirichlet(np.ones(4), 6)
        batch["teacher"] = torch.from_numpy(truth)
    plain = module.train_inputs(batch).numpy()
    mixed = share * plain + (1 - share) * plain[partner]
    mixed[:, 7:9], mixed[:, :, 20:25] = 0, 0
    batch |= {"partner": torch.from_numpy(partner), "share": torch.tensor(share)}
    batch |= {"band_mask": torch.tensor([[7, 9]] * 6), "frame_mask": torch.tensor([[20, 25]] * 6)}
    loss = module.training_step(batch, 0)
    logits = module.network(torch.from_numpy(mixed)[:, None]).detach().double().numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    losses = -np.log(p) * (1 if has_teacher else 1 - p)  # cross entropy; Eq. 2 with gamma 1
    shares = share * truth + (1 - share) * truth[partner]
    assert loss.item() == pytest.approx((shares * losses).sum(1).mean(), rel=1e-4)
