"""Sweeps in the tests' own process."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.runs import skip_rendering

from lungsound.studies.study import run_study


@pytest.fixture
def sweep(
    empty_mlflow: Path, decoded_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """`sweep(*words)`: a study of small runs in an empty folder, which it returns."""
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    shutil.copytree(decoded_store, tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    # Not on the command line: what Hydra composes for other tests serves here as well.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")

    def run_sweep(*words: str) -> Path:
        with skip_rendering():
            run_study(["experiment=tiny", *words])
        return tmp_path

    return run_sweep
