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


@pytest.mark.parametrize(
    ("limit", "used", "free"),
    [("max", "1", 3_000_000 * 1024), ("2000", "500", 1500), ("10" * 9, "0", 3_000_000 * 1024)],
)
def test_free_memory_is_that_of_the_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, used: str, free: int
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000000 kB\nMemAvailable:    3000000 kB\n")
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text(used + "\n")
    monkeypatch.setattr(log_mels, "MEMINFO", meminfo)
    monkeypatch.setattr(log_mels, "CGROUP", tmp_path)
    assert free_memory(CPU) == free


def test_free_memory_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert free_memory(CPU) > 2**20
    monkeypatch.setattr(log_mels, "MEMINFO", tmp_path / "none")
    assert free_memory(CPU) == log_mels.UNKNOWN_FREE_MEMORY
