"""A DataLoader whose worker processes neither hang nor survive the command."""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from lungsound.errors import TrainingError
from lungsound.storage.signals import SIGNALS, defer_signals
from lungsound.training.batches import Batch

LINUX = sys.platform == "linux"  # macOS has no sigwaitinfo, and no file system of shared memory
SHARED_MEMORY = Path("/dev/shm")  # where workers hand over their batches
PREFETCH = 2  # batches that a worker prepares: torch's default
BATCHES_IN_USE = 4  # which training and validation hold at most, if they are not pinned
TIMEOUT_S = 600
NOT_SHARED = "a batch does not fit in shared memory"


def make_loader(
    batches: Dataset[Batch], num_workers: int, pin_memory: bool = False
) -> DataLoader[Batch]:
    """Return a loader of the batches, in order."""
    return _Loader(
        batches,
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_share_memory if num_workers else None,
        pin_memory=pin_memory,
        worker_init_fn=partial(_ignore_signals, os.getpid()),
        timeout=TIMEOUT_S if num_workers else 0,
    )


class _Loader(DataLoader[Batch]):
    """No signal interrupts the start of the workers; the first one ends a wait for them.

    Without arguments of its own: Lightning makes another instance to predict.
    """

    def __iter__(self) -> Any:
        with defer_signals(), _blocked_signals():  # else nobody would end the first workers
            # In no variable, which a traceback would keep, and with it the workers.
            return _wait_for_batches(super().__iter__(), bool(self.num_workers))


def affordable_workers(workers: int, batch_bytes: int) -> int:
    """Return how many of `workers` can be used; print why, if that is fewer.

    Shared memory must have space for all batches between the workers and training.
    """
    if not LINUX or not workers:
        return workers
    free = shutil.disk_usage(SHARED_MEMORY).free if os.access(SHARED_MEMORY, os.W_OK) else 0
    in_use = 0 if torch.cuda.is_available() else BATCHES_IN_USE
    affordable = max(0, min(workers, (free // batch_bytes - in_use) // PREFETCH))
    if affordable < workers:
        needed = batch_bytes * (workers * PREFETCH + in_use)
        print(
            f"trainer.num_workers={affordable} in place of {workers}, which need "
            f"{needed / 1e6:,.0f} MB in {SHARED_MEMORY}: it has {free / 1e6:,.0f} MB free.\n"
            "docker run --shm-size=4g gives a container more",
            flush=True,
        )
    return affordable


@contextmanager
def translate_worker_errors() -> Iterator[None]:
    """Convert errors on workers that ended, or gave no batch in time, to TrainingError."""
    try:
        yield
    except (RuntimeError, ConnectionError) as error:
        message = str(error)
        is_theirs = message.startswith("DataLoader ") or NOT_SHARED in message
        if isinstance(error, RuntimeError) and not is_theirs:
            raise
        raise TrainingError(
            "trainer.num_workers: expected batches from the worker processes, but got: "
            f"{message.splitlines()[-1]}\nGive them more memory, and {SHARED_MEMORY} more space "
            "(docker run --shm-size=4g), or do without them: trainer.num_workers=0"
        ) from error


def _share_memory(batch: Any) -> Batch:
    """Move a worker's batch to shared memory, as torch would in a thread whose errors are lost."""
    try:
        return {name: tensor.share_memory_() for name, tensor in batch.items()}
    except RuntimeError as error:
        raise RuntimeError(f"{NOT_SHARED} ({error})") from error


def _wait_for_batches(batches: Iterator[Batch], from_workers: bool) -> Iterator[Batch]:
    while True:
        with defer_signals(False) if from_workers else nullcontext():
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Block signals in the block, and in the workers that start there."""
    if not LINUX:
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _ignore_signals(main_process: int, _: int) -> None:
    """Leave signals to the main process: it ends the current batch, which needs its workers."""
    if LINUX:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a fork server's children inherit none
        exit_if_terminated = partial(_exit_if_terminated, main_process)
        threading.Thread(target=exit_if_terminated, daemon=True).start()
        return
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _exit_if_terminated(main_process: int) -> None:
    """End this worker if its main process terminates it, which then waits for it without limit."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != main_process:
        pass
    os._exit(0)
