"""Datasets of batches of waveforms: what workers do, so that a device gets whole batches."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lungsound.data.store import WaveformStore
from lungsound.signal.copies import draw_rate, draw_roll, draw_warp, plan_copies
from lungsound.signal.rng import make_rng
from lungsound.signal.segments import cut_segment, segment_count
from lungsound.signal.stretch import stretched_length, time_stretch

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class SegmentSpec:
    """Segments of `length` samples (`frames` frames), completed by `padding`, in `chunks`."""

    length: int
    padding: str
    frames: int
    chunks: int


@dataclass(frozen=True)
class Augmentation:
    """The copies of the training cycles (the paper's III.B), and whether log-mels are rolled."""

    stretch: str
    stretch_rate: tuple[float, float]
    vtlp_copies: dict[str, int]
    vtlp_alpha: tuple[float, float]
    vtlp_f_hi: tuple[float, float]
    redraw: str
    roll: bool

    def draw_epoch(self, epoch: int) -> int:
        """The epoch that a copy's draws depend on: its own, or 0 with `redraw="once"`."""
        return epoch if self.redraw == "epoch" else 0


class TrainBatchDataset(Dataset[Batch]):
    """The batches of one epoch, in order; an item is one chunk of one segment of one copy.

    Every random draw is a function of (seed, purpose, cycle, copy, segment, epoch): `signal.rng`. A
    batch has waveforms [B, L], alpha [B] and f_hi [B] (Hz) of the VTLP (alpha 1: not warped), roll
    [B] (frames), chunk [B], target [B], and the item's cycle [B] (row of the given table), copy [B]
    and segment [B].
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
    ) -> None:
        self.store, self.cutting, self.augmentation = store, cutting, augmentation
        self.stretched, self.seed, self.epoch = stretched, seed, epoch
        self.starts, self.ends = cycles["start_sample"].to_numpy(), cycles["end_sample"].to_numpy()
        self.keys = [int(key) for key in cycles["key"]]
        self.targets = cycles["target"].to_numpy()
        plan = plan_copies(cycles, augmentation.stretch != "none", augmentation.vtlp_copies)
        self.rows, self.copies = plan["row"].to_numpy(), plan["copy"].to_numpy()
        self.is_stretched, self.is_warped = plan["stretched"].to_numpy(), plan["warped"].to_numpy()
        self.items = self._items()
        order = make_rng(seed, "order", epoch).permutation(len(self.items))
        self.batches = make_batches(self.items[order], batch_size)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Batch:
        items = self.batches[number]
        rows = self.rows[items[:, 0]]
        warps = np.array([self._warp(copy) for copy in items[:, 0]], dtype=np.float32)
        waveforms = [self._segment(copy, segment) for copy, segment, _ in items]
        return {
            "waveforms": torch.from_numpy(np.stack(waveforms)),
            "alpha": torch.from_numpy(warps[:, 0]),
            "f_hi": torch.from_numpy(warps[:, 1]),
            "roll": torch.tensor([self._roll(copy, segment) for copy, segment, _ in items]),
            "chunk": torch.from_numpy(items[:, 2]),
            "target": torch.from_numpy(self.targets[rows]),
            "cycle": torch.from_numpy(rows),
            "copy": torch.from_numpy(self.copies[items[:, 0]]),
            "segment": torch.from_numpy(items[:, 1]),
        }

    def _items(self) -> NDArray[np.int64]:
        """All items of the epoch [n, 3]: row of the copies' plan, segment, chunk."""
        items: list[tuple[int, int, int]] = []
        for copy in range(len(self.rows)):
            segments = range(segment_count(self._length(copy), self.cutting.length))
            items += product([copy], segments, range(self.cutting.chunks))
        return np.array(items, dtype=np.int64)

    def _length(self, copy: int) -> int:
        row = self.rows[copy]
        length = int(self.ends[row] - self.starts[row])
        return stretched_length(length, self._rate(row)) if self.is_stretched[copy] else length

    def _waveform(self, copy: int) -> NDArray[np.float32]:
        row = self.rows[copy]
        if self.is_stretched[copy] and row in self.stretched:
            return self.stretched[row]
        waveform = self.store.samples[self.starts[row] : self.ends[row]]
        if self.is_stretched[copy]:
            waveform = time_stretch(waveform, self._rate(row), self.augmentation.stretch)
        return waveform

    def _segment(self, copy: int, segment: int) -> NDArray[np.float32]:
        return cut_segment(self._waveform(copy), segment, self.cutting.length, self.cutting.padding)

    def _rate(self, row: int) -> float:
        epoch = self.augmentation.draw_epoch(self.epoch)
        return draw_rate(self.seed, self.keys[row], epoch, self.augmentation.stretch_rate)

    def _warp(self, copy: int) -> tuple[float, float]:
        settings = self.augmentation
        if not self.is_warped[copy]:
            return 1.0, settings.vtlp_f_hi[0]
        key, number = self.keys[self.rows[copy]], int(self.copies[copy])
        epoch = settings.draw_epoch(self.epoch)
        return draw_warp(self.seed, key, number, epoch, settings.vtlp_alpha, settings.vtlp_f_hi)

    def _roll(self, copy: int, segment: int) -> int:
        if not self.augmentation.roll:
            return 0
        key, number = self.keys[self.rows[copy]], int(self.copies[copy])
        return draw_roll(self.seed, key, number, int(segment), self.epoch, self.cutting.frames)


class EvalBatchDataset(Dataset[Batch]):
    """All segments in order: waveforms [B, L], target [B], cycle [B] (row of `cycles`)."""

    def __init__(
        self, cycles: pd.DataFrame, store: WaveformStore, cutting: SegmentSpec, batch_size: int
    ) -> None:
        self.store, self.cutting = store, cutting
        self.starts, self.ends = cycles["start_sample"].to_numpy(), cycles["end_sample"].to_numpy()
        self.targets = cycles["target"].to_numpy()
        counts = [segment_count(int(n), cutting.length) for n in self.ends - self.starts]
        segments = [(row, segment) for row, count in enumerate(counts) for segment in range(count)]
        self.batches = [segments[i : i + batch_size] for i in range(0, len(segments), batch_size)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Batch:
        batch = self.batches[number]
        rows = np.array([row for row, _ in batch])
        waveforms = [self._segment(row, segment) for row, segment in batch]
        return {
            "waveforms": torch.from_numpy(np.stack(waveforms)),
            "target": torch.from_numpy(self.targets[rows]),
            "cycle": torch.from_numpy(rows),
        }

    def _segment(self, row: int, segment: int) -> NDArray[np.float32]:
        waveform = self.store.samples[self.starts[row] : self.ends[row]]
        return cut_segment(waveform, segment, self.cutting.length, self.cutting.padding)


def make_batches(items: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Split items into batches; a last one of one item joins the one before it.

    Batch normalization needs two items.
    """
    edges = list(range(batch_size, len(items), batch_size))
    if edges and len(items) - edges[-1] == 1:
        edges.pop()
    return np.split(items, edges)
