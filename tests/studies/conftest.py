"""Sweeps in the tests' own process."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.runs import skip_rendering

from lungsound.studies.study import run_study


@pytest.fixture
def sweep(
    empty_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """`sweep(*words)`: a study of small runs in an empty folder, which it returns."""
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)

    def run_sweep(*words: str) -> Path:
        small = ("experiment=tiny", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}")
        with skip_rendering():
            run_study([*small, *words])
        return tmp_path

    return run_sweep
