"""Log-mels that are computed once and kept: of all segments of a set, for all epochs and members.

The copies of training cycles are the same in every epoch with `augment.redraw=once`, validation and
test cycles always. What is kept is not yet rolled and cut into chunks.
"""

import re
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning.utilities import move_data_to_device
from rich.console import Console
from rich.progress import track
from torch import Tensor

from lungsound.signal.features import Features
from lungsound.training.batches import BatchDataset

MEMORY_SHARE = 0.5  # `auto` takes at most this share of the memory that is free
UNKNOWN_FREE_MEMORY = 2**33  # bytes, on systems without MEMINFO
MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
CPU = torch.device("cpu")


def choose_place(cache: str, size: int, device: torch.device) -> torch.device | None:
    """Return where to keep `size` bytes: on the training `device`, on the host, or None.

    `auto` takes the first of the two with twice the size in free memory.
    """
    if cache in ("device", "host"):
        return device if cache == "device" else CPU
    places = (device, CPU) if cache == "auto" else ()
    fitting = (place for place in places if size <= MEMORY_SHARE * free_memory(place))
    return next(fitting, None)


def free_memory(place: torch.device) -> int:
    """Return the free memory in bytes of a GPU, or of this machine or its container."""
    if place.type == "cuda":
        return torch.cuda.mem_get_info(place)[0]
    if not MEMINFO.exists():
        return UNKNOWN_FREE_MEMORY
    free = int(re.findall(r"MemAvailable:\s+(\d+) kB", MEMINFO.read_text())[0]) * 1024
    try:
        limit, used = (int((CGROUP / f"memory.{n}").read_text()) for n in ("max", "current"))
    except (OSError, ValueError):  # no container; its limit is "max"
        return free
    return min(free, limit - used)


def segment_bytes(features: Features, dataset: BatchDataset) -> int:
    """Return the size of all log-mels of the set."""
    return len(dataset.segments) * len(features.mel_fbank) * dataset.cutting.frames * 4


def compute_log_mels(
    features: Features, dataset: BatchDataset, batch_size: int, place: torch.device
) -> Tensor:
    """Compute the log-mels [S, F, N] of all segments, on the device of `features`.

    In batches of the training's size: on a GPU another size may change last bits.
    """
    count = len(dataset.segments)
    log_mels = torch.empty(count, len(features.mel_fbank), dataset.cutting.frames, device=place)
    batches = np.split(np.arange(count), range(batch_size, count, batch_size))
    console = Console(stderr=True)
    for numbers in track(batches, "Log-mels", console=console, disable=not console.is_terminal):
        inputs = move_data_to_device(dataset.inputs(numbers), features.corner_hz.device)
        log_mels[numbers[0] : numbers[-1] + 1] = features(**inputs)
    return log_mels
