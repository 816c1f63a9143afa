"""Log-mels that are computed once and kept: of all segments of a set, for all epochs and members.

The copies of training cycles are the same in every epoch with `augment.redraw=once`, validation and
test cycles always. What is kept is not yet rolled and cut into chunks.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning.utilities import move_data_to_device
from rich.console import Console
from rich.progress import track
from torch import Tensor

from lungsound.errors import TrainingError
from lungsound.signal.features import Features
from lungsound.training.batches import BatchDataset

MEMORY_SHARE = 0.5  # `auto` takes at most this share of the memory that is free
UNKNOWN_FREE_MEMORY = 2**33  # bytes, on systems without MEMINFO
SYSTEM = Path("/")
# Control groups of version 2, and of version 1: their folders, limit and use.
GROUP_FILES = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
}
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
        kept_by_torch = torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
        return torch.cuda.mem_get_info(place)[0] + kept_by_torch
    meminfo = SYSTEM / "proc/meminfo"
    if not meminfo.exists():
        return UNKNOWN_FREE_MEMORY
    kilobytes = re.findall(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())
    return max(0, min([int(kilobytes[0]) * 1024, *_free_in_groups()]))


def _free_in_groups() -> Iterator[int]:
    """Yield the bytes left below each limit of this process's control groups (Linux)."""
    groups = SYSTEM / "proc/self/cgroup"
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, controller, path = line.split(":", 2)
        if controller not in GROUP_FILES:
            continue
        top, *names = GROUP_FILES[controller]
        folder = SYSTEM / top / path.lstrip("/")  # in a container only the uppermost may be there
        for group in (folder, *folder.parents):
            try:
                limit, used = (int((group / name).read_text()) for name in names)
                statistics = (group / "memory.stat").read_text()
            except (OSError, ValueError):  # no such group, or no limit: "max"
                continue
            cached = re.findall(r"^(?:total_)?inactive_file (\d+)", statistics, re.MULTILINE)
            yield limit - used + max(map(int, cached), default=0)  # files are given up for memory


def segment_bytes(features: Features, dataset: BatchDataset) -> int:
    """Return the size of all log-mels of the set."""
    return len(dataset.segments) * len(features.mel_fbank) * dataset.cutting.frames * 4


def compute_log_mels(
    features: Features, dataset: BatchDataset, batch_size: int, place: torch.device
) -> Tensor:
    """Compute the log-mels [S, F, N] of all segments, on the device of `features`.

    In batches of the training's size: on a GPU another size may change last bits. Raises
    TrainingError if there is no memory for them.
    """
    count = len(dataset.segments)
    shape = (count, len(features.mel_fbank), dataset.cutting.frames)
    try:
        log_mels = torch.empty(shape, device=place)
    except RuntimeError as error:  # torch's own types for a lack of memory are some of these
        size = f"{segment_bytes(features, dataset) / 1e9:.1f} GB"
        raise TrainingError(
            f"trainer.cache: expected memory for log-mels of {size} on {place}, but got: "
            f"{str(error).splitlines()[0]}. Compute them for each batch: trainer.cache=off"
        ) from error
    batches = np.split(np.arange(count), range(batch_size, count, batch_size))
    console = Console(stderr=True)
    for numbers in track(batches, "Log-mels", console=console, disable=not console.is_terminal):
        inputs = move_data_to_device(dataset.inputs(numbers), features.corner_hz.device)
        log_mels[numbers[0] : numbers[-1] + 1] = features(**inputs)
    return log_mels
