"""Datasets of batches of waveforms: what workers do, so that a device gets whole batches."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lungsound.data.store import WaveformStore
from lungsound.signal.copies import draw_rate, draw_roll, draw_warp, plan_copies
from lungsound.signal.mixup import draw_mixup
from lungsound.signal.rng import make_rng
from lungsound.signal.segments import SegmentSpec, cut_segment, segment_count
from lungsound.signal.specaugment import draw_masks
from lungsound.signal.stretch import stretched_length, time_stretch

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Augmentation:
    """The copies of the training cycles (the paper's III.B), and how an epoch uses them.

    `roll`: log-mels are rolled. `balance`: of `draw_order`. `mixup`: its α, 0 for none. `band_mask`
    and `frame_mask`: the widest SpecAugment mask, 0 for none, of log-mels with `bands`.
    """

    stretch: str
    stretch_rate: tuple[float, float]
    vtlp_copies: dict[str, int]
    vtlp_alpha: tuple[float, float]
    vtlp_f_hi: tuple[float, float]
    redraw: str
    roll: bool
    balance: float = 0.0
    mixup: float = 0.0
    band_mask: int = 0
    frame_mask: int = 0
    bands: int = 0


class Copy(NamedTuple):
    """A row of `plan_copies`. Workers that are not forked get it pickled."""

    row: int
    copy: int
    stretched: bool
    warped: bool


class BatchDataset(Dataset[Batch], ABC):
    """Batches of segments.

    `segments` has a row for each segment of the set, `batches[number]` the numbers of its items.
    With `log_mels`, those of all segments [S, F, N], a batch has these and no waveforms.
    """

    segments: NDArray[np.int64]
    batches: list[NDArray[np.int64]]

    def __init__(
        self,
        cycles: pd.DataFrame,
        store: WaveformStore,
        cutting: SegmentSpec,
        log_mels: Tensor | None = None,
    ) -> None:
        self.store, self.cutting, self.log_mels = store, cutting, log_mels
        self.starts, self.ends = cycles["start_sample"].to_numpy(), cycles["end_sample"].to_numpy()
        self.targets = cycles["target"].to_numpy()

    def __len__(self) -> int:
        return len(self.batches)

    @abstractmethod
    def inputs(self, numbers: NDArray[np.int64]) -> Batch:
        """Return what the log-mels of the segments are computed from: waveforms [B, L], ..."""

    def _inputs(self, numbers: NDArray[np.int64]) -> Batch:
        if self.log_mels is None:
            return self.inputs(numbers)
        rows = torch.from_numpy(numbers).to(self.log_mels.device)
        return {"log_mels": self.log_mels[rows]}

    def _cycle(self, row: int) -> NDArray[np.float32]:
        return self.store.samples[self.starts[row] : self.ends[row]]

    def _cut(self, waveform: NDArray[np.float32], segment: int) -> NDArray[np.float32]:
        return cut_segment(waveform, segment, self.cutting.length, self.cutting.padding)


class TrainBatchDataset(BatchDataset):
    """The batches of one epoch, in order; an item is one chunk of one segment of one copy.

    Every random draw is a function of (seed, purpose, cycle, copy, segment, epoch), or of (seed,
    purpose, epoch, number of the batch): `signal.rng`. A batch has waveforms [B, L], alpha [B] and
    f_hi [B] (Hz) of the VTLP (alpha 1: not warped), roll [B] (frames), chunk [B], target [B], and
    the item's cycle [B] (row of the given table), copy [B] and segment [B]; with a teacher's
    probabilities [cycles, K], also those of the cycles [B, K]; with mixup partner [B] (place in the
    batch) and share []; with masks band_mask and frame_mask [B, 2].
    """

    def __init__(
        self,
        cycles: pd.DataFrame,
        store: WaveformStore,
        cutting: SegmentSpec,
        augmentation: Augmentation,
        stretched: dict[int, NDArray[np.float32]],
        batch_size: int,
        seed: int,
        epoch: int,
        log_mels: Tensor | None = None,
        teacher: Tensor | None = None,
    ) -> None:
        super().__init__(cycles, store, cutting, log_mels)
        self.teacher = teacher
        self.augmentation, self.stretched = augmentation, stretched
        self.seed, self.epoch = seed, epoch
        self.draw_epoch = epoch if augmentation.redraw == "epoch" else 0
        self.keys = [int(key) for key in cycles["key"]]
        plan = plan_copies(cycles, augmentation.stretch != "none", augmentation.vtlp_copies)
        self.copies = [Copy(*values) for values in plan.itertuples(index=False, name=None)]
        self.segments = self._segments()
        rows = np.array([copy.row for copy in self.copies])[self.segments[:, 0]]
        classes = np.repeat(self.targets[rows], cutting.chunks)
        order = draw_order(seed, epoch, classes, augmentation.balance)
        self.batches = make_batches(order, batch_size)

    def __getitem__(self, number: int) -> Batch:
        numbers, chunk = np.divmod(self.batches[number], self.cutting.chunks)
        copies, segments = self._places(numbers)
        rows = np.array([copy.row for copy in copies])
        roll = [self._roll(*pair) for pair in zip(copies, segments, strict=True)]
        return {
            **self._inputs(numbers),
            "roll": torch.tensor(roll),
            "chunk": torch.from_numpy(chunk),
            "target": torch.from_numpy(self.targets[rows]),
            "cycle": torch.from_numpy(rows),
            "copy": torch.tensor([copy.copy for copy in copies]),
            "segment": torch.from_numpy(segments),
            **({} if self.teacher is None else {"teacher": self.teacher[rows]}),
            **self._mixture(number, len(rows)),
        }

    def _mixture(self, number: int, items: int) -> Batch:
        """Return what batch `number` is mixed and masked with."""
        augmentation, mixture = self.augmentation, Batch()
        if augmentation.mixup:
            partner, share = draw_mixup(self.seed, self.epoch, number, items, augmentation.mixup)
            mixture |= {"partner": torch.from_numpy(partner), "share": torch.tensor(share)}
        sizes = {"band_mask": augmentation.bands, "frame_mask": self.cutting.chunk_frames}
        for name, size in sizes.items():
            if widest := getattr(augmentation, name):
                place = (self.epoch, number, items)
                bounds = draw_masks(self.seed, name, *place, widest, size)
                mixture[name] = torch.from_numpy(bounds)
        return mixture

    def inputs(self, numbers: NDArray[np.int64]) -> Batch:
        """Return waveforms [B, L], alpha [B] and f_hi [B] (Hz) of the segments."""
        copies, segments = self._places(numbers)
        pairs = zip(copies, segments, strict=True)
        waveforms = [self._cut(self._waveform(copy), segment) for copy, segment in pairs]
        warps = np.array([self._warp(copy) for copy in copies], dtype=np.float32)
        return {
            "waveforms": torch.from_numpy(np.stack(waveforms)),
            "alpha": torch.from_numpy(warps[:, 0]),
            "f_hi": torch.from_numpy(warps[:, 1]),
        }

    def _places(self, numbers: NDArray[np.int64]) -> tuple[list[Copy], NDArray[np.int64]]:
        """Return the copy of each segment, and its number in the copy [B]."""
        places, segments = self.segments[numbers].T
        return [self.copies[place] for place in places], segments.copy()

    def stretched_waveforms(self) -> dict[int, NDArray[np.float32]]:
        """Return the stretched waveform of every row that has a stretched copy."""
        rows = {copy.row for copy in self.copies if copy.stretched}
        return {row: self._stretch(row) for row in sorted(rows)}

    def _segments(self) -> NDArray[np.int64]:
        """All segments of the epoch [S, 2]: place in `copies`, number in the copy."""
        segments = []
        for place, copy in enumerate(self.copies):
            length = int(self.ends[copy.row] - self.starts[copy.row])
            if copy.stretched:
                length = stretched_length(length, self._rate(copy.row))
            count = segment_count(length, self.cutting.length)
            segments += [(place, segment) for segment in range(count)]
        return np.array(segments, dtype=np.int64)

    def _waveform(self, copy: Copy) -> NDArray[np.float32]:
        if not copy.stretched:
            return self._cycle(copy.row)
        return self.stretched[copy.row] if self.stretched else self._stretch(copy.row)

    def _stretch(self, row: int) -> NDArray[np.float32]:
        return time_stretch(self._cycle(row), self._rate(row), self.augmentation.stretch)

    def _rate(self, row: int) -> float:
        limits = self.augmentation.stretch_rate
        return draw_rate(self.seed, self.keys[row], self.draw_epoch, limits)

    def _warp(self, copy: Copy) -> tuple[float, float]:
        limits = self.augmentation.vtlp_alpha, self.augmentation.vtlp_f_hi
        if not copy.warped:
            return 1.0, limits[1][0]
        return draw_warp(self.seed, self.keys[copy.row], copy.copy, self.draw_epoch, *limits)

    def _roll(self, copy: Copy, segment: int) -> int:
        if not self.augmentation.roll:
            return 0
        key, frames = self.keys[copy.row], self.cutting.frames
        return draw_roll(self.seed, key, copy.copy, int(segment), self.epoch, frames)


class EvalBatchDataset(BatchDataset):
    """All segments in order: waveforms [B, L], target [B], cycle [B] (row of `cycles`)."""

    def __init__(
        self,
        cycles: pd.DataFrame,
        store: WaveformStore,
        cutting: SegmentSpec,
        batch_size: int,
        log_mels: Tensor | None = None,
    ) -> None:
        super().__init__(cycles, store, cutting, log_mels)
        counts = [segment_count(int(n), cutting.length) for n in self.ends - self.starts]
        pairs = [(row, segment) for row, count in enumerate(counts) for segment in range(count)]
        self.segments = np.array(pairs)
        numbers = np.arange(len(pairs))
        self.batches = np.split(numbers, range(batch_size, len(pairs), batch_size))

    def __getitem__(self, number: int) -> Batch:
        numbers = self.batches[number]
        rows = self.segments[numbers, 0]
        return {
            **self._inputs(numbers),
            "target": torch.from_numpy(self.targets[rows]),
            "cycle": torch.from_numpy(rows),
        }

    def inputs(self, numbers: NDArray[np.int64]) -> Batch:
        """Return the waveforms [B, L] of the segments."""
        waveforms = [
            self._cut(self._cycle(row), segment) for row, segment in self.segments[numbers]
        ]
        return {"waveforms": torch.from_numpy(np.stack(waveforms))}


def draw_order(
    seed: int, epoch: int, classes: NDArray[np.int64], balance: float
) -> NDArray[np.int64]:
    """Draw the order [n] of an epoch's items, of `classes` [n].

    With `balance` 0 each item comes once. Above it n items are drawn with replacement, each with a
    probability of its class's size to the power of -`balance`: with 1 all classes come equally
    often.
    """
    draws = make_rng(seed, "order", epoch)
    if not balance:
        return draws.permutation(len(classes))
    weights = np.bincount(classes)[classes] ** -float(balance)
    return draws.choice(len(classes), len(classes), p=weights / weights.sum())


def make_batches(items: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Split items into batches; a last one of one item joins the one before it.

    Batch normalization needs two items.
    """
    edges = list(range(batch_size, len(items), batch_size))
    if edges and len(items) - edges[-1] == 1:
        edges.pop()
    return np.split(items, edges)
