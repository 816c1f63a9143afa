"""SPRSound in its published layout, made on the spot."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

AUDIO = {"train": "train_wav", "inter": "test_wav", "intra": "test_wav"}
JSON = {
    "train": "train_json",
    "inter": "test_json/inter_test_json",
    "intra": "test_json/intra_test_json",
}
RATE_HZ = 8000


def event(kind: str = "Normal", start: Any = "0", end: Any = "1000") -> dict[str, Any]:
    return {"start": start, "end": end, "type": kind}


def annotate(path: Path, events: Any, recorded: str = "Normal") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"record_annotation": recorded, "event_annotation": events}))
    return path


def add(
    root: Path,
    part: str,
    name: str,
    *events: dict[str, Any],
    suffix: str = ".wav",
    recorded: str = "Normal",
    tone: int = 0,
) -> None:
    """A recording of 2 s in the published layout: a tone of its name's pitch, or of `tone` Hz."""
    folder = root / AUDIO[part]
    folder.mkdir(parents=True, exist_ok=True)
    pitch = tone or 100 + sum(name.encode())
    samples = np.round(9000 * np.sin(2 * np.pi * pitch * np.arange(2 * RATE_HZ) / RATE_HZ)).astype(
        "<i2"
    )
    soundfile.write(folder / f"{name}{suffix}", samples, RATE_HZ, subtype="PCM_16")
    annotate(root / JSON[part] / f"{name}.json", list(events), recorded)
