"""The paper's training, written again by hand: numpy, scipy, librosa and plain torch in float64.

Nothing of `lungsound` is imported. `Reference` takes the waveforms of a split and a flat dict of
config keys, e.g. {"loss.gamma": 1.0}, and has a test compare our weights and scores with its own.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import librosa
import numpy as np
import pandas as pd
import scipy.signal
import soxr
import torch
from torch import Tensor
from torch.nn import functional

Array = Any  # np.ndarray
Cycle = dict[Any, Any]
Weights = dict[str, Tensor]
Item = tuple[Any, ...]
LABELS = ["normal", "crackle", "wheeze", "both"]
STRIDES = {"inputs": "1212121", "outputs": "1121212"}
FILTERS = [64, 128, 128, 256, 256, 512, 512]


def rng(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """The random stream of one draw: (seed, CRC-32 of its purpose, numbers) as 64-bit words."""
    words = np.array([seed, crc32(purpose.encode()), *numbers], dtype="<u8")
    return np.random.default_rng(words.view("<u4"))


class Reference:
    """One split's training; `cycles` has label, set, key and a waveform `samples` for each row."""

    def __init__(self, cycles: pd.DataFrame, settings: dict[str, Any]) -> None:
        self.s, self.cache = settings, dict[Item, Array]()
        self.sets = {name: rows.to_dict("records") for name, rows in cycles.groupby("set")}
        self.classes: int = settings["task.classes"]
        self.statistics = self._statistics()

    # The signal.

    def segments(self, waveform: Array) -> list[Array]:
        """Pieces of L samples; the last one is completed by the config's padding."""
        length = round(self.s["segment.seconds"] * self.s["features.sample_rate"])
        mode, pieces = self.s["padding.mode"], []
        for start in range(0, len(waveform), length):
            piece = waveform[start : start + length]
            missing = length - len(piece)
            if mode == "sample":
                filling = np.tile(waveform, missing // len(waveform) + 1)[:missing]
            elif mode == "zero":
                filling = np.zeros(missing)
            else:  # tile: see the loop of the baseline
                filling, at = np.zeros(missing), len(piece)
                while len(piece) / length < 0.5 and at + len(piece) < length:
                    filling[at - len(piece) : at] = piece
                    at += len(piece)
            pieces.append(np.append(piece, filling))
        return pieces

    def log_mel(self, segment: Array, alpha: float = 1.0, f_hi: float = 1.0) -> Array:
        """log10(mel bank · power spectral density + floor), [bands, frames]."""
        s = self.s
        rate, size = s["features.sample_rate"], s["features.n_fft"]
        _, _, density = scipy.signal.spectrogram(
            segment.astype(np.float64), rate, "hann", size, size - s["features.hop"], detrend=False
        )
        low, high = 2595 * np.log10(1 + np.array([s["features.f_min"], s["features.f_max"]]) / 700)
        mel = np.linspace(low, high, s["features.n_mels"] + 2)
        corners = [self.warp(f, alpha, f_hi) for f in 700 * (10 ** (mel / 2595) - 1)]
        bins = np.arange(size // 2 + 1) * rate / size
        bands = [np.interp(bins, corners[i : i + 3], [0, 1, 0]) for i in range(len(mel) - 2)]
        return np.log10(np.array(bands) @ density + s["features.floor"])

    def warp(self, f: float, alpha: float, f_hi: float) -> float:
        """The VTLP formula of Jaitly & Hinton (2013)."""
        edge = f_hi * min(alpha, 1)
        half: float = self.s["features.sample_rate"] / 2
        if alpha == 1 or f <= edge / alpha:
            return alpha * f
        return half - (half - edge) / (half - edge / alpha) * (half - f)

    def normalize(self, log_mel: Array) -> Array:
        mean, std = self.statistics or (log_mel.mean(), log_mel.std())
        return (log_mel - mean) / std

    def _statistics(self) -> tuple[Array, Array] | None:
        scope = self.s["features.normalization"]
        if scope == "segment":
            return None
        pieces = [
            piece for cycle in self.sets["train"] for piece in self.segments(cycle["samples"])
        ]
        axes = (0, 2) if scope == "band" else (0, 1, 2)
        stacked = np.array([self.log_mel(piece) for piece in pieces])
        return stacked.mean(axes)[..., None], stacked.std(axes)[..., None]

    # The copies and items of training.

    def items(self, epoch: int) -> list[Item]:
        """(cycle, copy, stretched, segment, chunk, segments' samples) in the epoch's order."""
        items: list[Item] = []
        for cycle in self.sets["train"]:
            warps = self.s[f"augment.vtlp_copies.{cycle['label']}"]
            twice = self.s["augment.stretch"] != "none" and cycle["label"] in ("wheeze", "both")
            for copy in range((1 + twice) * (1 + warps)):
                pieces = self.segments(self.waveform(cycle, copy > warps, epoch))
                for number, piece in enumerate(pieces):
                    for chunk in range(self.s["segment.chunks"]):
                        items.append((cycle, copy, copy % (warps + 1) > 0, number, chunk, piece))
        return [items[place] for place in self.order(items, epoch)]

    def order(self, items: list[Item], epoch: int) -> Array:
        """Each item once; with a balance n of n items, rarer classes' more often."""
        draw = rng(self.s["seed"], "order", epoch)
        classes = [self.target(item[0]) for item in items]
        if self.s["augment.balance"] == 0:
            return draw.permutation(len(items))
        chances = np.array([classes.count(one) ** -self.s["augment.balance"] for one in classes])
        return draw.choice(len(items), len(items), p=chances / chances.sum())

    def waveform(self, cycle: Cycle, stretched: bool, epoch: int) -> Array:
        if not stretched:
            return cycle["samples"]
        at = epoch if self.s["augment.redraw"] == "epoch" else 0
        place = ("stretched", cycle["key"], at)
        if place not in self.cache:
            draw = rng(self.s["seed"], "stretch rate", cycle["key"], at)
            rate = draw.uniform(*self.s["augment.stretch_rate"])
            self.cache[place] = self._stretch(cycle["samples"], rate)
        return self.cache[place]

    def _stretch(self, samples: Array, rate: float) -> Array:
        if self.s["augment.stretch"] == "resample":
            result = soxr.resample(samples, rate, 1.0)
        else:
            result = librosa.effects.time_stretch(samples.astype(np.float64), rate=rate)
        return librosa.util.fix_length(result, size=round(len(samples) / rate)).astype(np.float32)

    def train_input(self, item: Item, epoch: int) -> Array:
        """The z-scored log-mel of an item: warped, rolled, and one of its chunks."""
        cycle, copy, warped, number, chunk, piece = item
        seed, key = self.s["seed"], cycle["key"]
        at = epoch if self.s["augment.redraw"] == "epoch" else 0
        place = (key, copy, number, at)
        if place not in self.cache:
            draw, alpha, f_hi = rng(seed, "vtlp", key, copy, at), 1.0, 1.0
            if warped:
                alpha = draw.uniform(*self.s["augment.vtlp_alpha"])
                f_hi = draw.uniform(*self.s["augment.vtlp_f_hi"])
            self.cache[place] = self.normalize(self.log_mel(piece, alpha, f_hi))
        log_mel = self.cache[place]
        if self.s["features.roll"]:
            roll = rng(seed, "roll", key, copy, number, epoch).integers(log_mel.shape[1])
            log_mel = np.roll(log_mel, roll, axis=1)
        return self.chunks(log_mel)[chunk]

    def chunks(self, log_mel: Array) -> list[Array]:
        number = self.s["segment.chunks"]
        size = log_mel.shape[1] // number
        return [log_mel[:, part * size : (part + 1) * size] for part in range(number)]

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs [B, 1, F, N] and shares of the classes [B, K].

        A last batch of one item joins the one before.
        """
        items, size = self.items(epoch), self.s["trainer.batch_size"]
        edges = [*range(0, len(items), size), len(items)]
        if len(items) % size == 1:
            del edges[-2]
        for number, (start, end) in enumerate(itertools.pairwise(edges)):
            inputs = np.array([self.train_input(item, epoch) for item in items[start:end]])
            targets = np.eye(self.classes)[[self.target(item[0]) for item in items[start:end]]]
            if self.s["augment.mixup"]:
                draw = rng(self.s["seed"], "mixup", epoch, number)
                others = draw.permutation(end - start)
                share = draw.beta(self.s["augment.mixup"], self.s["augment.mixup"])
                inputs = share * inputs + (1 - share) * inputs[others]
                targets = share * targets + (1 - share) * targets[others]
            self.mask(inputs, epoch, number)
            yield torch.from_numpy(inputs)[:, None], torch.from_numpy(targets)

    def mask(self, inputs: Array, epoch: int, number: int) -> None:
        """One mask of bands and one of frames per item (Park et al. 2019, section 2)."""
        for name, axis in (("band_mask", 1), ("frame_mask", 2)):
            if widest := self.s[f"augment.{name}"]:
                draw = rng(self.s["seed"], f"{name}", epoch, number)
                widths = draw.integers(0, widest + 1, len(inputs))
                starts = draw.integers(0, inputs.shape[axis] - widths + 1)
                for item, start, width in zip(inputs, starts, widths, strict=True):
                    item.swapaxes(0, axis - 1)[start : start + width] = 0

    def target(self, cycle: Cycle) -> int:
        return min(LABELS.index(cycle["label"]), self.classes - 1)

    # The network.

    def initial_weights(self, period: int = 1) -> Weights:
        """Glorot uniform from the seed, zero biases, batch normalization at its start."""
        seed = self.s["seed"]
        if period > 1:
            seed = int(rng(seed, "period", period).integers(2**31))
        seed = int(rng(seed, "weights").integers(2**31))
        generator = torch.Generator().manual_seed(seed)
        sizes = [1, *(max(1, round(self.s["model.width"] * n)) for n in FILTERS)]
        dense = max(1, round(self.s["model.width"] * 512))
        shapes: dict[str, tuple[int, ...]] = {}
        for block in range(7):
            shapes[f"blocks.{3 * block}"] = (sizes[block],)
            shapes[f"blocks.{3 * block + 1}"] = (sizes[block + 1], sizes[block], 3, 3)
        shapes |= {"blocks.21": (sizes[-1],), "dense.0": (dense, sizes[-1]), "dense.2": (dense,),
                   "dense.3": (self.classes, dense)}  # fmt: skip
        weights: Weights = {}
        for name, shape in shapes.items():
            weights[f"{name}.bias"] = torch.zeros(shape[0])
            if len(shape) == 1:
                weights[f"{name}.weight"] = torch.ones(shape)
                weights[f"{name}.running_mean"] = torch.zeros(shape)
                weights[f"{name}.running_var"] = torch.ones(shape)
            else:
                area = math.prod(shape[2:])
                limit = math.sqrt(6 / (area * (shape[0] + shape[1])))
                drawn = torch.empty(shape).uniform_(-limit, limit, generator=generator)
                weights[f"{name}.weight"] = drawn
        return {name: tensor.double() for name, tensor in weights.items()}

    def logits(self, weights: Weights, x: Tensor, training: bool) -> Tensor:
        """Table I; in training, the running statistics in `weights` move on."""
        strides = STRIDES[self.s["model.table1"]]
        for block, stride in enumerate(strides):
            same = block == 0 and self.s["model.table1"] == "outputs"
            x = self._norm(weights, f"blocks.{3 * block}", x, training)
            name = f"blocks.{3 * block + 1}"
            kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
            x = functional.conv2d(x, kernel, bias, int(stride), int(same)).clamp(min=0)
        x = self._norm(weights, "blocks.21", x, training).mean((2, 3))
        x = (x @ weights["dense.0.weight"].T + weights["dense.0.bias"]).clamp(min=0)
        x = self._norm(weights, "dense.2", x, training)
        return x @ weights["dense.3.weight"].T + weights["dense.3.bias"]

    def _norm(self, weights: Weights, name: str, x: Tensor, training: bool) -> Tensor:
        axes, shape = [0, *range(2, x.dim())], [1, -1, *[1] * (x.dim() - 2)]
        mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        if training:
            momentum = self.s["model.bn_momentum"]  # Keras': the share of the old value
            count = x.numel() // x.shape[1]
            new_mean, new_var = x.mean(axes), x.var(axes, correction=0)
            unbiased = new_var.detach() * count / (count - 1)
            weights[f"{name}.running_mean"] = momentum * mean + (1 - momentum) * new_mean.detach()
            weights[f"{name}.running_var"] = momentum * var + (1 - momentum) * unbiased
            mean, var = new_mean, new_var
        scaled: Tensor = (x - mean.view(shape)) / (var.view(shape) + self.s["model.bn_eps"]).sqrt()
        return scaled * weights[f"{name}.weight"].view(shape) + weights[f"{name}.bias"].view(shape)

    def focal_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Eq. 2 of every item, its mean over the shares of the classes [B, K]."""
        p = torch.softmax(logits, 1)
        losses: Tensor = -((1 - p) ** self.s["loss.gamma"]) * p.log()
        return (targets * losses).sum(1)

    # The training.

    @property
    def period(self) -> int:
        """The epochs of a period; with one cosine all that the ensemble would train."""
        cycles = self.s["annealing.cycles"] if self.s["annealing.schedule"] == "one_cosine" else 1
        epochs: int = cycles * self.s["annealing.epochs_per_cycle"]
        return epochs

    def learning_rate(self, epoch: int) -> float:
        """Eq. 1."""
        period = self.period
        top: float = self.s["annealing.max_lr"]
        if self.s["annealing.schedule"] == "constant":
            return top
        return top / 2 * (math.cos(math.pi * ((epoch - 1) % period) / period) + 1)

    def train(self, epochs: int) -> list[dict[str, Any]]:
        """A record per epoch: weights after it, lr, train/loss, val/loss and validation scores."""
        weights, records, step = self.initial_weights(), [], 0
        names = [name for name in weights if "running" not in name]
        moments = {name: (torch.zeros_like(weights[name]),) * 2 for name in names}
        start = dict(moments)
        period = self.period
        for epoch in range(1, epochs + 1):
            losses = []
            for inputs, targets in self.batches(epoch):
                step += 1
                losses.append(self._step(weights, moments, inputs, targets, epoch, step))
            kept = dict(weights)
            record = {"epoch": epoch, "lr": self.learning_rate(epoch), "weights": kept}
            record["train/loss"] = torch.cat(losses).mean().item()
            records.append(record | self.validate(kept))
            if self.s["annealing.continue_from"] == "best" and epoch % period == 0:
                weights = dict(self.best(records[-period:])["weights"])
            elif self.s["annealing.continue_from"] == "fresh" and epoch % period == 0:
                weights, moments, step = self.initial_weights(epoch // period + 1), dict(start), 0
        return records

    def average(self, records: list[dict[str, Any]]) -> Weights:
        """The mean of the weights after each epoch; batch normalization's statistics are the mean
        over the batches of the last epoch.
        """
        mean = {
            name: torch.stack([record["weights"][name] for record in records]).mean(0)
            for name in records[0]["weights"]
        }
        given = self.s["model.bn_momentum"]
        for number, (inputs, _) in enumerate(self.batches(records[-1]["epoch"])):
            self.s["model.bn_momentum"] = number / (number + 1)
            self.logits(mean, inputs, training=True)
        self.s["model.bn_momentum"] = given
        return mean

    def _step(self, weights: Weights, moments: Any, inputs: Tensor, targets: Tensor,
              epoch: int, step: int) -> Tensor:  # fmt: skip
        """One step of Adam (Kingma & Ba 2015, Algorithm 1); λ·Σw² of kernels is in the loss."""
        leaves = {name: weights[name].clone().requires_grad_() for name in moments}
        merged = {**weights, **leaves}
        losses = self.focal_losses(self.logits(merged, inputs, training=True), targets)
        kernels = [tensor for tensor in leaves.values() if tensor.dim() == 4]
        penalty = sum(kernel.square().sum() for kernel in kernels)
        gradients = torch.autograd.grad(
            losses.mean() + self.s["model.l2"] * penalty, list(leaves.values())
        )
        weights |= {name: tensor for name, tensor in merged.items() if "running" in name}
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
            first = 0.9 * moments[name][0] + 0.1 * gradient
            second = 0.999 * moments[name][1] + 0.001 * gradient**2
            moments[name] = (first, second)
            scale = (second / (1 - 0.999**step)).sqrt() + self.s["model.adam_eps"]
            change = self.learning_rate(epoch) * first / (1 - 0.9**step) / scale
            weights[name] = leaf.detach() - change
        return losses.detach()

    # Validation and members.

    def probabilities(self, weights: Weights, name: str) -> tuple[Tensor, Tensor]:
        """The mean probabilities [cycles, K] of a set's cycles, and the losses of all chunks."""
        means, losses = [], []
        for cycle in self.sets[name]:
            chunks: list[Array] = []
            for piece in self.segments(cycle["samples"]):
                chunks += self.chunks(self.normalize(self.log_mel(piece)))
            logits = self.logits(weights, torch.from_numpy(np.array(chunks))[:, None], False)
            means.append(torch.softmax(logits, 1).mean(0))
            target = torch.eye(self.classes)[self.target(cycle)].double()
            losses.append(self.focal_losses(logits, target.expand(len(chunks), -1)))
        return torch.stack(means), torch.cat(losses)

    def validate(self, weights: Weights) -> dict[str, float]:
        means, losses = self.probabilities(weights, "val")
        truth = torch.tensor([self.target(cycle) for cycle in self.sets["val"]])
        correct, normal = means.argmax(1) == truth, truth == 0
        specificity = correct[normal].double().mean().item()
        found = (means.argmax(1) > 0)[~normal].double().mean().item()
        result = {"val/loss": losses.mean().item(), "val/accuracy": correct.double().mean().item()}
        result["val/score_2"] = (specificity + found) / 2
        if self.classes == 4:
            exact = correct[~normal].double().mean().item()
            result["val/score_4"] = (specificity + exact) / 2
        return result

    def best(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        """The best epoch of a period by the monitor; the earliest of equals."""
        monitor = self.s["annealing.monitor"]
        if monitor == "loss":
            return min(records, key=lambda record: record["val/loss"])
        name = f"score_{self.classes}" if monitor == "score" else monitor
        return max(records, key=lambda record: round(record[f"val/{name}"], 12))
