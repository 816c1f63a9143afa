"""Files from a stranger, their checksums right: none runs code or leads out of its folder."""

import ast
import contextlib
import io
import json
import os
import pickle
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from robustness.fuzz_data import STEMS, icbhi
from support.runs import ROOT, compose_settings

from lungsound.data.database import open_database
from lungsound.data.registry import DATABASES
from lungsound.data.splits.official import OFFICIAL_SPLIT_FILENAME, official_icbhi
from lungsound.data.splits.table import file_split
from lungsound.data.tools.download import download_database
from lungsound.errors import CorruptFileError, DataError, LungsoundError
from lungsound.results.folder import RunFolder
from lungsound.runs.build import build_trainer
from lungsound.runs.rescore import load_run_config, score_on_database
from lungsound.storage.files import read_file, write_file
from lungsound.studies.report import write_report
from lungsound.training.schedule import Annealing
from lungsound.training.trajectory import Trajectory

ANNEALING = Annealing("cosine", 2, 2, None, 1e-4, "best", "score", "last")  # conftest's SMALL


class Attack:
    """Unpickled, it makes the file `marker`."""

    def __init__(self, marker: Path) -> None:
        self.command = f"touch '{marker}'"

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A file that an attack makes; it must not be there in the end."""
    path = tmp_path / "it ran"
    yield path
    assert not path.exists()


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> RunFolder:
    """A finished run that may be changed."""
    return RunFolder(Path(shutil.copytree(finished_run, tmp_path / "outputs" / finished_run.name)))


def torch_file(value: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)
    return buffer.getvalue()


# --- weights ---


def attacks(marker: Path) -> list[bytes]:
    evil = Attack(marker)
    among_weights = {"network": {"weight": torch.zeros(1)}, "label_order": [evil]}
    old = torch_file({"network": evil}, _use_new_zipfile_serialization=False)
    pickles = pickle.dumps(evil), pickle.dumps(evil, protocol=0)
    return [torch_file(evil), torch_file(among_weights), old, *pickles]


@pytest.mark.parametrize("number", range(5))
def test_weights_run_no_code(number: int, marker: Path, tmp_path: Path) -> None:
    content = attacks(marker)[number]
    trajectory = Trajectory(tmp_path / "path", ANNEALING)
    checkpoints = build_trainer(compose_settings(), epochs=1).strategy.checkpoint_io
    snapshot, resume_point = trajectory.snapshot_path(1), trajectory.resume_path(1)
    write_file(snapshot, content)
    with pytest.raises(CorruptFileError, match=snapshot.name):
        trajectory.snapshot(1)
    write_file(resume_point, content, embed_checksum=True)
    with pytest.raises(CorruptFileError, match=resume_point.name):
        checkpoints.load_checkpoint(resume_point, weights_only=False)


def test_the_attack_would_work(tmp_path: Path) -> None:
    """Otherwise the tests above prove nothing."""
    marker = tmp_path / "it ran"
    for content in attacks(marker):
        try:
            torch.load(io.BytesIO(content), weights_only=False)
        except Exception:
            pickle.loads(content)
        assert marker.exists()
        marker.unlink()


# --- predictions ---


def test_predictions_run_no_code(run: RunFolder, marker: Path) -> None:
    """A pickle in a column's extension type, in pandas' own metadata, and in the file's place."""
    path = run.path / "predictions.parquet"
    table = pq.read_table(pa.BufferReader(read_file(path)))
    evil = pickle.dumps(Attack(marker))
    extension = {b"ARROW:extension:name": b"arrow.py_extension_type"}
    extension[b"ARROW:extension:metadata"] = evil
    storage = pa.array([b"x"] * table.num_rows, pa.binary())
    more = table.append_column(pa.field("more", pa.binary(), metadata=extension), storage)
    column = pa.field("recording", pa.binary(), metadata=extension)
    instead = table.set_column(table.column_names.index("recording"), column, storage)
    call = f"__import__('os').system(\"touch '{marker}'\")"
    types = {"pandas_type": call, "numpy_type": call, "metadata": {"call": call}}
    columns = [{"name": "recording", "field_name": "recording", **types}]
    known = json.dumps({"index_columns": [call], "columns": columns})
    beside = table.replace_schema_metadata({b"pandas": known.encode(), b"PANDAS_ATTRS": evil})

    def read(content: bytes) -> pd.DataFrame:
        write_file(path, content)
        run.write_checksums()
        return run.read_predictions()

    own = read(as_parquet(table))
    assert list(own.columns) == table.column_names
    for harmless in (more, beside):  # what we do not know stays unread
        pd.testing.assert_frame_equal(read(as_parquet(harmless)), own)
    for content in (as_parquet(instead), evil):
        with pytest.raises(CorruptFileError, match=r"predictions\.parquet"):
            read(content)


def as_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def test_predictions_that_unpack_to_the_whole_memory_are_refused(run: RunFolder) -> None:
    table = pq.read_table(pa.BufferReader(run.path.joinpath("predictions.parquet").read_bytes()))
    bomb = as_parquet(table.take([0] * 3_000_000))
    assert len(bomb) < 200_000
    write_file(run.path / "predictions.parquet", bomb)
    run.write_checksums()  # a stranger's folder has its own
    with pytest.raises(CorruptFileError, match="3000000 rows"):
        run.read_predictions()


# --- configurations ---


@pytest.mark.parametrize(
    "line",
    [
        "output_dir: !!python/object/apply:os.system [\"touch '{marker}'\"]",
        "output_dir: !!python/name:os.system",
        "output_dir: ${{oc.env:LUNGSOUND_SECRET}}",
        "seed: ${{oc.decode:${{oc.env:LUNGSOUND_SECRET}}}}",
        'output_dir: "\\x24{{oc.env:LUNGSOUND_SECRET}}"',
        "seed: {{_target_: os.system, command: \"touch '{marker}'\"}}",
        "_target_: os.system",
        "seed: &a [1]\nother: [*a, *a]",
        "seed: " + "[" * 2000,
    ],
)
def test_a_configuration_runs_no_code_and_tells_no_secret(
    line: str, run: RunFolder, marker: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("LUNGSOUND_SECRET", "7305")
    line = line.format(marker=marker)
    key, lines = line.split(":")[0], run.read_text("config.yaml").splitlines()
    others = [other for other in lines if other.split(":")[0] != key]
    run.write_text("config.yaml", "\n".join([*others, line]))
    with pytest.raises(LungsoundError, match=r"config\.yaml") as error:
        score_on_database(run.path, DATABASES["icbhi"], ROOT, None)
    contents = [path.read_bytes() for path in run.path.rglob("*") if path.is_file()]
    assert not any(b"7305" in content for content in contents)
    assert "7305" not in str(error.value) + str(capfd.readouterr())


def test_a_runs_own_configuration_is_read(run: RunFolder) -> None:
    assert load_run_config(run, None).annealing.cycles == 2


def test_a_configuration_that_would_fill_the_memory_is_refused(run: RunFolder) -> None:
    text = run.read_text("config.yaml").replace("n_mels: 50", "n_mels: 4000000000")
    run.write_text("config.yaml", text)
    run.write_checksums()  # a stranger's folder has its own
    expected = r"config\.yaml.*\n.*features\.n_mels: expected a number from 1 to"
    with pytest.raises(LungsoundError, match=expected):
        load_run_config(run, None)


# --- names that lead elsewhere ---

opened: list[str] | None = None


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if opened is None or event not in ("open", "os.rename", "os.remove", "os.mkdir"):
        return
    if not isinstance(arguments[0], int):
        opened.append(os.path.realpath(os.fsdecode(arguments[0])))


sys.addaudithook(watch)  # Python's own report of every file that is opened, made or removed


@contextlib.contextmanager
def nothing_touched(outside: Path) -> Iterator[None]:
    """No file in `outside`, beside the folder of what is read, is opened, made or removed."""
    global opened
    opened = []
    try:
        yield
        assert not [path for path in opened if path.startswith(str(outside.resolve()))]
    finally:
        opened = None


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that a name would lead to."""
    folder = tmp_path / "outside"
    folder.mkdir()
    return icbhi(folder)


def test_names_in_lists_and_splits_lead_nowhere(tmp_path: Path, outside: Path) -> None:
    root = tmp_path / "database"
    root.mkdir()
    database = open_database(DATABASES["icbhi"], icbhi(root), 4000, tmp_path / "store", False)
    places = "../outside/", f"{outside}/", "..\\outside\\", "x/../../outside/"
    names = [f"{place}{STEMS[0]}" for place in places]
    (root / OFFICIAL_SPLIT_FILENAME).write_text("".join(f"{name}\ttrain\n" for name in names))
    split = tmp_path / "split.csv"
    split.write_text("recording,cycle,set\n" + "".join(f"{name},0,train\n" for name in names))
    with nothing_touched(outside):
        with pytest.raises(DataError):
            official_icbhi(database.cycles, 0, root)
        with pytest.raises(DataError, match=f"None of the {len(names)} recordings"):
            file_split(database.cycles, split)
        open_database(DATABASES["icbhi"], root, 4000, tmp_path / "store", False)


def test_json_names_lead_nowhere(run: RunFolder, tmp_path: Path, outside: Path) -> None:
    facts = run.read_json("metadata.json")
    study = tmp_path / "outputs" / "studies" / "mine"
    for name in ("../../outside", str(outside), "..", ".", "", "x\0", 7, None):
        run.write_json("metadata.json", {**facts, "trajectory": name})
        run.write_checksums()
        with nothing_touched(outside):
            expected = r"metadata\.json: expected a trajectory's key"
            with pytest.raises(CorruptFileError, match=expected):
                run.trajectory_key()
            places = (f"{name}/{outside.name}", f"../../{outside.name}")
            jobs = [{"run": place, "values": {"seed": seed}} for seed, place in enumerate(places)]
            write_file(study / "study.json", json.dumps({"swept": ["seed"], "jobs": jobs}).encode())
            with pytest.raises(LungsoundError, match="none of the study's"):
                write_report(study)


@pytest.mark.parametrize("form", ["w:", "w:gz"])
def test_another_kind_of_archive_is_not_opened(form: str, tmp_path: Path, outside: Path) -> None:
    """A tar archive with a link out of the folder and a file through it: only zip is taken."""
    archive = tmp_path / "database.zip"
    with tarfile.open(archive, form) as tar:  # type: ignore[call-overload]
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        tar.addfile(link)
        file = tarfile.TarInfo(f"link/{STEMS[0]}.wav")
        tar.addfile(file, io.BytesIO(b""))
    before = sorted(outside.iterdir())
    with pytest.raises(DataError, match="expected a whole zip archive"):
        download_database("icbhi", tmp_path / "to", str(archive))
    assert sorted(outside.iterdir()) == before
    assert not (tmp_path / "to").exists()


# --- the source ---

PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
RUN_CODE = {*PICKLES, "code", "runpy"}
CALLS = {"eval", "exec", "read_pickle", "unsafe_load", "full_load", "instantiate", "import_module"}
READERS = {"np.load", "numpy.load", "yaml.load", "OmegaConf.load", "pd.read_parquet", "pd.read_hdf"}


def test_nothing_that_the_project_reads_is_unpickled() -> None:
    """By the source: no reader that could run code."""
    for path in sorted((ROOT / "lungsound").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not RUN_CODE & {name.split(".")[0] for name in names}, path
            if isinstance(node, ast.Call):
                call, keywords = ast.unparse(node.func), [ast.unparse(k) for k in node.keywords]
                assert call.rpartition(".")[2] not in {*CALLS, "__import__"}, path
                assert call not in READERS, path
                assert call != "torch.load" or "weights_only=True" in keywords, path
