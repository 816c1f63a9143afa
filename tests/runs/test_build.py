"""What a Trainer sets for the whole process: how a GPU rounds, and that a CPU stays as it is."""

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest.mock import Mock

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from support.commands import run_python
from support.runs import compose_settings

from lungsound.data.labels import FOUR_CLASS
from lungsound.runs import build
from lungsound.training.module import SnapshotModule
from lungsound.training.schedule import Annealing


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Each test leaves the process's arithmetic as it was."""
    word = torch.get_float32_matmul_precision()
    convolutions = torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(word)
    torch.backends.cudnn.allow_tf32 = convolutions


def arithmetic() -> tuple[str, bool, bool]:
    """torch's word, TF32 in matrix products, TF32 in convolutions."""
    word = torch.get_float32_matmul_precision()
    return word, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    ("word", "tf32"), [(None, False), ("highest", False), ("high", True), ("medium", True)]
)
@pytest.mark.parametrize("before", ["highest", "medium"])
def test_a_gpu_multiplies_float32_as_the_key_says(
    monkeypatch: pytest.MonkeyPatch, word: str | None, tf32: bool, before: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    torch.set_float32_matmul_precision(before)  # what another run of this process may have left
    torch.backends.cudnn.allow_tf32 = before != "highest"
    build.set_float32(compose_settings(*([f"trainer.matmul_precision={word}"] if word else [])))
    assert arithmetic() == (word or "highest", tf32, tf32)


@pytest.mark.parametrize("before", ["highest", "medium"])
def test_on_a_cpu_the_key_changes_nothing(before: str) -> None:
    torch.set_float32_matmul_precision(before)
    build.build_trainer(compose_settings("trainer=cpu", "trainer.matmul_precision=medium"), 1)
    assert arithmetic()[0] == "highest"  # with "medium" a CPU may multiply in bfloat16


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_trainer_gets_deterministic_on_a_gpu_alone(
    monkeypatch: pytest.MonkeyPatch, deterministic: bool
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(pl, "Trainer", lambda **arguments: given.update(arguments))
    word = f"trainer.deterministic={str(deterministic).lower()}"
    build.build_trainer(compose_settings("trainer=cpu", word), 1)
    assert given["deterministic"] is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    build.build_trainer(compose_settings(word), 1)
    assert (given["accelerator"], given["deterministic"]) == ("gpu", deterministic)


@pytest.mark.parametrize("compiled", [True, False])
def test_the_network_is_compiled_on_a_gpu_alone(
    monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    compile_network = Mock()
    monkeypatch.setattr(SnapshotModule, "compile_network", compile_network)
    settings = compose_settings(f"trainer.compile={str(compiled).lower()}")
    annealing = Annealing(**vars(settings.annealing))
    build_module = partial(build.build_module, settings, annealing, FOUR_CLASS)
    cycles = pd.DataFrame({"target": [0]})
    build_module(cycles)
    compile_network.assert_not_called()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    build_module(cycles)
    assert compile_network.call_count == int(compiled)


def test_no_variable_changes_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning takes every argument that it is not given from PL_TRAINER_*."""
    settings = compose_settings("trainer=cpu")
    usual = build.build_trainer(settings, 3)
    arguments = inspect.signature(pl.Trainer).parameters
    assert {"limit_train_batches", "max_steps", "gradient_clip_val", "strategy"} <= set(arguments)
    for name in arguments:
        monkeypatch.setenv(f"PL_TRAINER_{name.upper()}", "1")
    trainer = build.build_trainer(settings, 3)
    for name in ("limit_train_batches", "limit_val_batches", "max_steps", "max_epochs",
                 "fast_dev_run", "accumulate_grad_batches", "gradient_clip_val", "num_nodes",
                 "num_devices", "overfit_batches", "check_val_every_n_epoch"):  # fmt: skip
        assert getattr(trainer, name) == getattr(usual, name), name
    assert type(trainer.strategy) is type(usual.strategy)


@pytest.mark.parametrize(
    "variables",
    [
        "SLURM_NTASKS=4 SLURM_JOB_ID=7 SLURM_JOB_NAME=x",  # salloc, and plain python
        "SLURM_NTASKS=4 SLURM_NTASKS_PER_NODE=4 SLURM_PROCID=2 SLURM_LOCALID=2 SLURM_JOB_ID=7",
        "TORCHELASTIC_RUN_ID=1 RANK=1 LOCAL_RANK=1 WORLD_SIZE=4 MASTER_ADDR=a MASTER_PORT=1",
        "OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_LOCAL_RANK=2",
        "LSB_JOBID=5 LSB_DJOB_RANKFILE=/no JSM_NAMESPACE_SIZE=4 JSM_NAMESPACE_LOCAL_RANK=1",
        "KUBERNETES_PORT=tcp://1 MASTER_ADDR=a MASTER_PORT=1 WORLD_SIZE=4 RANK=1",
    ],
)
def test_a_cluster_gives_one_process_on_one_device(
    monkeypatch: pytest.MonkeyPatch, variables: str
) -> None:
    for variable in variables.split():
        monkeypatch.setenv(*variable.split("=", 1))
    trainer = build.build_trainer(compose_settings("trainer=cpu"), 1)
    assert (trainer.world_size, trainer.global_rank, trainer.num_devices) == (1, 0, 1)
    assert trainer.is_global_zero


# A convolution, a product of matrices, a sum, random numbers: oneDNN, MKL and torch itself.
PRODUCTS = """
import hashlib, lungsound.runs.build, torch
images = torch.randn(8, 16, 40, 40, generator=torch.Generator().manual_seed(0))
rows = images.reshape(80, -1)
results = [images, torch.nn.functional.conv2d(images, torch.ones(16, 16, 3, 3) / 3)]
results += [rows @ rows.T, images.exp().sum(), torch.softmax(images, 1), torch.fft.rfft(images)]
for result in results:
    print(hashlib.sha256(result.numpy().tobytes()).hexdigest())
"""
# They are read at the first product, after `import torch`. Here all but the last four would give
# other products, each alone.
ROUND_OTHERWISE = {
    **{"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    **{"DNNL_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    **dict.fromkeys(("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"), "BF16"),
    "NVIDIA_TF32_OVERRIDE": "1",
}


@pytest.mark.slow
def test_variables_that_round_otherwise_are_removed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(PRODUCTS)
    expected = capsys.readouterr().out.splitlines()
    for name, value in {**ROUND_OTHERWISE, "CUBLAS_WORKSPACE_CONFIG": "1"}.items():
        monkeypatch.setenv(name, value)
    names = [*ROUND_OTHERWISE, "CUBLAS_WORKSPACE_CONFIG"]
    shown = f"import os; print([os.environ.get(name) for name in {names}])"
    *products, variables = run_python("-c", PRODUCTS + shown).stdout.splitlines()
    assert variables == str([None] * len(ROUND_OTHERWISE) + [":4096:8"])
    assert products == expected
