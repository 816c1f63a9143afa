"""What `lungsound show` does: the figure of an annotated recording, and a cycle as a wav."""

import difflib
import io
from pathlib import Path

import numpy as np
import soundfile
import yaml
from numpy.typing import NDArray

from lungsound.config.schema import CONFIG_DIR
from lungsound.data.recordings import Recording
from lungsound.data.registry import DatabaseSpec
from lungsound.data.sound import Sound, open_sound
from lungsound.errors import DataError
from lungsound.results.timeline import Cycle, plot_cycles, recording_log_mel
from lungsound.signal.features import Features
from lungsound.signal.windows import cut_spans
from lungsound.storage.figures import png_bytes
from lungsound.storage.files import write_user_file


def show_recording(
    spec: DatabaseSpec, root: Path, recording_name: str, number: int | None, folder: Path
) -> list[Path]:
    """Write the figure, and the cycle with this `number` as a wav, to `folder`; return the files.

    The log-mel is that of the paper's settings. Raises DataError if the database lacks the
    recording or the cycle, or the recording cannot be read.
    """
    recording = _find_recording(spec, root, recording_name)
    cycles = [
        Cycle(one.line, one.start_seconds, one.end_seconds, one.event_type or one.label)
        for one in recording.cycles
    ]
    sound, content = open_sound(recording.audio), {}
    if number is not None:
        wav = folder / f"{recording.name}-{number}.wav"
        content[wav] = _wav_bytes(sound, _find_cycle(cycles, number, recording))
    features = _paper_features()
    log_mel, corner_hz = recording_log_mel(sound, features), features.corner_hz.numpy()
    labels = spec.label_sets.get("event_type", spec.label_sets["label"]).labels
    title = f"{recording.name}: {spec.title}, patient {recording.patient}"
    figure = plot_cycles(log_mel, sound.seconds, corner_hz, cycles, labels, number, title)
    content[folder / f"{recording.name}.png"] = png_bytes(figure)
    for file, data in content.items():
        write_user_file(file, data)
    return sorted(content)


def _find_recording(spec: DatabaseSpec, root: Path, recording_name: str) -> Recording:
    recordings = {one.name: one for one in spec.read(root).recordings}
    stem = recording_name.removesuffix(".wav").removesuffix(".flac")
    if stem not in recordings:
        near = difflib.get_close_matches(stem, recordings) or sorted(recordings)[:3]
        raise DataError(
            f"{recording_name}: expected one of the {len(recordings)} recordings in {root}, "
            f"such as {', '.join(near)}"
        )
    return recordings[stem]


def _find_cycle(cycles: list[Cycle], number: int, recording: Recording) -> Cycle:
    for cycle in cycles:
        if cycle.number == number:
            return cycle
    numbers = ", ".join(str(cycle.number) for cycle in cycles) or "none"
    raise DataError(f"{recording.name}: expected one of its cycles {numbers}, but got {number}")


def _wav_bytes(sound: Sound, cycle: Cycle) -> bytes:
    """Return a cycle at the recording's own rate, as 16-bit PCM, which any program plays."""
    span = sound.span(cycle.start_seconds, cycle.end_seconds, sound.rate_hz)
    samples: NDArray[np.float32] = next(cut_spans(sound.read(), [span]))
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sound.rate_hz, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _paper_features() -> Features:
    values = yaml.safe_load((CONFIG_DIR / "config.yaml").read_text())["features"]
    return Features.from_settings(values)
