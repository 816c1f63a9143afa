"""What tests share: the real recordings, composed configurations, and small runs on the demo database."""

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hydra import compose, initialize_config_dir
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from mlflow import MlflowClient
from mlflow.entities import Run
from omegaconf import DictConfig, open_dict

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the tests run in a process a core, see the Makefile
for name in ("LUNGSOUND_EXPERIMENT", "LUNGSOUND_DATA"):  # a machine's defaults are not what is tested
    os.environ.pop(name, None)

ROOT = Path(__file__).parents[1]
# Seconds long, and still through everything: several segments a cycle, both kinds of copies, two periods.
SMALL = (
    "data.demo_patients=8",
    "data.demo_cycles=60",
    "segment=2x2s",
    "model.width=0.0625",
    "annealing.cycles=2",
    "annealing.epochs_per_cycle=2",
)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings: LUNGSOUND_REAL_DATA, or ../shared/data. They are not part of the project."""
    folder = Path(os.environ.get("LUNGSOUND_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder} (LUNGSOUND_REAL_DATA)")
    return folder


@contextlib.contextmanager
def configured(*overrides: str) -> Iterator[tuple[DictConfig, dict[str, str]]]:
    """The configuration and the options chosen, as `python train.py *overrides` gets them."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=list(overrides), return_hydra_config=True)
        choices = dict(cfg.hydra.runtime.choices)
        with open_dict(cfg):
            del cfg["hydra"]
        yield cfg, choices


@contextlib.contextmanager
def unpainted() -> Iterator[None]:
    """Inside, figures are made but not painted, which takes half of a small run's time."""

    def save(figure: Figure, file: BinaryIO, **_: object) -> None:
        file.write(b"a picture")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and nothing in them: 4000 writes that a test need not repeat."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def train_in(empty_mlflow: Path) -> Callable[..., Path]:
    """`train_in(folder, *overrides)`: a small run with outputs, store and MLflow in `folder`; its own folder.

    Its figures are unpainted unless `painted`.
    """

    def train(folder: Path, *overrides: str, painted: bool = False) -> Path:
        from lungsound.run import run

        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "mlflow.db").exists():
            shutil.copy(empty_mlflow, folder / "mlflow.db")
        # MLflow keeps what it opened under an address: a relative one would lead every test to the first one's file.
        tracking = f"tracking.uri=sqlite:///{folder / 'mlflow.db'}"
        figures = contextlib.nullcontext() if painted else unpainted()
        with figures, contextlib.chdir(folder), configured(*SMALL, tracking, *overrides) as (cfg, choices):
            return run(cfg, choices).resolve()

    return train


@pytest.fixture(scope="session")
def trained(train_in: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small finished run, for tests that only read: its folder, below `outputs`, beside `store` and `mlflow.db`."""
    return train_in(tmp_path_factory.mktemp("trained"), painted=True)


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs whose training has begun, as it goes on."""
    from lungsound.training.module import SnapshotTraining

    begun: list[int] = []
    original = SnapshotTraining.on_train_epoch_start

    def noted(module: SnapshotTraining) -> None:
        begun.append(module.current_epoch + 1)
        original(module)

    monkeypatch.setattr(SnapshotTraining, "on_train_epoch_start", noted)
    return begun


def let_go() -> None:
    """Wait for the threads that a run has left with MLflow; in real life the process ends there."""
    for thread in threading.enumerate():
        if thread.name == "tracking":
            thread.join()


@pytest.fixture
def signalled_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any, int], None]]:
    """`signalled_end(view, number)`: MLflow hears how such a folder ended only while the command still waits for it
    after a signal."""
    ending, waits_on = threading.Event(), threading.Event()
    signalled: list[int] = []

    def signal_end(view: Any, number: int) -> None:
        original, join = view.end, threading.Thread.join

        def end(shown: Any, record: Any) -> None:
            ending.set()
            waits_on.wait()
            original(shown, record)

        def joined(thread: threading.Thread, timeout: float | None = None) -> None:
            if thread.name == "tracking" and ending.is_set():
                if signalled:
                    waits_on.set()
                else:
                    signalled.append(number)
                    signal.raise_signal(number)
            join(thread, timeout)

        monkeypatch.setattr(view, "end", end)
        monkeypatch.setattr(threading.Thread, "join", joined)

    yield signal_end
    assert signalled
    waits_on.set()
    let_go()


def flipped(content: bytes, place: int) -> bytes:
    """`content` with one bit of its byte at `place` changed."""
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def drawn_texts(figure: Figure) -> list[str]:
    """Every text that the figure shows; fails where two overlap or one leaves the figure (by more than rounding)."""
    drawn: list[tuple[str, Bbox]] = []
    draw = Text.draw

    def note(text: Text, renderer: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            drawn.append((text.get_text(), text.get_window_extent(renderer)))
        draw(text, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", note)
        figure.draw_without_rendering()
    for (one, box), (other, other_box) in combinations(drawn, 2):
        width = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
        height = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
        assert min(width, height) <= 0.5, f"{one!r} and {other!r} overlap"
    for text, box in drawn:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
        assert inside, f"{text!r} leaves the figure"
    return [text for text, _ in drawn]


def stored_mlflow_runs(run_folder: Path) -> list[Run]:
    """The MLflow runs beside a run that `train_in` made, the newest first."""
    client = mlflow_client(run_folder)
    return list(client.search_runs([client.get_experiment_by_name("lungsound").experiment_id]))


def mlflow_client(run_folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{run_folder.parents[1] / 'mlflow.db'}")
