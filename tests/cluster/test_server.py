"""A lab's MLflow: a real server on a real PostgreSQL, with users, and eight who write at once."""

import shutil
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from mlflow import MlflowClient
from support.commands import ForkedPython, run_lungsound
from support.mlflow import metric_points, only_run, stored_points
from support.server import LOOPBACK, BrokenServer, mlflow_server, postgres_server

from lungsound.results.folder import RunFolder
from lungsound.tracking import background
from lungsound.tracking.state import read_state, write_state

pytestmark = pytest.mark.cluster
USER, PASSWORD = "admin", "a-long-password"
AUTH = f"""[mlflow]
default_permission = EDIT
database_uri = %s
auth_cache_ttl_seconds = 60
admin_username = {USER}
admin_password = {PASSWORD}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""
SEND = "from lungsound.cli.app import main; main(['send', '{}'])"


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The address of a PostgreSQL; the environment has its password."""
    assert find_spec("psycopg"), "expected psycopg: pip install -c constraints.txt -e '.[postgres]'"
    with pytest.MonkeyPatch.context() as patch, postgres_server("s3cret") as uri:
        patch.setenv("PGPASSWORD", "s3cret")
        yield uri


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's folder: its artifacts are in `files`."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(database: str, files: Path) -> Iterator[str]:
    """The address of MLflow's server, which wants a password."""
    assert find_spec("flask_wtf"), "expected Flask-WTF: pip install -c constraints.txt Flask-WTF"
    (files / "auth.ini").write_text(AUTH % database)
    options = ("--app-name", "basic-auth", "--backend-store-uri", database)
    secret = {"MLFLOW_FLASK_SERVER_SECRET_KEY": "key", "MLFLOW_AUTH_CONFIG_PATH": "auth.ini"}
    with mlflow_server(files, *options, **secret) as port:
        yield f"http://{LOOPBACK}:{port}"


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)


def copy_run(finished_run: Path, folder: Path, uri: str, experiment: str) -> Path:
    """A finished run of which MLflow has nothing."""
    shutil.copytree(finished_run, folder)
    state = read_state(folder)
    assert state
    state = replace(state, uri=uri, experiment=experiment, id=folder.name, name="", synced=False)
    write_state(folder, state)
    return folder


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("through_server", [True, False])
def test_eight_writers_at_once(
    finished_run: Path, tmp_path: Path, server: str, database: str, files: Path,
    through_server: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """All make the experiment, then their run; each metric and file is there once."""
    uri, experiment = (server, "served") if through_server else (database, "direct")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    folders = [copy_run(finished_run, tmp_path / f"run{i}", uri, experiment) for i in range(8)]
    writers = [ForkedPython("-c", SEND.format(folder), folder=tmp_path) for folder in folders]
    for folder, writer in zip(folders, writers, strict=True):
        code, printed, errors = writer.communicate()
        assert (code, errors) == (0, ""), errors
        assert f"{folder}: FINISHED in MLflow" in printed
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found
    runs = client.search_runs([found.experiment_id])
    assert {run.data.tags["lungsound.run"] for run in runs} == {folder.name for folder in folders}
    expected = metric_points(finished_run, only_run(finished_run))
    for run in runs:
        assert run.info.status == "FINISHED"
        assert stored_points(client, run) == expected
        if through_server:
            artifacts = files / "files" / run.info.experiment_id / run.info.run_id / "artifacts"
            assert (artifacts / "report.md").read_bytes() == (
                finished_run / "report.md"
            ).read_bytes()


@pytest.mark.usefixtures("store_copy")
def test_a_server_without_a_route_gets_the_run_later(
    run_training: Callable[..., Path], finished_run: Path, tmp_path: Path, server: str,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    monkeypatch.setattr(background, "FINAL_RETRY_S", 0.0)
    with BrokenServer() as route:
        threading.Thread(target=route.serve_forever, daemon=True).start()
        route.mode, route.backend = "drop", int(server.rpartition(":")[2])
        folder = run_training(tmp_path, f"tracking.uri={route.uri}", "tracking.experiment=later")
        assert RunFolder(folder).is_complete
        assert "did not take everything" in capfd.readouterr().out
        route.mode = "forward"
        with pytest.raises(SystemExit, match="MLFLOW_TRACKING_PASSWORD") as stop:
            run_lungsound("send", folder, "--uri", route.uri)
        assert len(str(stop.value).splitlines()) == 1
        request.getfixturevalue("user")
        run_lungsound("send", folder, "--uri", route.uri)
        assert "FINISHED in MLflow" in capfd.readouterr().out
        route.shutdown()
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("later")
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id])
    assert stored_points(client, run) == metric_points(finished_run, only_run(finished_run))
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"report.md", "scores.json", "predictions.parquet"} <= artifacts


def test_a_token_opens_the_proxy_before_a_server(
    finished_run: Path, tmp_path: Path, server: str, files: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The proxy knows who may enter, and enters as the server's user."""
    basic = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    with BrokenServer() as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        proxy.mode, proxy.backend = "forward", int(server.rpartition(":")[2])
        proxy.accounts = {"Bearer s3cret-token": f"Basic {basic}"}
        folder = copy_run(finished_run, tmp_path / "run", proxy.uri, "token")
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "another-token")
        with pytest.raises(SystemExit, match="accepts no such user, password or token"):
            run_lungsound("send", folder, "--uri", proxy.uri)
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cret-token")
        run_lungsound("send", folder, "--uri", proxy.uri)
        assert "FINISHED in MLflow" in capfd.readouterr().out
        client = MlflowClient(proxy.uri)
        experiment = client.get_experiment_by_name("token")
        assert experiment
        (run,) = client.search_runs([experiment.experiment_id])
        assert stored_points(client, run) == metric_points(finished_run, only_run(finished_run))
        proxy.shutdown()
    artifacts = files / "files" / run.info.experiment_id / run.info.run_id / "artifacts"
    assert (artifacts / "report.md").read_bytes() == (finished_run / "report.md").read_bytes()
    for path in filter(Path.is_file, folder.rglob("*")):
        assert b"s3cret-token" not in path.read_bytes()


@pytest.mark.parametrize(("name", "password"), [("nobody", PASSWORD), (USER, "m1styped")])
def test_a_wrong_password_is_one_sentence(
    finished_run: Path, tmp_path: Path, server: str, name: str, password: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    folder = copy_run(finished_run, tmp_path / "run", server, "wrong")
    with pytest.raises(SystemExit) as stop:
        run_lungsound("send", folder, "--uri", server)
    (line,) = str(stop.value).splitlines()
    assert "the server accepts no such user, password or token" in line
    assert password not in line
