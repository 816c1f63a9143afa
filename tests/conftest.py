"""What tests share: the real recordings, an empty MLflow, and small runs on the demo database."""

import contextlib
import gc
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from support.mlflow import join_tracking_threads
from support.runs import (
    ROOT,
    SMALL_RUN_OVERRIDES,
    cache_composed_configs,
    compose_config,
    compose_settings,
    skip_rendering,
)

# Before torch: the tests run in one process per core, see the Makefile, and commands in forks of
# these, to which a pool of threads would not come along.
os.environ["OMP_NUM_THREADS"] = "1"
for name in (
    *("LUNGSOUND_EXPERIMENT", "LUNGSOUND_DATA"),
    *("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"),
    "PYTHONUNBUFFERED",
):  # a machine's defaults are not tested
    os.environ.pop(name, None)


cache_composed_configs()


def pytest_collection_finish() -> None:
    """Spare the runs' garbage collections the libraries' objects: a third of a small run's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings, not part of the project: LUNGSOUND_REAL_DATA."""
    folder = Path(os.environ.get("LUNGSOUND_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder} (LUNGSOUND_REAL_DATA)")
    return folder


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with empty tables: 4000 writes that a test need not repeat."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def decoded_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the small runs' recordings and their waveforms."""
    from lungsound.runs.inputs import build_database

    store = tmp_path_factory.mktemp("decoded") / "store"
    build_database(compose_settings(*SMALL_RUN_OVERRIDES, f"store_dir={store}"))
    return store


@pytest.fixture(scope="session")
def run_training(empty_mlflow: Path, decoded_store: Path) -> Callable[..., Path]:
    """`run_training(folder, *overrides)`: a small run with all its files in `folder`.

    Returns the run's own folder. Its figures are unpainted unless `painted`, and its recordings
    are decoded already unless it is `fresh` or there is a store.
    """

    def train(folder: Path, *overrides: str, painted: bool = False, fresh: bool = False) -> Path:
        from lungsound.runs.run import run

        folder.mkdir(parents=True, exist_ok=True)
        if not fresh and not (folder / "store").exists():
            shutil.copytree(decoded_store, folder / "store")
        if not (folder / "mlflow.db").exists():
            shutil.copy(empty_mlflow, folder / "mlflow.db")
        # Absolute: MLflow keeps what it opened under a URI, for all tests of this process.
        tracking = f"sqlite:///{folder / 'mlflow.db'}"
        cfg, choices = compose_config(*SMALL_RUN_OVERRIDES, *overrides)
        if not any(word.startswith("tracking.uri=") for word in overrides):
            cfg.tracking.uri = tracking
        figures = contextlib.nullcontext() if painted else skip_rendering()
        with figures, contextlib.chdir(folder):
            return run(cfg, choices).resolve()

    return train


@pytest.fixture(scope="session")
def finished_run(
    run_training: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A small finished run's folder, for tests that only read; `store` is two folders above."""
    return run_training(tmp_path_factory.mktemp("trained"), painted=True, fresh=True)


@pytest.fixture
def store_copy(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run's store, where a run in `tmp_path` looks for it."""
    return Path(shutil.copytree(finished_run.parents[1] / "store", tmp_path / "store"))


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run in `tmp_path`, with its store and MLflow: the run's folder."""
    shutil.copytree(finished_run.parents[1], tmp_path, dirs_exist_ok=True)
    return tmp_path / finished_run.relative_to(finished_run.parents[1])


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The members whose network has been evaluated, as it goes on."""
    import lungsound.runs.predict

    names: list[str] = []
    original = lungsound.runs.predict.evaluate_member

    def record(trainer: Any, parts: Any, weights: Path, sets: Any) -> Any:
        names.append(weights.stem)
        return original(trainer, parts, weights, sets)

    monkeypatch.setattr(lungsound.runs.predict, "evaluate_member", record)
    return names


@pytest.fixture
def trained_epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs whose training has begun, as it goes on."""
    from lungsound.training.module import SnapshotModule

    begun: list[int] = []
    original = SnapshotModule.on_train_epoch_start

    def record(module: SnapshotModule) -> None:
        begun.append(module.current_epoch + 1)
        original(module)

    monkeypatch.setattr(SnapshotModule, "on_train_epoch_start", record)
    return begun


@pytest.fixture
def signal_during_final_sync(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[type, int], None]]:
    """`signal_during_final_sync(kind, number)`: a signal arrives during the last sync of a `kind`.

    That is a run (MlflowSync) or a study (StudySync), whose final status MLflow gets only then.
    """
    from lungsound.tracking.sync import MlflowSync

    reached, released = threading.Event(), threading.Event()
    signalled: list[int] = []

    def signal_end(kind: type, number: int) -> None:
        original, join = MlflowSync.finish, threading.Thread.join

        def finish(target: MlflowSync) -> None:
            if type(target) is kind:
                reached.set()
                assert released.wait(60)
            original(target)

        def joined(thread: threading.Thread, timeout: float | None = None) -> None:
            while thread.name == "tracking" and thread.is_alive() and not reached.is_set():
                join(thread, 0.01)
            if reached.is_set() and not signalled:
                signalled.append(number)
                try:
                    signal.raise_signal(number)
                finally:
                    released.set()
            join(thread, timeout)

        monkeypatch.setattr(MlflowSync, "finish", finish)
        monkeypatch.setattr(threading.Thread, "join", joined)

    yield signal_end
    assert signalled
    join_tracking_threads()
