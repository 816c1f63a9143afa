"""Slurm and Ray on this machine, and the study that each launcher repeats: `make test-cluster`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.ray import running_ray
from support.runs import ROOT
from support.slurm import running_slurm
from support.studies import finish

StartStudy = Callable[..., "subprocess.Popen[str]"]

# Whoever types the command has another machine: no run may look like it.
PRETENCE = """import torch
torch.cuda.is_available, torch.cuda.get_device_name = lambda: True, lambda *_: "another GPU"
torch.set_num_threads(7)
from lungsound.cli.app import main
main()
"""


@pytest.fixture(scope="session")
def start_study(empty_mlflow: Path, decoded_store: Path) -> StartStudy:
    """`start_study(folder, environment, *words)`: `lungsound sweep WORDS` as a process."""

    def start(
        folder: Path, environment: dict[str, str], *words: str, pretend: bool = True
    ) -> "subprocess.Popen[str]":
        if not folder.exists():
            folder.mkdir()
            shutil.copy(empty_mlflow, folder / "mlflow.db")
            shutil.copytree(decoded_store, folder / "store")
        command = [sys.executable, *(["-c", PRETENCE] if pretend else ["-m", "lungsound"])]
        return subprocess.Popen(
            [*command, "sweep", "experiment=tiny", *words],
            cwd=folder,
            env={**environment, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def six_runs() -> tuple[str, ...]:
    """The words of a study of two trajectories with three runs each."""
    return "annealing.cycles=1,2,3", "split.seed=0,1"


@pytest.fixture(scope="session")
def basic_study(
    start_study: StartStudy, six_runs: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of that study, by Hydra's own launcher in one process."""
    folder = tmp_path_factory.mktemp("basic") / "study"
    process = start_study(folder, {**os.environ}, *six_runs, pretend=False)
    finish(process)
    return folder


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Slurm of one node; its users' environment."""
    with running_slurm(tmp_path_factory.mktemp("slurm")):
        yield {**os.environ, "OMP_NUM_THREADS": "7"}  # of the login node


@pytest.fixture(scope="session")
def ray() -> Iterator[dict[str, str]]:
    """Ray of two nodes; its users' environment."""
    with running_ray({**os.environ, "PYTHONPATH": str(ROOT)}) as environment:
        yield environment
