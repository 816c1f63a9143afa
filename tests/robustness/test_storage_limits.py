"""Full disks and places that cannot be written to: the message, what is left, how it goes on."""

import contextlib
import errno
import fcntl
import os
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.disk import disk_full_for, drop_root_privileges, read_only
from support.mlflow import metric_points, mlflow_runs, only_run
from support.results import assert_identical_runs
from support.sprsound import add as add_events
from support.sprsound import event

from lungsound.data.database import open_database
from lungsound.data.registry import DATABASES
from lungsound.errors import LungsoundError, StorageError
from lungsound.storage.files import read_file, write_file
from lungsound.storage.locks import file_lock

TrainIn = Callable[..., Path]


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Inside, no file may grow beyond `size` bytes: what `ulimit -f` does, and a full disk too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def bytes_in_message(error: StorageError) -> int:
    return int(re.findall(r"expected to store ([\d,]+) bytes", str(error))[0].replace(",", ""))


def everything(folder: Path) -> set[str]:
    """All files but locks and MLflow's."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    ours = [path for path in paths if not path.name.startswith("mlflow.db")]
    return {str(path.relative_to(folder)) for path in ours if "mlruns" not in path.parts}


def copy_store(finished_run: Path, folder: Path, *names: str) -> None:
    """Put parts of the finished run's store into `folder`."""
    for name in names:
        shutil.copytree(finished_run.parents[1] / "store" / name, folder / "store" / name)


# --- one file ---


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("embedded", [True, False])
def test_a_full_disk_keeps_the_old_file(tmp_path: Path, code: int, embedded: bool) -> None:
    path = tmp_path / "file.json"
    write_file(path, b"old", embedded)
    before = sorted(tmp_path.iterdir())
    with disk_full_for(code, "file.json"), pytest.raises(StorageError) as error:
        write_file(path, 12345 * b"x", embedded)
    assert 12345 <= bytes_in_message(error.value) < 12345 + 100  # and the checksum
    hints = ("bytes are free", "Make room", "output_dir=", "store_dir=")
    assert all(text in str(error.value) for text in (str(path), os.strerror(code), *hints))
    assert ("ulimit" in str(error.value)) == (code == errno.EFBIG)
    assert sorted(tmp_path.iterdir()) == before
    assert read_file(path, embedded) == b"old"


def test_a_limit_on_files_is_named(tmp_path: Path) -> None:
    expected = r"1,001 bytes there.*ulimit -f"
    with file_size_limit(1000), pytest.raises(StorageError, match=expected):
        write_file(tmp_path / "file", 1001 * b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    with read_only(tmp_path):
        for path in (tmp_path / "file", tmp_path / "below" / "file"):
            expected = rf"{path}.*Permission denied.*Let this user write there"
            with pytest.raises(StorageError, match=expected):
                write_file(path, b"x")
        expected = r"lock.*Permission denied"
        with pytest.raises(StorageError, match=expected), file_lock(tmp_path / "lock"):
            pass


# --- a whole run ---

# What cannot be stored, one start after the other in one folder. Two periods of two epochs.
REFUSED = (
    *("index.json", "metadata.json", "epoch-0001.safetensors", "history.jsonl", "resume-0002.ckpt"),
    *("resume-0004.ckpt", "predictions.parquet", "members.png", "report.md", "SHA256SUMS"),
)


@pytest.mark.slow
def test_a_full_disk_loses_nothing(
    run_training: TrainIn, finished_run: Path, tmp_path: Path
) -> None:
    copy_store(finished_run, tmp_path, "demo")
    for name in map(re.escape, REFUSED):
        with disk_full_for(errno.ENOSPC, name) as met, pytest.raises(StorageError, match=name):
            run_training(tmp_path)
        assert len(met) == 1, name
        assert not [path for path in everything(tmp_path) if Path(path).name.startswith(".")], name
    finished = run_training(tmp_path)
    assert_identical_runs(finished, finished_run)
    assert everything(tmp_path) == everything(finished_run.parents[1])
    assert mlflow_runs(finished)[0].info.status == "FINISHED"


@pytest.mark.parametrize("what", ["demo", "waveforms"])
def test_a_limit_that_the_recordings_do_not_fit(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:  # fmt: skip
    store = finished_run.parents[1] / "store"
    if what == "waveforms":
        copy_store(finished_run, tmp_path, "demo")
    before = everything(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(b"")
    sizes = {path: path.stat().st_size for path in (store / what).rglob("*") if path.is_file()}
    largest = max(sizes, key=lambda path: sizes[path])
    size = sizes[largest]
    with file_size_limit(size - 1), pytest.raises(StorageError) as error:
        run_training(tmp_path, fresh=True)
    assert str(largest.relative_to(store)) in str(error.value)
    assert bytes_in_message(error.value) == pytest.approx(size, rel=1e-3)
    free = int(re.findall(r"large \(([\d,]+) bytes", str(error.value))[0].replace(",", ""))
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    left = {Path(path).name for path in everything(tmp_path) - before}
    assert not left & {largest.name, "SHA256SUMS", "index.json"}
    assert not [name for name in left if name.startswith(".")]

    def stop(*_: object, **__: object) -> None:
        pytest.fail("it goes on")

    monkeypatch.setattr("lungsound.runs.run.background_sync", stop)
    with pytest.raises(pytest.fail.Exception, match="it goes on"):  # room was made
        run_training(tmp_path, fresh=True)
    made = [path for path in (tmp_path / "store" / what).rglob("*") if path.is_file()]
    assert len(made) >= len(sizes)
    for path in sizes:
        again = tmp_path / "store" / path.relative_to(store)
        assert again.read_bytes() == path.read_bytes()


# --- no permission ---


@pytest.mark.parametrize("key", ["output_dir", "store_dir", "tracking.uri"])
@pytest.mark.parametrize("exists", [True, False])
def test_no_permission_is_said_before_any_work(
    run_training: TrainIn, tmp_path: Path, key: str, exists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lungsound.runs.run.build_inputs", lambda _: pytest.fail("work began"))
    other = tmp_path / "other"
    place = other if exists or key == "tracking.uri" else other / "below"
    other.mkdir()
    if key == "tracking.uri" and exists:
        (other / "mlflow.db").write_bytes(b"")
    value = f"sqlite:///{place / 'mlflow.db'}" if key == "tracking.uri" else place
    said = rf"{key}={value}: expected.*Permission denied.*{key}="
    with read_only(other), pytest.raises(LungsoundError, match=said):
        run_training(tmp_path, f"{key}={value}")


@pytest.mark.parametrize("function", ["flock", "lockf"])
def test_a_file_system_without_locks_is_named_before_any_work(
    run_training: TrainIn, tmp_path: Path, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lungsound.runs.run.build_inputs", lambda _: pytest.fail("work began"))
    monkeypatch.setattr(fcntl, function, refuse_locks(tmp_path, getattr(fcntl, function)))
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    expected = rf"^tracking.uri={uri}: expected.*No locks available\. .*another disk, or a server"
    with pytest.raises(LungsoundError, match=expected):
        run_training(tmp_path, f"tracking.uri={uri}")


def test_a_run_on_a_file_system_without_locks(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, empty_mlflow: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It finishes from a store that was filled elsewhere, with flock's lock files in it."""
    shared = tmp_path / "shared"
    shutil.copytree(finished_run.parents[1] / "store", shared / "store")
    assert list(shared.rglob("*.lock"))
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    monkeypatch.setattr(fcntl, "flock", refuse_locks(shared, fcntl.flock))
    folder = run_training(shared, f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}")
    for name in ("predictions.parquet", "scores.json"):
        assert (folder / name).read_bytes() == (finished_run / name).read_bytes()
    assert not [*shared.rglob("*.lease*"), *shared.rglob("*.lock.*")]


def refuse_locks(folder: Path, lock: Callable[[Any, int], None]) -> Callable[[Any, int], None]:
    """A `lock` that fails in the folder, as on NFS without its lock service."""

    def refuse(file: Any, operation: int) -> None:
        number = file if isinstance(file, int) else file.fileno()
        if Path(f"/proc/self/fd/{number}").readlink().is_relative_to(folder):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        lock(file, operation)

    return refuse


def test_a_database_file_that_cannot_be_written_to(
    run_training: TrainIn, empty_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lungsound.runs.run.build_inputs", lambda _: pytest.fail("work began"))
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    (tmp_path / "mlflow.db").chmod(0o444)
    with drop_root_privileges(), pytest.raises(LungsoundError, match=r"tracking\.uri=.*mlflow\.db"):
        run_training(tmp_path)


def test_a_file_that_cannot_be_read_is_named(
    run_training: TrainIn, finished_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_run.parents[1], tmp_path, dirs_exist_ok=True)
    path = tmp_path / finished_run.relative_to(finished_run.parents[1]) / "history.jsonl"
    path.chmod(0)
    expected = r"history\.jsonl: expected.* be read.*Permission"
    with drop_root_privileges(), pytest.raises(StorageError, match=expected):
        run_training(tmp_path)


@pytest.mark.parametrize("name", ["icbhi", "sprsound"])
def test_a_read_only_database(finished_run: Path, tmp_path: Path, name: str) -> None:
    root = tmp_path / "database"
    if name == "icbhi":
        shutil.copytree(next(finished_run.parents[1].glob("store/demo/*/")), root)
    else:
        wheeze = event("Wheeze", "1000", "2000")
        add_events(root, "train", "40638274_9.7_1_p1_1696", event(), wheeze)
    paths = [root, *root.rglob("*")]
    for path in paths:
        path.chmod(0o444 if path.is_file() else 0o755)
    before = everything(root)
    with read_only(*(path for path in paths if path.is_dir())):
        assert not os.access(paths[-1], os.W_OK, effective_ids=True)
        database = open_database(DATABASES[name], root, 22_000, tmp_path / "store", skip_bad=False)
    annotations = root.glob("audio_and_txt_files/*.txt")
    lines = sum(len(path.read_text().splitlines()) for path in annotations)
    assert len(database.cycles) == (lines if name == "icbhi" else 2) > 0
    assert everything(root) == before


def test_a_read_only_working_folder(
    run_training: TrainIn, empty_mlflow: Path, tmp_path: Path
) -> None:
    """If all three places are named, nothing is written to it."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        shutil.copy(empty_mlflow, folder)
    before = everything(here)
    places = [f"output_dir={there / 'outputs'}", f"store_dir={there / 'store'}"]
    places.append(f"tracking.uri=sqlite:///{there / 'mlflow.db'}")
    with read_only(here):
        run = run_training(here, *places, "annealing.epochs_per_cycle=1", fresh=True)
    assert everything(here) == before
    assert mlflow_runs(run)[0].info.status == "FINISHED"


def test_a_full_disk_of_mlflow_does_not_stop_the_training(
    run_training: TrainIn, finished_run: Path, empty_mlflow: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("lungsound.tracking.background.FINAL_RETRY_S", 1.0)
    copy_store(finished_run, tmp_path, "demo", "waveforms")  # they are larger than the limit
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    # The later half of MLflow's database can be read and not written.
    with file_size_limit(empty_mlflow.stat().st_size // 2):
        run = run_training(tmp_path)
    assert_identical_runs(run, finished_run)
    assert "MLflow did not take everything" in capsys.readouterr().out
    assert run_training(tmp_path) == run  # room was made
    shown = only_run(run)
    assert shown.info.status == "FINISHED"
    assert sorted(metric_points(run, shown)["train/loss"]) == [1, 2, 3, 4]
