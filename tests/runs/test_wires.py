"""Every wire from the configuration to the scores, against a training written again by hand.

`support.reference` computes in float64 with numpy and plain torch; ours, in float32, must agree
after each step. A config key has a row in `KEYS`: with its value changed, ours must still agree,
and both must differ from the training without the change.
"""

import ast
import copy
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from support.reference import Reference
from support.runs import compose_config

from lungsound.config.schema import Config
from lungsound.runs.build import (
    RunComponents,
    build_components,
    build_period_network,
    build_trainer,
)
from lungsound.runs.predict import predict_members
from lungsound.runs.validation import validate_config
from lungsound.training.average import PeriodAverage
from lungsound.training.module import SnapshotModule
from lungsound.training.snapshots import SnapshotCallback
from lungsound.training.trajectory import Trajectory

BASE: dict[str, Any] = {
    "data.demo_patients": 8,
    "data.demo_cycles": 24,
    "features.sample_rate": 4000,
    "features.n_fft": 256,
    "features.hop": 80,
    "features.n_mels": 48,
    "features.f_min": 0.0,
    "features.f_max": 2000.0,
    "features.floor": 1e-9,
    "features.normalization": "segment",
    "features.roll": True,
    "segment.seconds": 3.0,
    "segment.chunks": 3,
    "padding.mode": "sample",
    "augment.stretch": "phase_vocoder",
    "augment.stretch_rate": [0.8, 1.2],
    "augment.vtlp_copies.normal": 0,
    "augment.vtlp_copies.crackle": 1,
    "augment.vtlp_copies.wheeze": 0,
    "augment.vtlp_copies.both": 1,
    "augment.vtlp_alpha": [0.8, 1.2],
    "augment.vtlp_f_hi": [1000.0, 1500.0],
    "augment.redraw": "once",
    "augment.balance": 0.0,
    "augment.mixup": 0.0,
    "augment.band_mask": 0,
    "augment.frame_mask": 0,
    "model.width": 0.0625,
    "model.table1": "inputs",
    "model.l2": 0.01,
    "model.bn_momentum": 0.8,
    "model.bn_eps": 1e-3,
    "model.adam_eps": 1e-3,  # far above rounding, so that float32 stays beside float64
    "loss.gamma": 1.0,
    "annealing.schedule": "cosine",
    "annealing.cycles": 2,
    "annealing.epochs_per_cycle": 3,
    "annealing.max_lr": 0.003,
    "annealing.select": "best",
    "annealing.monitor": "score",
    "annealing.continue_from": "last",
    "task.classes": 4,
    "trainer.batch_size": 32,
    "trainer.accelerator": "cpu",
    "seed": 3,
    "split.seed": 1,
}
# key, another value, and the epochs after which it must show in the weights
KEYS: list[tuple[str, Any, int]] = [
    ("features.floor", 1e-6, 1),
    ("features.f_min", 200.0, 1),
    ("features.f_max", 1500.0, 1),
    ("features.hop", 75, 1),
    ("features.normalization", "band", 1),
    ("features.normalization", "global", 1),
    ("features.roll", False, 1),
    ("segment.seconds", 3.5, 1),
    ("segment.chunks", 2, 1),
    ("padding.mode", "zero", 1),
    ("padding.mode", "tile", 1),
    ("augment.stretch", "none", 1),
    ("augment.stretch", "resample", 1),
    ("augment.stretch_rate", [0.9, 0.95], 1),
    ("augment.vtlp_copies.normal", 1, 1),
    ("augment.vtlp_copies.wheeze", 1, 1),
    ("augment.vtlp_alpha", [1.05, 1.1], 1),
    ("augment.vtlp_f_hi", [600.0, 700.0], 1),
    ("augment.redraw", "epoch", 1),
    ("augment.balance", 1.0, 1),
    ("augment.balance", 0.5, 1),
    ("augment.mixup", 0.4, 1),
    ("augment.band_mask", 20, 1),
    ("augment.frame_mask", 12, 1),
    ("model.width", 0.03125, 1),
    ("model.table1", "outputs", 1),
    ("model.l2", 0.0, 1),
    ("model.bn_momentum", 0.5, 1),
    ("model.bn_eps", 0.1, 1),
    ("model.adam_eps", 0.1, 1),
    ("loss.gamma", 0.0, 1),
    ("loss.gamma", 2.0, 1),
    ("annealing.max_lr", 0.001, 1),
    ("annealing.schedule", "constant", 2),
    ("annealing.schedule", "one_cosine", 2),
    ("annealing.continue_from", "fresh", 4),
    ("annealing.epochs_per_cycle", 4, 2),
    ("task.classes", 2, 1),
    ("trainer.batch_size", 16, 1),
    ("seed", 4, 1),
    ("split.seed", 2, 1),
]


class Trained(NamedTuple):
    """What ours and the reference came to."""

    config: Config
    parts: RunComponents
    reference: Reference
    spy: "Spy"
    by_hand: list[dict[str, Any]]  # a record per epoch


class Spy(pl.Callback):
    """Notes the rate of each step, the weights after each epoch, and what the network is given.

    The network computes in float64 (gradients of seven batch normalizations in float32 are good to
    a percent), and trains on the reference's inputs once ours are found equal to them.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference, self.inputs_differ_by = reference, 0.0
        self.rates: list[list[float]] = []
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, module: Any) -> None:
        self.rates.append([])
        self.batches = self.reference.batches(trainer.current_epoch + 1)

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        self.rates[-1] += {group["lr"] for group in optimizer.param_groups}

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        state = module.network.state_dict()
        self.weights.append({name: tensor.clone() for name, tensor in state.items()})

    def check_inputs(self, network: torch.nn.Module, arguments: Any) -> torch.Tensor:
        """The network's forward pre-hook."""
        if not network.training:
            return arguments[0].double()
        inputs, _ = next(self.batches)
        difference = (arguments[0] - inputs).abs().max().item()
        self.inputs_differ_by = max(self.inputs_differ_by, difference)
        return inputs


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trained]:
    """`train(epochs, (key, value), ...)`: trains BASE with the changes; all in one store."""
    folder = tmp_path_factory.mktemp("wires")
    overrides = [f"{key}={value}" for key, value in BASE.items()]
    base_config, _ = compose_config(f"store_dir={folder}", *overrides)

    @cache
    def trained(epochs: int, *changes: tuple[str, str]) -> Trained:
        settings, cfg = dict(BASE), copy.deepcopy(base_config)
        for key, text in changes:
            settings[key] = ast.literal_eval(text)
            OmegaConf.update(cfg, key, settings[key])
        config = validate_config(cfg)
        parts = build_components(config)
        own_folder = tmp_path_factory.mktemp("trajectory")  # not that of an equal configuration
        parts = replace(parts, trajectory=Trajectory(own_folder, parts.annealing))
        spy = Spy(reference := make_reference(parts, settings))
        network, average = parts.module.network.double(), None
        if config.annealing.select == "average":
            average = PeriodAverage(parts.module)
            in_double = average.averaged.module.register_forward_pre_hook
            in_double(lambda _, arguments: arguments[0].double())
        network.register_forward_pre_hook(spy.check_inputs)
        new_network = partial(build_period_network, config)
        snapshots = SnapshotCallback(parts.trajectory, "a machine", new_network, average)
        callbacks = [spy, *([average] if average else []), snapshots]
        build_trainer(config, epochs, callbacks).fit(parts.module, parts.datamodule)
        return Trained(config, parts, reference, spy, reference.train(epochs))

    def train(epochs: int, *changes: tuple[str, Any]) -> Trained:
        changed = [(key, repr(value)) for key, value in changes if value != BASE[key]]
        return trained(epochs, *changed)

    return train


def make_reference(parts: RunComponents, settings: dict[str, Any]) -> Reference:
    cycles, samples = parts.cycles[["label", "set", "key"]].copy(), parts.database.store.samples
    bounds = zip(parts.cycles["start_sample"], parts.cycles["end_sample"], strict=True)
    cycles["samples"] = [np.array(samples[start:end]) for start, end in bounds]
    return Reference(cycles, settings)


def distance(ours: dict[str, torch.Tensor], hand: dict[str, torch.Tensor]) -> float:
    """The largest difference of a weight or buffer between two networks; inf for other shapes."""
    if any(ours[name].shape != tensor.shape for name, tensor in hand.items()):
        return float("inf")
    return max((ours[name] - tensor).abs().max().item() for name, tensor in hand.items())


@pytest.mark.parametrize(("key", "value", "epochs"), KEYS)
def test_key_reaches_training(
    train: Callable[..., Trained], key: str, value: Any, epochs: int
) -> None:
    changed, unchanged = train(epochs, (key, value)), train(4)
    by_hand = changed.by_hand[-1]["weights"]
    assert changed.spy.inputs_differ_by < 1e-3
    assert distance(changed.spy.weights[-1], by_hand) < 1e-3
    assert distance(unchanged.spy.weights[epochs - 1], by_hand) > 5e-3


def test_optimizer_has_the_rate_of_eq_1_in_every_step(train: Callable[..., Trained]) -> None:
    base = train(4)
    steps = len(list(base.reference.batches(1)))
    for epoch, rates in enumerate(base.spy.rates, start=1):
        assert rates == pytest.approx([base.reference.learning_rate(epoch)] * steps, rel=1e-12)
    history = base.parts.trajectory.history(4)
    assert [rates[0] for rates in base.spy.rates] == [record["lr"] for record in history]


def test_history_has_the_optimizers_own_rate(
    train: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_another_rate(module: SnapshotModule) -> None:
        for group in module.optimizers().param_groups:
            group["lr"] = 1.5e-3

    monkeypatch.setattr(SnapshotModule, "on_train_epoch_start", set_another_rate)
    assert train(1, ("seed", 5)).parts.trajectory.history(1)[0]["lr"] == 1.5e-3


@pytest.mark.parametrize(
    ("key", "value"),
    [("task.classes", 4), ("task.classes", 2), ("augment.mixup", 0.4), ("augment.frame_mask", 12)],
)
def test_losses_and_validation_scores_are_those_by_hand(
    train: Callable[..., Trained], key: str, value: Any
) -> None:
    """Validation cycles are neither mixed nor masked."""
    trained = train(4, (key, value))
    history = trained.parts.trajectory.history(4)
    for ours, by_hand in zip(history, trained.by_hand, strict=True):
        assert (ours.pop("machine"), ours.pop("period")) == ("a machine", 1 + (ours["epoch"] > 3))
        assert ours == pytest.approx(
            {name: value for name, value in by_hand.items() if name != "weights"}, abs=1e-3
        )


def test_validation_takes_the_mean_of_probabilities_and_not_of_logits(
    train: Callable[..., Trained],
) -> None:
    class OneSureChunkOfThree(torch.nn.Module):
        """Normal with 12 in a segment's first chunk, crackle with 4 in the two others.

        Crackle has the larger mean probability, normal the larger mean logit.
        """

        def forward(self, log_mels: torch.Tensor) -> torch.Tensor:
            chunks = torch.tensor([[12.0, 0, 0, 0], [0, 4.0, 0, 0], [0, 4.0, 0, 0]])
            return chunks.repeat(len(log_mels) // 3, 1)

    trained = train(1)
    network, trained.parts.module.network = trained.parts.module.network, OneSureChunkOfThree()
    trainer = build_trainer(trained.config, epochs=0)
    (metrics,) = trainer.validate(trained.parts.module, trained.parts.datamodule, verbose=False)
    trained.parts.module.network = network
    labels = [cycle["label"] for cycle in trained.reference.sets["val"]]
    assert metrics["val/accuracy"] == pytest.approx(labels.count("crackle") / len(labels))
    assert metrics["val/score_2"] == 0.5


@pytest.mark.parametrize("monitor", ["score", "loss"])
def test_next_period_begins_at_the_best_weights(
    train: Callable[..., Trained], monitor: str
) -> None:
    best = train(4, ("annealing.continue_from", "best"), ("annealing.monitor", monitor))
    assert best.reference.best(best.by_hand[:3])["epoch"] < 3, "best and last must differ"
    assert distance(best.spy.weights[-1], best.by_hand[-1]["weights"]) < 1e-3


def test_average_is_the_mean_of_a_periods_weights(train: Callable[..., Trained]) -> None:
    trained, unchanged = train(6, ("annealing.select", "average")), train(4)
    for name, tensor in unchanged.spy.weights[3].items():  # the training is not disturbed
        assert torch.equal(trained.spy.weights[3][name], tensor)
    for period in (1, 2):
        epochs = trained.by_hand[3 * period - 3 : 3 * period]
        by_hand = trained.reference.average(epochs)
        ours = trained.parts.trajectory.snapshot(3 * period)["network"]
        assert distance(ours, by_hand) < 1e-3
        assert distance(ours, epochs[-1]["weights"]) > 5e-3
        statistics = {name: tensor for name, tensor in by_hand.items() if "running" in name}
        assert distance(epochs[-1]["weights"], statistics) > 5e-3


@pytest.mark.parametrize("select", ["best", "last"])
@pytest.mark.parametrize("classes", [4, 2])
def test_members_have_the_weights_of_the_epoch_that_is_named(
    train: Callable[..., Trained], select: str, classes: int
) -> None:
    trained = train(4, ("task.classes", classes))
    annealing = replace(trained.parts.annealing, select=select)
    epoch = annealing.snapshot_epoch(trained.parts.trajectory.history(4), period=1)
    reference, records = trained.reference, trained.by_hand[:3]
    by_hand = reference.best(records) if select == "best" else records[-1]
    assert epoch == by_hand["epoch"]
    assert reference.best(records)["epoch"] < 3, "best and last must differ"
    weights = trained.parts.trajectory.snapshot_path(epoch)
    table = predict_members(trained.config, trained.parts, [weights], ["val", "test"])
    names = ["normal", "crackle", "wheeze", "both"] if classes == 4 else ["normal", "abnormal"]
    for name, rows in table.groupby("set"):
        means, _ = reference.probabilities(by_hand["weights"], str(name))
        ours = rows[[f"p_{label}" for label in names]].to_numpy()
        np.testing.assert_allclose(ours, means.numpy(), atol=1e-3)
        truth = [names[reference.target(cycle)] for cycle in reference.sets[str(name)]]
        assert rows["label"].tolist() == truth


@pytest.mark.slow
def test_the_runs_members_are_the_weights_after_their_periods_best_epochs(
    run_training: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_epochs: list[dict[str, torch.Tensor]] = []
    snapshot = SnapshotModule.snapshot

    def noted(module: SnapshotModule) -> dict[str, Any]:
        state = module.network.state_dict()
        after_epochs.append({name: tensor.clone() for name, tensor in state.items()})
        return snapshot(module)

    monkeypatch.setattr(SnapshotModule, "snapshot", noted)
    folder = run_training(tmp_path, "annealing.epochs_per_cycle=3", "annealing.max_lr=0.003")
    lines = (folder / "history.jsonl").read_text().splitlines()
    scores = [json.loads(line)["val/score_4"] for line in lines]
    best = [scores.index(max(scores[:3])), 3 + scores[3:].index(max(scores[3:]))]
    assert best != [2, 5], "best and last must differ"
    members = sorted((folder / "members").glob("*.safetensors"))
    for epoch, path in zip(best, members, strict=True):
        stored = load_file(path)
        for name, tensor in after_epochs[epoch].items():
            assert torch.equal(stored[f"network.{name}"], tensor)


def test_options_set_the_values_that_they_stand_for() -> None:
    paper = {"normal": 1, "crackle": 3, "wheeze": 4, "both": 7}
    light = {"normal": 0, "crackle": 1, "wheeze": 1, "both": 2}
    none = dict.fromkeys(paper, 0)
    for option, copies in (("paper", paper), ("light", light), ("none", none)):
        augment = compose_config(f"augment={option}")[0].augment
        assert dict(augment.vtlp_copies) == copies
        assert (augment.stretch == "none") == (option == "none")
        assert list(augment.stretch_rate) == list(augment.vtlp_alpha) == [0.9, 1.1]
        assert list(augment.vtlp_f_hi) == [3200, 3800]
    for option, gamma in (("focal", 1), ("cross_entropy", 0)):
        assert compose_config(f"loss={option}")[0].loss.gamma == gamma
