"""MLflow's files lie beside its database, also after the project has moved."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from support.disk import drop_root_privileges, read_only
from support.mlflow import artifact_paths, mlflow_client, only_run

from lungsound.errors import StorageError
from lungsound.tracking.client import Experiment, open_experiment
from lungsound.tracking.location import has_moved
from lungsound.tracking.state import read_state
from lungsound.tracking.sync import sync


@pytest.fixture
def project(finished_run: Path, tmp_path: Path, empty_mlflow: Path) -> Path:
    """A project's folder with a database and the files of a run that was sent to it."""
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(empty_mlflow, project / "mlflow.db")
    shutil.copytree(finished_run, project / "outputs" / "run")
    send(project)
    return project


def send(project: Path, **changes: str) -> str:
    state = read_state(project / "outputs" / "run")
    assert state
    uri = f"sqlite:///{project / 'mlflow.db'}"
    return sync(project / "outputs" / "run", replace(state, uri=uri, **changes))


def open_in(project: Path) -> Experiment:
    return open_experiment(f"sqlite:///{project / 'mlflow.db'}", "lungsound")


def location(project: Path) -> str:
    experiment = mlflow_client(project / "outputs" / "run").get_experiment_by_name("lungsound")
    assert experiment
    return str(experiment.artifact_location)


def test_a_project_that_moved_keeps_its_files_together(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The old place is not made again, and files of earlier runs are found in the new one."""
    before = only_run(project / "outputs" / "run")
    names = artifact_paths(project / "outputs" / "run", before)
    moved = project.rename(tmp_path / "moved")
    send(moved, id="another run")
    assert not project.exists()
    assert str(project / "mlruns") in capsys.readouterr().out
    runs = mlflow_client(moved / "outputs" / "run").search_runs(["1"])
    assert len(runs) == 2
    for run in runs:
        assert artifact_paths(moved / "outputs" / "run", run) == names
        assert (moved / "mlruns" / run.info.run_id / "artifacts" / "report.md").exists()
    send(moved, id="a third run")
    assert capsys.readouterr().out == ""


def test_a_copy_of_a_project_leaves_the_original_alone(project: Path, tmp_path: Path) -> None:
    """Also if it may not be written to."""
    copy = Path(shutil.copytree(project, tmp_path / "copy"))
    before = sorted(project.rglob("*"))
    with read_only(project, project / "mlruns"):
        run_id = send(copy, id="another run")
    assert sorted(project.rglob("*")) == before
    assert (copy / "mlruns" / run_id / "artifacts" / "report.md").exists()


def test_a_copy_from_another_users_home(project: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    copy = Path(shutil.copytree(project, tmp_path / "copy"))
    home.mkdir()
    project.rename(home / "project")
    with closing(sqlite3.connect(copy / "mlflow.db")) as database, database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            old, new = project.as_uri(), (home / "project").as_uri()
            database.execute(f"UPDATE {table} SET {column} = REPLACE({column}, ?, ?)", (old, new))
    home.chmod(0)
    with drop_root_privileges():
        assert has_moved(home / "project" / "mlruns", copy / "mlflow.db")
        open_in(copy)
    home.chmod(0o755)
    assert location(copy) == (copy / "mlruns").as_uri()


def test_a_run_whose_files_did_not_move_keeps_their_address(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(project / "mlflow.db", copy)
    before = only_run(project / "outputs" / "run").info.artifact_uri
    open_in(copy)
    assert location(copy) == (copy / "mlruns").as_uri()
    assert only_run(copy / "outputs" / "run").info.artifact_uri == before


def test_a_link_to_a_project_is_the_same_place(project: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(project)
    shutil.rmtree(project / "mlruns")  # until the next run
    open_in(tmp_path / "link")
    assert location(project) == (project / "mlruns").as_uri()


@pytest.mark.parametrize(
    "place", ["s3://host/mlruns", "mlflow-artifacts:/1", "other", "disk/mlruns"]
)
def test_a_place_that_the_user_chose_stays(place: str, tmp_path: Path, empty_mlflow: Path) -> None:
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    if place == "disk/mlruns":  # there, and beside no other database
        (tmp_path / place).mkdir(parents=True)
    chosen = place if ":" in place else (tmp_path / place).as_uri()
    client = mlflow_client(tmp_path / "outputs" / "run")
    client.create_experiment("lungsound", chosen)
    open_in(tmp_path)
    assert location(tmp_path) == chosen


def test_a_place_that_the_user_chose_is_not_made_again(tmp_path: Path, empty_mlflow: Path) -> None:
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    client = mlflow_client(tmp_path / "outputs" / "run")
    client.create_experiment("lungsound", (tmp_path / "gone" / "files").as_uri())
    with pytest.raises(StorageError, match=f"files in {tmp_path}/gone/files, but .* not exist"):
        open_in(tmp_path)
    assert not (tmp_path / "gone").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["100% sure", "My%20Project", "why?", "a#b", "a b", "ü & @:+='"])
def test_any_name_of_a_folder(finished_run: Path, tmp_path: Path, name: str) -> None:
    """The database is made, and everything lies beside it."""
    folder = tmp_path / name
    shutil.copytree(finished_run, folder / "outputs" / "run")
    run_id = send(folder)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert {path.name for path in folder.iterdir()} - {"mlflow.db.lock"} == {
        *("outputs", "mlflow.db", "mlruns"),
    }
    assert (folder / "mlruns" / run_id / "artifacts" / "report.md").exists()
    assert open_in(folder).client.get_run(run_id).info.status == "FINISHED"
