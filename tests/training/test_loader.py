"""Worker processes: none is left, none is waited for without an end, and memory suffices."""

import os
import resource
import shutil
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.commands import ForkedPython

from lungsound.errors import TrainingError
from lungsound.training import loader
from lungsound.training.loader import affordable_workers, make_loader, translate_worker_errors

INTERRUPTED_START = """
import multiprocessing, signal, sys
from multiprocessing.process import BaseProcess
from lungsound.errors import Interrupted
from lungsound.storage.signals import interruptible
from lungsound.training.loader import make_loader

def start_and_signal(process):
    start(process)
    processes.append(process)
    if len(processes) == 1:
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        signal.raise_signal(signal.SIGTERM)

processes = []
start, BaseProcess.start = BaseProcess.start, start_and_signal
try:
    with interruptible():
        list(make_loader([1, 2, 3], 2))
except Interrupted:
    assert len(processes) == 2 and not multiprocessing.active_children()
    sys.exit(143)
"""
INTERRUPTED_WAIT = """
import os, signal, time
from lungsound.cli.command import cli_command
from lungsound.storage.signals import defer_signals
from lungsound.training.loader import make_loader

class Slow(list):
    def __getitem__(self, number):
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(600)

@cli_command
def main():
    with defer_signals():
        list(make_loader(Slow([1, 2]), 1))
main()
"""


class LateBatches(list[int]):
    def __getitem__(self, number: object) -> object:
        return threading.Event().wait(600)


class KilledBatches(list[int]):
    def __getitem__(self, number: object) -> object:
        return os.kill(os.getpid(), signal.SIGKILL)


class LargeBatches(list[int]):
    def __getitem__(self, number: object) -> object:
        file_size = resource.RLIMIT_FSIZE  # as if the file system of shared memory were full
        resource.setrlimit(file_size, (1000, resource.getrlimit(file_size)[1]))
        return {"waveforms": torch.zeros(1_000_000)}


@pytest.mark.parametrize("code", [INTERRUPTED_START, INTERRUPTED_WAIT])
def test_the_first_signal_ends_a_process_with_workers(code: str) -> None:
    """Python waits at its exit for every worker, and a worker ignores signals."""
    code_of_exit, *_ = ForkedPython("-c", code).communicate()
    assert code_of_exit == 143


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (LargeBatches, r"does not fit in shared memory \(.*File too large"),
        (KilledBatches, "worker .*(killed by signal|exited unexpectedly)"),
        (LateBatches, "timed out after 1 sec"),
    ],
)
def test_a_batch_that_never_comes_is_an_error(
    monkeypatch: pytest.MonkeyPatch, batches: type[list[int]], message: str
) -> None:
    monkeypatch.setattr(loader, "TIMEOUT_S", 1 if batches is LateBatches else 5)
    expected = rf"trainer\.num_workers: expected .*{message}(.|\n)*/dev/shm .*num_workers=0$"
    with pytest.raises(TrainingError, match=expected), translate_worker_errors():
        list(make_loader(batches([1, 2]), 1))  # type: ignore[arg-type]


def test_other_errors_are_not_the_workers() -> None:
    with pytest.raises(RuntimeError, match=r"^CUDA"), translate_worker_errors():
        raise RuntimeError("CUDA out of memory")


@pytest.mark.parametrize(
    ("free", "pinned", "used"),
    [
        (24e9, False, 4),
        (12e6, False, 4),  # 4 x 2 prepared and 4 in use
        (11.9e6, False, 3),
        (8e6, True, 4),  # pinned batches are copies
        (5.9e6, False, 0),
        (1e6, True, 0),
    ],
)
def test_workers_fit_in_shared_memory(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    free: float,
    pinned: bool,
    used: int,
) -> None:
    def disk_usage(path: object) -> SimpleNamespace:
        assert str(path) == "/dev/shm"
        return SimpleNamespace(free=int(free))

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pinned)
    assert affordable_workers(4, 1_000_000) == used
    remark = capsys.readouterr().out
    assert remark.startswith(f"trainer.num_workers={used} in place of 4") == (used < 4)
    assert ("docker run --shm-size" in remark) == (used < 4)
    assert affordable_workers(0, 1_000_000) == 0
    assert not capsys.readouterr().out
    monkeypatch.setattr(loader, "SHARED_MEMORY", Path("/not/there"))
    assert affordable_workers(4, 1_000_000) == 0
    assert capsys.readouterr().out
