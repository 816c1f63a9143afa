"""What `lungsound explain` does: integrated gradients of each window, as a figure."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from lungsound.data.sound import Sound, open_sound
from lungsound.ensemble import Ensemble, check_seconds
from lungsound.errors import ConfigError
from lungsound.results.timeline import plot_attribution, recording_log_mel
from lungsound.signal.spectrum import frame_count
from lungsound.signal.windows import cut_spans
from lungsound.storage.figures import png_bytes
from lungsound.storage.files import write_user_file

EXTRA = "captum, which the extra `explain` installs: pip install 'lungsound[explain]'"


def explain_recording(run: Path, file: Path, label: str | None, window: float, to: Path) -> None:
    """Write the figure of a recording. Raises a LungsoundError if one of these cannot be used."""
    ensemble = Ensemble.load(run)
    if label not in (None, *ensemble.labels):
        labels = ", ".join(ensemble.labels)
        raise ConfigError(f"--label: expected one of {labels}, but got {label!r}")
    features = ensemble.features
    if check_seconds("window", window, features.sample_rate) < features.n_fft:
        shortest = features.n_fft / features.sample_rate
        raise ConfigError(
            f"--window: expected at least a frame, {shortest:.3f} s, but got {window}"
        )
    if to.suffix != ".png":
        raise ConfigError(f"--to: expected a name in .png, but got {to}")
    sound = open_sound(file)
    table = ensemble.predict(sound, cycles=equal_windows(sound.seconds, window))
    if label is not None:
        table["label"] = label
    values = attribute_recording(ensemble, sound, table)
    log_mel = recording_log_mel(sound, ensemble.features)
    corner_hz = ensemble.features.corner_hz.cpu().numpy()
    figure = plot_attribution(log_mel, values, sound.seconds, corner_hz, table, file.name)
    write_user_file(to, png_bytes(figure))
    print(to)


def equal_windows(seconds: float, window: float) -> NDArray[np.float64]:
    """Return the start and end [n, 2] of equal windows that are about as long as `window`.

    >>> equal_windows(8.0, 3.0).round(2).tolist()
    [[0.0, 2.67], [2.67, 5.33], [5.33, 8.0]]
    """
    edges = np.linspace(0, seconds, max(1, round(seconds / window)) + 1)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def attribute_recording(
    ensemble: Ensemble, sound: Sound, table: pd.DataFrame
) -> NDArray[np.float32]:
    """Return the integrated gradients [n_mels, N] of the windows of `table` for their `label`."""
    try:
        from lungsound.results.attribution import attribute_chunks, frame_numbers, gather_frames
    except ModuleNotFoundError as error:
        raise ConfigError(f"lungsound explain: expected the package {EXTRA}") from error
    features, segments = ensemble.features, ensemble.segments
    rate, n_fft, hop = features.sample_rate, features.n_fft, features.hop
    times = table[["start_seconds", "end_seconds"]].to_numpy().tolist()
    spans = [sound.span(start, end, rate) for start, end in times]
    total = max(1, frame_count(sound.samples_at(rate), n_fft, hop))
    values = np.zeros((len(features.mel_fbank), total), np.float32)
    console = Console(stderr=True)
    waveforms = cut_spans(sound.blocks(rate), spans)
    steps = zip(spans, waveforms, table["label"], strict=True)
    hidden = not console.is_terminal
    for (start, _), waveform, label in track(
        steps, "Windows", total=len(spans), console=console, disable=hidden
    ):
        chunks = ensemble.chunks([segment for _, segment in ensemble.cut([waveform])])
        found = attribute_chunks(ensemble.members, chunks, ensemble.labels.index(label))
        numbers = frame_numbers(len(waveform), segments, n_fft, hop)
        frames = max(1, frame_count(len(waveform), n_fft, hop))
        offset = min(round(start / hop), total - frames)
        values[:, offset : offset + frames] += gather_frames(found, numbers, frames)
    return values
