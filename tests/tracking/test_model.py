"""The ensemble as a model in MLflow: registered, served, loaded from there."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from support.audio import encode
from support.commands import discard, run_lungsound, run_python
from support.mlflow import metric_points, mlflow_client, only_run
from support.server import LOOPBACK, free_port

from lungsound import Ensemble
from lungsound.errors import ConfigError, DataError, LungsoundError
from lungsound.serving import model as serving
from lungsound.tracking.model import REQUIREMENTS

NOISE = np.random.default_rng(1).normal(0, 0.1, 20_000)
Post = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def registered(
    finished_run: Path, tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path
) -> Iterator[Path]:
    """A copy of the finished run, registered twice in the MLflow beside it; that is the default."""

    folder = tmp_path_factory.mktemp("registered")
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    run = Path(shutil.copytree(finished_run, folder / "outputs" / "run"))
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        for _ in range(2):
            run_lungsound("register", run, "--name", "breaths", "--uri", uri)
        yield run
        mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def served(registered: Path) -> Any:
    """The model as `mlflow models serve` loads it, in this process."""
    return mlflow.pyfunc.load_model("models:/breaths/1")


def test_a_run_is_registered_once(registered: Path) -> None:
    client, run = mlflow_client(registered), only_run(registered)
    (found,) = client.search_model_versions("name = 'breaths'")
    assert (str(found.version), found.run_id) == ("1", run.info.run_id)
    assert found.description == run.data.tags["mlflow.note.content"]
    (output,) = run.outputs.model_outputs
    assert found.source == f"models:/{output.model_id}"
    model = client.get_logged_model(output.model_id)
    assert model.params["annealing.cycles"] == "2"
    scores = {point.key: point.value for point in model.metrics}
    assert scores["test/score_4"] == run.data.metrics["test/score_4"]
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "breaths", "version": 1}]
    metric_points(registered, run)


@pytest.mark.parametrize("name", ["a/b", "a:1", "it's", " ", ""])
def test_an_impossible_name_is_named(finished_run: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"^--name {re.escape(repr(name))}: expected a name"):
        run_lungsound("register", finished_run, "--name", name)


def test_the_model_says_what_it_needs_and_gives(registered: Path) -> None:
    folder = Path(mlflow.artifacts.download_artifacts("models:/breaths/1"))
    pinned = (folder / "requirements.txt").read_text().split()
    assert {f"{name}=={version(name)}" for name in ("torch", "soundfile", "pandas")} <= set(pinned)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert {"code/lungsound/ensemble.py", "artifacts/run/members/member-01.safetensors"} <= files
    assert not [name for name in files if name.endswith((".pyc", "tracking.json", ".pkl"))]
    model = mlflow.models.get_model_info("models:/breaths/1")
    assert model.signature
    assert model.signature.inputs.input_names() == ["audio"]
    params = {param.name: param.default for param in model.signature.params}
    assert params == {"window": serving.WINDOW_SECONDS, "hop": serving.HOP_SECONDS}


MODULES_OF_THE_SERVER = """
import sys
from lungsound.serving import model
from lungsound import errors
print(*(one.__file__ for name, one in sys.modules.items() if name.startswith("lungsound.")))
"""


@pytest.mark.slow
def test_all_that_a_server_imports_is_pinned() -> None:
    files = run_python("-c", MODULES_OF_THE_SERVER).stdout.split()
    modules = set()
    for file in files:
        for node in ast.walk(ast.parse(Path(file).read_text())):
            if isinstance(node, ast.ImportFrom):
                modules.add(str(node.module).partition(".")[0])
            elif isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
    brings = packages_distributions()
    for module in modules - sys.stdlib_module_names - {"lungsound"}:
        assert {name.lower() for name in brings[module]} & set(REQUIREMENTS), module


def test_answers_are_those_of_the_run(registered: Path, served: Any, tmp_path: Path) -> None:
    recordings = [tmp_path / "a.flac", tmp_path / "b.wav"]
    recordings[0].write_bytes(encode(NOISE, "FLAC", "PCM_16"))
    recordings[1].write_bytes(encode(NOISE[:13_000], "WAV", "PCM_16"))
    rows = [b64encode(path.read_bytes()).decode() for path in recordings]
    answer = served.predict(pd.DataFrame({"audio": rows}), params={"window": 2.0, "hop": 0.5})
    default = served.predict(pd.DataFrame({"audio": rows}), params={"window": None, "hop": None})
    pd.testing.assert_frame_equal(default, served.predict(pd.DataFrame({"audio": rows})))
    assert list(answer) == served.metadata.get_output_schema().input_names()
    loaded = Ensemble.load("models:/breaths/1")
    for row, path in enumerate(recordings):
        expected = Ensemble.load(registered).predict(path, window=2.0, hop=0.5)
        own = answer[answer["recording"] == row].drop(columns="recording")
        pd.testing.assert_frame_equal(own.reset_index(drop=True), expected)
        pd.testing.assert_frame_equal(loaded.predict(path, window=2.0, hop=0.5), expected)
    assert len(Ensemble.load(f"runs:/{only_run(registered).info.run_id}/ensemble").members) == 2


HOUR = encode(np.zeros(3_601_000) + np.resize([0.1, -0.1], 3_601_000), "FLAC", "PCM_16", 1000)
BAD = {
    "no audio": (b64encode(b"hello" * 100).decode(), {}, "expected audio that libsndfile reads"),
    "empty": ("", {}, "but it is empty"),
    "no base64": ("héllo", {}, "but it is no base64"),
    "a path": ("/etc/passwd", {}, "but it is no base64"),
    "no samples": (b64encode(encode(NOISE[:0], "WAV", "PCM_16")).decode(), {}, "holds no audio"),
    "too long": (b64encode(HOUR).decode(), {}, "but it lasts 3601 s"),
    "too large": ("A" * (serving.MAX_BYTES * 4 // 3 + 4), {}, "expected at most 64 MiB"),
    "too many windows": (
        b64encode(encode(NOISE, "WAV", "PCM_16")).decode(), {"hop": 0.001}, "every 0.001 s",
    ),
    "no hop": (b64encode(encode(NOISE, "WAV", "PCM_16")).decode(), {"hop": 0.0}, "seconds above 0"),
    "short": (
        b64encode(encode(NOISE[:4000], "WAV", "PCM_16")).decode(), {}, "choose a shorter window",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_gets_one_sentence(served: Any, name: str) -> None:
    audio, params, message = BAD[name]
    with pytest.raises(MlflowException) as caught:
        served.predict(pd.DataFrame({"audio": [audio]}), params=params)
    assert caught.value.get_http_status_code() == 400
    caught.value.message = "what MLflow makes of it"
    answer = json.loads(caught.value.serialize_as_json())["message"]
    assert answer.startswith("audio of row 0: ")
    assert message in answer
    assert len(answer.splitlines()) == 1
    assert len(answer) < 250


def test_a_request_without_rows_is_bad(served: Any) -> None:
    with pytest.raises(MlflowException, match="the request has no row"):
        served.predict(pd.DataFrame({"audio": pd.Series([], dtype=str)}))


def test_mlflow_names_a_misspelt_column_and_leaves_out_a_misspelt_param(served: Any) -> None:
    """As docs/mlflow.md says: both happen before the model's own code."""
    audio = b64encode(encode(NOISE, "WAV", "PCM_16")).decode()
    names = r"missing inputs \['audio'\].* extra inputs: \['audoi'\]"
    with pytest.raises(MlflowException, match=names) as caught:
        served.predict(pd.DataFrame({"audoi": [audio]}))
    assert caught.value.get_http_status_code() == 400
    default, other = (
        served.predict(pd.DataFrame({"audio": [audio]}), params={name: 2.0})
        for name in ("windw", "window")
    )
    assert default["end_seconds"].iloc[0] == 3
    assert other["end_seconds"].iloc[0] == 2


def test_what_cannot_be_registered_is_refused(registered: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected the folder of a finished run"):
        run_lungsound("register", tmp_path, "--name", "breaths")
    with pytest.raises(LungsoundError, match="expected a name, without any of"):
        uri = f"sqlite:///{registered.parents[1] / 'mlflow.db'}"
        run_lungsound("register", registered, "--name", "a/b:c", "--uri", uri)


@pytest.mark.parametrize("uri", ["models:/none/1", "models:/breaths/7", "runs:/none/ensemble"])
@pytest.mark.usefixtures("registered")
def test_a_model_that_mlflow_lacks_is_named(uri: str) -> None:
    with pytest.raises(LungsoundError, match=f"{uri}: expected an ensemble.*, but: "):
        Ensemble.load(uri)


def test_a_database_that_is_not_there_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(LungsoundError, match="no such file"):
        Ensemble.load("models:/breaths/1")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def post(registered: Path) -> Iterator[Post]:
    """`post(content, kind)`: the status and the JSON with which a real server answers."""
    port = free_port()
    words = ["models", "serve", "-m", "models:/breaths/1", "--env-manager", "local"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *words, "--host", LOOPBACK, "--port", str(port)],
        cwd=registered, env=environment, text=True, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert server.stderr
    # Until it is up, or has ended.
    assert any("startup complete" in line for line in server.stderr)
    discard(server.stderr)

    def post(content: bytes, kind: str) -> tuple[int, Any]:
        address = f"http://{LOOPBACK}:{port}/invocations"
        request = urllib.request.Request(address, content, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    yield post
    os.killpg(server.pid, signal.SIGTERM)
    server.wait()


@pytest.mark.long
def test_a_real_server_answers(registered: Path, post: Post, tmp_path: Path) -> None:
    path = tmp_path / "breath.wav"
    path.write_bytes(encode(NOISE, "WAV", "PCM_16"))
    audio = b64encode(path.read_bytes())
    expected = Ensemble.load(registered).predict(path).to_dict("records")
    for content, kind in (
        (b"audio\n" + audio, "text/csv"),
        (json.dumps({"inputs": {"audio": [audio.decode()]}}).encode(), "application/json"),
    ):
        status, answer = post(content, kind)
        assert status == 200
        assert answer["predictions"] == [
            {"recording": 0, **{name: pytest.approx(value) for name, value in row.items()}}
            for row in expected
        ]
    for name in ("no audio", "empty", "too long", "too large"):
        text, params, message = BAD[name]
        request = {"inputs": {"audio": [text]}, "params": params}
        status, answer = post(json.dumps(request).encode(), "application/json")
        assert status == 400
        assert answer["message"].startswith("audio of row 0: ")
        assert message in answer["message"]
        assert len(answer["message"].splitlines()) == 1
