"""The level of time-stretched copies: python benchmarks/stretch_level.py DATABASE FOLDER.

For every wheeze and both cycle of the database, stretched at rates from 0.9 to 1.1: the RMS of the
copy against that of the original, and how far the z-scored log-mel would move if the copy had the
original's RMS. The unit of the latter is the log-mel's own standard deviation.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lungsound.data.database import open_database
from lungsound.data.registry import DATABASES
from lungsound.signal.copies import STRETCHED_LABELS
from lungsound.signal.features import Features
from lungsound.signal.stretch import STRETCH_METHODS, time_stretch

RATES = (0.9, 0.95, 1.05, 1.1)


def rms(waveform: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


def shift(features: Features, copy: NDArray[np.float32], gain: float) -> float:
    """The mean absolute difference of the z-scored log-mels of a copy and of `gain` times it."""
    as_is, restored = features(torch.from_numpy(np.stack([copy, gain * copy])))
    return float((as_is - restored).abs().mean())


def main() -> None:
    name, root = sys.argv[1], Path(sys.argv[2])
    database = open_database(DATABASES[name], root, 22_000, Path("store"), skip_bad=True)
    features = Features(22_000, 512, 512, 50, 0.0, 7500.0, 1e-11, "segment")
    chosen = database.cycles[database.cycles["label"].isin(STRETCHED_LABELS)]
    bounds = list(zip(chosen["start_sample"], chosen["end_sample"], strict=True))
    print(f"{name}: {len(bounds)} cycles of the labels {', '.join(STRETCHED_LABELS)}\n")
    print("| method | rate | RMS of the copy / original: median (quartiles) | in dB | shift |")
    print("| --- | --- | --- | --- | --- |")
    for method in STRETCH_METHODS:
        for rate in RATES:
            ratios, shifts = [], []
            for start, end in bounds:
                original = database.store.samples[start:end]
                copy = time_stretch(original, rate, method)
                ratios.append(rms(copy) / rms(original))
                shifts.append(shift(features, copy, 1 / ratios[-1]))
            low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
            decibels = f"{20 * np.log10(middle):.1f}"
            spread = f"{middle:.2f} ({low:.2f} to {high:.2f})"
            print(f"| {method} | {rate} | {spread} | {decibels} | {np.median(shifts):.3f} |")


if __name__ == "__main__":
    main()
