"""Freed memory is kept: the kernel gives no new pages in each step."""

import platform

import pytest
from support.commands import run_python

# In a process of its own: what else a process has done decides how many pages it still asks for.
PAGES_OF_STEPS = """
import ctypes
import resource
import torch
from lungsound.models.cnn7 import CNN7
from lungsound.training.memory import keep_freed_memory

def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

PR_SET_THP_DISABLE = 41  # of linux/prctl.h: a huge page hides 512
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
network = CNN7(4, 0.125, "inputs", bn_momentum=0.99, bn_eps=1e-3, seed=0)
log_mels = torch.zeros(32, 1, 50, 193)
if {kept}:
    keep_freed_memory()
for step in range(30):
    if step == 20:  # each tensor has found its place
        before = pages()
    torch.autograd.backward(network(log_mels).sum())
print(pages() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_a_freed_tensors_pages_are_used_again() -> None:
    returned, kept = (run_python("-c", PAGES_OF_STEPS.format(kept=kept)) for kept in (False, True))
    assert returned.returncode == kept.returncode == 0, returned.stderr + kept.stderr
    assert int(kept.stdout) < int(returned.stdout) / 10
