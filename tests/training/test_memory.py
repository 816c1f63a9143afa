"""Freed memory is kept: the kernel gives no new pages in each step."""

import platform
import resource

import pytest
import torch

from lungsound.models.cnn7 import CNN7
from lungsound.training.memory import keep_freed_memory


def new_pages(network: CNN7, steps: int) -> int:
    """Count the pages that the kernel gives during steps of training."""
    log_mels = torch.zeros(32, 1, 50, 193)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        torch.autograd.backward(network(log_mels).sum())
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_a_freed_tensors_pages_are_used_again() -> None:
    network = CNN7(4, 0.125, "inputs", bn_momentum=0.99, bn_eps=1e-3, seed=0)
    keep_freed_memory()
    bytes_of_a_step = 80e6
    # The first steps find a place for each tensor: more of them in a process that has done much.
    fewest = min(new_pages(network, 10) for _ in range(5))
    assert fewest < bytes_of_a_step / resource.getpagesize()
