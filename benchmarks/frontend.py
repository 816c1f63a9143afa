"""Waveforms to log-mels with VTLP, against a loader as the field writes it.

python benchmarks/frontend.py

Both take the same copies of the demo's training cycles, 9 s segments that lie in memory, with the
same warp factors, roll and chunk. The field's: torch's DataLoader with a process per core, item by
item: VTLP as nlpaug does it (librosa's STFT, each frequency moved in a loop, its inverse), then
librosa's mel spectrogram, decibels, z-score. Ours: batches of 32, cut in this process, all threads.
"""

import os
import tempfile
import time
from collections.abc import Iterator

import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from rows import Row, print_section
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lungsound.config.overrides import compose_run
from lungsound.runs.build import RunComponents, build_components
from lungsound.runs.validation import validate_config
from lungsound.training.batches import Batch, TrainBatchDataset
from lungsound.training.memory import keep_freed_memory

BATCHES = 12  # of 32 items; the first of them warms up
ROUNDS = 5
RATE, HOP, BANDS, TOP_HZ = 22_000, 512, 50, 7_500.0


class LibrosaItems(Dataset[Tensor]):
    """The items of `batches`, one by one."""

    def __init__(self, batches: list[Batch], chunks: int) -> None:
        self.items = [
            {name: tensor[row] for name, tensor in batch.items()}
            for batch in batches
            for row in range(len(batch["target"]))
        ]
        self.chunks = chunks

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Tensor:
        item = self.items[number]
        warped = vtlp(item["waveforms"].numpy(), float(item["alpha"]), float(item["f_hi"]))
        power = librosa.feature.melspectrogram(
            y=warped, sr=RATE, n_fft=HOP, hop_length=HOP, n_mels=BANDS, fmax=TOP_HZ, center=False
        )
        log_mel = librosa.power_to_db(power)
        log_mel = (log_mel - log_mel.mean()) / log_mel.std()
        rolled = np.roll(log_mel, int(item["roll"]), axis=1)
        size = rolled.shape[1] // self.chunks
        return torch.from_numpy(rolled[:, int(item["chunk"]) * size :][:, :size].copy())


def vtlp(waveform: NDArray[np.float32], alpha: float, f_hi: float) -> NDArray[np.float32]:
    """Warp a waveform's frequencies as nlpaug 1.1.11 does, row by row of its spectrogram."""
    spectrum = librosa.stft(waveform)
    last, nyquist = len(spectrum) - 1, RATE / 2
    hz = np.linspace(0, nyquist, last + 1)
    boundary = f_hi * min(alpha, 1)
    slope = (nyquist - boundary) / (nyquist - boundary / alpha)
    places = np.where(hz <= boundary / alpha, hz * alpha, nyquist - slope * (nyquist - hz))
    places *= last / places.max()
    warped = np.zeros_like(spectrum)
    warped[[0, last]] = spectrum[[0, last]]
    for row in range(1, last):
        low = int(places[row])
        up = places[row] - low
        warped[low] += (1 - up) * spectrum[row]
        warped[low + 1] += up * spectrum[row]
    return librosa.istft(warped, length=len(waveform))


def measure_field(batches: list[Batch], chunks: int, cores: int) -> float:
    """Return items per second of the field's loader, after its first batch."""
    loader = DataLoader(LibrosaItems(batches, chunks), batch_size=32, num_workers=cores)
    return rate(iter(loader))


def measure_ours(parts: RunComponents, batches: TrainBatchDataset) -> float:
    """Return items per second, cutting included."""
    return rate(parts.module.train_inputs(batches[number]) for number in range(BATCHES))


def rate(batches: Iterator[Tensor]) -> float:
    """Return items per second from the second batch on."""
    next(batches)
    start = time.perf_counter()
    items = sum(len(batch) for batch in batches)
    return items / (time.perf_counter() - start)


def main() -> None:
    keep_freed_memory()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as store:
        cfg, _ = compose_run(["augment=paper", f"store_dir={store}"])
        parts = build_components(validate_config(cfg))
        dataset = parts.datamodule.training_batches(1)
        batches = [dataset[number] for number in range(BATCHES)]
        ours, field = [], []
        for _ in range(ROUNDS):
            ours.append(measure_ours(parts, dataset))
            field.append(measure_field(batches, parts.module.chunks, cores))
    ratios = [mine / theirs for mine, theirs in zip(ours, field, strict=True)]
    row = Row(
        "log-mels with VTLP, items/s", "librosa per item, a process per core", ratios, ">= 10"
    )
    print_section(
        "Waveforms to log-mels with VTLP",
        [row],
        f"{torch.get_num_threads()} threads against {cores} processes, the fastest of {ROUNDS} "
        f"rounds: {max(ours):.0f} and {max(field):.0f} items/s.",
    )


if __name__ == "__main__":
    main()
