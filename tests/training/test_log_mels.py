"""Where log-mels are kept: the budget of `trainer.cache`."""

from pathlib import Path

import pytest
import torch

from lungsound.training import log_mels
from lungsound.training.log_mels import choose_place, free_memory

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("cache", "size", "place"),
    [
        ("auto", 500, GPU),
        ("auto", 501, CPU),
        ("auto", 1000, CPU),
        ("auto", 1001, None),
        ("device", 10**9, GPU),
        ("host", 10**9, CPU),
        ("off", 0, None),
    ],
)
def test_auto_takes_half_of_the_free_memory(
    monkeypatch: pytest.MonkeyPatch, cache: str, size: int, place: torch.device | None
) -> None:
    monkeypatch.setattr(log_mels, "free_memory", {GPU: 1000, CPU: 2000}.__getitem__)
    assert choose_place(cache, size, GPU) == place


FREE = 3_000_000 * 1024
V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"


def write_system(folder: Path, groups: str, files: dict[str, str]) -> None:
    """A root folder with 3 000 000 kB of free memory, control groups and their files."""
    files = {
        "proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:    3000000 kB\n",
        "proc/self/cgroup": groups,
        **files,
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content + "\n" * bool(content))


def group(folder: str, limit: str, used: str, inactive: int = 0) -> dict[str, str]:
    """The files of a control group, of version 1 or 2."""
    names = ("memory.max", "memory.current", "memory.stat")
    if folder.startswith(V1):
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    values = (limit, used, f"anon 7\ninactive_file {inactive}")
    return {f"{folder}/{name}": value for name, value in zip(names, values, strict=True)}


IN_A_JOB = group(f"{V2}/slurm", "2000", "500") | group(f"{V2}/slurm/job", "max", "1")


@pytest.mark.parametrize(
    ("groups", "files", "free"),
    [
        ("", {}, FREE),
        ("0::/", group(V2, "max", "1"), FREE),
        ("0::/", group(V2, "2000", "500"), 1500),
        ("0::/", group(V2, "2000", "1900", inactive=1800), 1900),  # files that were just read
        ("0::/", group(V2, "10" * 9, "0"), FREE),
        ("0::/", group(V2, "2000", "2500"), 0),
        ("0::/slurm/job", IN_A_JOB, 1500),
        ("3:cpu:/a\n2:memory:/b", group(f"{V1}/b", "2000", "500"), 1500),
        ("2:memory:/docker/1", group(V1, "2000", "500"), 1500),  # as a container sees it
    ],
)
def test_free_memory_is_that_of_the_control_group(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, groups: str, files: dict[str, str], free: int
) -> None:
    write_system(tmp_path, groups, files)
    monkeypatch.setattr(log_mels, "SYSTEM", tmp_path)
    assert free_memory(CPU) == free


def test_free_memory_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert free_memory(CPU) > 2**20
    monkeypatch.setattr(log_mels, "SYSTEM", tmp_path)
    assert free_memory(CPU) == log_mels.UNKNOWN_FREE_MEMORY
