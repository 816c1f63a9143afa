"""MLflow's page in a real browser: Debian's chromium, headless.

`make test` leaves it out; `make browser` runs it, and makes the pictures of README and docs/.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from matplotlib.image import imread
from mlflow.entities import Run
from PIL import Image
from support.commands import discard, run_python
from support.mlflow import mlflow_client, mlflow_runs
from support.runs import ROOT

pytestmark = pytest.mark.browser
QUIET = (
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ASSISTANT_X = 1115  # pixels: MLflow's assistant stands from there to the right
Page = Callable[..., str]
Picture = Callable[[str, str], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder of a small study."""
    folder = tmp_path_factory.mktemp("browsed")
    words = [sys.executable, str(ROOT / "sweep.py"), "annealing.cycles=1,2,...,5"]
    subprocess.run(
        words, cwd=folder, env={**os.environ, "LUNGSOUND_EXPERIMENT": "tiny"}, check=True
    )
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[Page]:
    """`page(address, picture)`: the page's content once it has come to rest; a screenshot of it in
    `picture`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert server.stdout
    assert any(
        "startup complete" in line for line in server.stdout
    )  # reads until it is up, or has ended
    discard(server.stdout)

    def open_page(address: str, picture: Path | None = None) -> str:
        profile = folder / "profile"
        shutil.rmtree(profile, ignore_errors=True)
        shown = ["--dump-dom"] if picture is None else [f"--screenshot={picture.absolute()}"]
        words = [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", *QUIET,
            f"--user-data-dir={profile}", "--window-size=1500,720", "--virtual-time-budget=40000",
        ]  # fmt: skip
        url = f"http://127.0.0.1:{port}/#/{address}"
        return subprocess.run(
            [*words, *shown, url], capture_output=True, text=True, check=True, timeout=240
        ).stdout

    yield open_page
    server.terminate()
    server.wait()


@pytest.fixture
def take_picture(page: Page, tmp_path: Path) -> Callable[[str, str], None]:
    """`take_picture(address, name)`: a page for the docs, without MLflow's assistant beside it."""

    def take(address: str, name: str) -> None:
        page(address, tmp_path / "page.png")
        with Image.open(tmp_path / "page.png") as whole:
            cropped = whole.crop((0, 0, ASSISTANT_X, whole.height))
        folder = Path(os.environ.get("LUNGSOUND_PICTURES", tmp_path))
        cropped.quantize(128).save(folder / f"{name}.png", optimize=True)

    return take


def test_runs_are_listed_by_score(folder: Path, page: Page, take_picture: Picture) -> None:
    """The experiment's description links the list; all there see its columns."""
    address = "experiments/1/runs?viewStateShareKey=scores"
    assert f'href="#/{address}"' in page("experiments/1/runs")
    content = page(address)
    for column in ("test/score_4", "annealing.cycles", "padding", "segment", "split"):
        assert f">{column}<" in content
    best = max(mlflow_runs(folder / "outputs" / "run"), key=score)
    names = re.findall(r">(M\d 2x2s sample s0 SYNTHETIC)<", content)
    assert names[0] == best.info.run_name
    take_picture(address, "mlflow_runs")


def score(run: Run) -> float:
    return run.data.metrics.get("test/score_4", -1.0)


def test_a_run_and_its_model_are_shown(folder: Path, page: Page, take_picture: Picture) -> None:
    run = max(mlflow_runs(folder / "outputs" / "run"), key=score)
    address = f"experiments/1/runs/{run.info.run_id}"
    content = page(address)
    for text in ("TEST PATIENTS ARE ALSO IN TRAINING", "sweep.py", "augment.vtlp_copies.both"):
        assert text in content
    assert "data:image/png;base64" in page(f"{address}/artifacts/report.html")
    take_picture(address, "mlflow_run")
    words = ["-m", "lungsound", "register", run.data.tags["lungsound.folder"], "--name", "breaths"]
    assert run_python(*words, folder=folder).returncode == 0
    content = page("models/breaths/versions/1")
    for text in ("TEST PATIENTS ARE ALSO IN TRAINING", "Schema", run.info.run_name):
        assert text in content
    take_picture("models/breaths/versions/1", "mlflow_model")


def test_a_study_is_shown_with_its_runs_and_a_figure(
    folder: Path, page: Page, take_picture: Picture, tmp_path: Path
) -> None:
    runs = mlflow_runs(folder / "outputs" / "run")
    (parent,) = [run for run in runs if "lungsound.study" in run.data.tags]
    place = f"experiments/{parent.info.experiment_id}/runs"
    assert parent.info.run_name in page(place)
    content = page(f"{place}/{parent.info.run_id}")
    for run in runs:
        assert run.info.run_name in content
    take_picture(f"{place}/{parent.info.run_id}", "mlflow")
    figure = "figures/score_against_members.png"
    assert mlflow_client(folder / "outputs" / "run").list_artifacts(parent.info.run_id, "figures")
    assert f'<img alt="{figure}"' in page(f"{place}/{parent.info.run_id}/artifacts/{figure}")
    picture = tmp_path / "figure.png"
    page(f"{place}/{parent.info.run_id}/artifacts/{figure}", picture)
    pixels = imread(picture)[..., :3]
    dark = (
        abs(pixels - [0x0B / 255, 0x3C / 255, 0x5D / 255]).max(axis=-1) < 0.1
    )  # the colour of the study's line
    assert dark.sum() > 100
