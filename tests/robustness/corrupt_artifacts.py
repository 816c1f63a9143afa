"""What the fuzzer feeds: files that a run, a study and the store leave, damaged or as a stranger
could write them.
"""

import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from robustness.fuzz_bytes import (
    NUMBERS,
    TEXTS,
    corrupt_json,
    corrupt_lines,
    corrupt_value,
    mutate_bytes,
)
from robustness.fuzz_data import RATE_HZ, STEMS, FuzzCase, icbhi

from lungsound.data.database import open_database
from lungsound.results.folder import RunFolder
from lungsound.runs.build import build_components, build_trainer
from lungsound.runs.predict import load_member, member_epochs
from lungsound.runs.report import format_scores
from lungsound.runs.rescore import load_run_config
from lungsound.runs.train import fit
from lungsound.storage.files import (
    CHECKSUM_MANIFEST,
    file_sha256,
    read_checksums,
    read_file,
    write_checksums,
    write_file,
)
from lungsound.storage.tensors import read_tensors, write_tensors
from lungsound.studies.report import read_runs, run_row
from lungsound.studies.store_admin import list_trajectories
from lungsound.training.schedule import Annealing
from lungsound.training.trajectory import Trajectory

ANNEALING = Annealing("cosine", 2, 2, None, 1e-4, "best", "score", "last")  # conftest's SMALL


def linked(source: Path, target: Path) -> Path:
    """A copy of a folder whose files are links: `write_file` replaces a file, and so changes the
    copy alone.
    """
    return Path(shutil.copytree(source, target, copy_function=os.link))


def write_corrupted(rng: Random, path: Path, content: bytes, embedded: bool = False) -> None:
    """Mostly with the right checksum: a stranger can compute it, and the wrong one hides the
    reader.
    """
    if rng.random() < 0.8:
        write_file(path, content, embedded)
        if (path.parent / CHECKSUM_MANIFEST).exists():
            digests = read_checksums(path.parent)
            write_checksums(path.parent, {**digests, path.name: file_sha256(path)})
        return
    raw = path.read_bytes()
    path.unlink()  # a link
    path.write_bytes(mutate_bytes(rng, raw))


def corrupt_file(rng: Random, path: Path) -> None:
    """One of a run's or a study's files, changed in its structure or its bytes."""
    content = read_file(path)
    if rng.random() < 0.7:
        if path.suffix == ".json":
            content = corrupt_json(rng, json.loads(content))
        elif path.suffix == ".jsonl":
            content = odd_json_lines(rng, content)
        elif path.suffix == ".parquet":
            content = corrupt_parquet(rng, content)
        else:
            content = corrupt_lines(
                rng, content.decode(), ": " if path.suffix == ".yaml" else ","
            ).encode(errors="replace")
    if rng.random() < 0.4:
        content = mutate_bytes(rng, content)
    write_corrupted(rng, path, content)


def odd_json_lines(rng: Random, content: bytes) -> bytes:
    lines = content.splitlines()
    place = rng.randrange(len(lines))
    change = rng.choice(
        (
            lambda line: corrupt_json(rng, json.loads(line)),
            lambda line: line + line,
            lambda line: b"",
        )
    )
    lines[place] = change(lines[place]).replace(b"\n", b" ")
    return b"\n".join(lines)


def corrupt_parquet(rng: Random, content: bytes) -> bytes:
    """predictions.parquet with columns or rows that should not be so."""
    table = pq.read_table(pa.BufferReader(content))
    name = rng.choice(table.column_names)
    place, rows = table.column_names.index(name), table.num_rows
    match rng.randrange(6):
        case 0:
            table = table.drop_columns(name)
        case 1:
            text = rng.choice((*NUMBERS, *TEXTS[:9]))
            table = table.set_column(place, name, pa.array([text] * rows))
        case 2:
            value = rng.choice(([1], {"a": 1}, 1e308, -1, b"\xff", True, None))
            odd = pa.array([value] * rows)
            table = table.set_column(place, name, odd)
        case 3:
            chosen = sorted(rng.randrange(rows) for _ in range(rng.randint(0, rows)))
            table = table.take(pa.array(chosen, pa.int64()))
        case 4:
            table = table.append_column(rng.choice((name, "x", "part", "event_type")), table[name])
        case _:
            metadata = {
                key: mutate_bytes(rng, value)
                for key, value in (table.schema.metadata or {}).items()
            }
            table = table.replace_schema_metadata(metadata)
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    return bytes(buffer.getvalue())


def corrupt_tensors(rng: Random, path: Path) -> bytes:
    """A resume point, its containers changed or its bytes."""
    content = read_file(path, embedded_checksum=True)
    if rng.random() < 0.5:
        return mutate_bytes(rng, content)
    value = torch.load(io.BytesIO(content), weights_only=True)
    holder, key = _place(rng, value)
    old = holder[key]
    match rng.randrange(4):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 1 if isinstance(old, torch.Tensor):
            holder[key] = rng.choice((
                lambda: old.flatten()[:-1], lambda: old.long(), lambda: old * torch.nan,
                lambda: old.to_sparse(), lambda: old.to("meta"), lambda: old[None],
                lambda: old.to(torch.complex64), lambda: old.bool(),
            ))()  # fmt: skip
        case 2 if isinstance(holder, dict):
            holder[rng.choice(TEXTS)] = old
        case _:
            holder[key] = corrupt_value(rng, old)
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def corrupt_snapshot(rng: Random, path: Path) -> None:
    """A snapshot with other tensors or metadata and the right checksum, or with other bytes."""
    tensors, metadata = read_tensors(path)
    name = rng.choice(list(tensors))
    old = tensors[name]
    match rng.randrange(5):
        case 0:
            del tensors[name]
        case 1:
            tensors[name] = rng.choice((old.flatten()[:-1], old.long(), old[None], old.bool()))
        case 2:
            tensors[rng.choice(("x", "network.x", "features.", "."))] = old.clone()
        case 3:
            metadata[rng.choice(list(metadata))] = rng.choice(TEXTS[:9])
        case _:
            content = mutate_bytes(rng, path.read_bytes())
            path.unlink()  # a link
            path.write_bytes(content)
            return
    write_tensors(path, tensors, metadata)


def _place(rng: Random, value: Any) -> tuple[Any, Any]:
    """A random place in nested dicts and lists: what holds it, and its key there."""
    while True:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        if not isinstance(value[key], dict | list) or not value[key] or rng.random() < 0.1:
            return value, key
        value = value[key]


class Stored:
    """The kinds that begin with a finished run's folder; its store lies two folders above, beside
    `outputs`.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        (self.path,) = (
            path for path in (run.parents[1] / "store" / "trajectories").iterdir() if path.is_dir()
        )
        self.settings = load_run_config(RunFolder(run), run.parents[1] / "store")
        self.parts = cache(lambda: build_components(self.settings))

    def snapshot(self, rng: Random, folder: Path, store: Path) -> FuzzCase:
        trajectory = Trajectory(linked(self.path, folder / "path"), ANNEALING)
        path = rng.choice(sorted(trajectory.folder.glob("epoch-*.safetensors")))
        corrupt_snapshot(rng, path)

        def run() -> None:
            trajectory.completed_epochs()
            load_member(self.parts().module, path)

        return FuzzCase(run, (path.name,))

    def resume_point(self, rng: Random, folder: Path, store: Path) -> FuzzCase:
        trajectory = Trajectory(linked(self.path, folder / "path"), ANNEALING)
        path = trajectory.resume_path(ANNEALING.epochs)
        write_corrupted(rng, path, corrupt_tensors(rng, path), embedded=True)

        def run() -> None:
            if done := trajectory.completed_epochs():
                parts = replace(self.parts(), trajectory=trajectory)
                fit(
                    build_trainer(self.settings, done), parts, done
                )  # restored, and then there is nothing to train

        return FuzzCase(run, (path.name,))

    def path_history(self, rng: Random, folder: Path, store: Path) -> FuzzCase:
        trajectory = Trajectory(linked(self.path, folder / "path"), ANNEALING)
        path = trajectory.folder / "history.jsonl"
        lines = odd_json_lines(rng, read_file(path, embedded_checksum=True))
        write_corrupted(rng, path, lines, embedded=True)

        def run() -> None:
            if done := trajectory.completed_epochs():
                trajectory.prune(done)
                [ANNEALING.snapshot_epoch(trajectory.history(done), period) for period in (1, 2)]

        return FuzzCase(run, ("history.jsonl",))

    def run_folder(self, rng: Random, folder: Path, store: Path) -> FuzzCase:
        run = RunFolder(linked(self.run, folder / "run"))
        names = (
            "config.yaml",
            "metadata.json",
            "scores.json",
            "split.csv",
            "history.jsonl",
            "predictions.parquet",
        )
        corrupt_file(rng, run.path / rng.choice((*names, "predictions.parquet", "config.yaml")))
        uses: tuple[Callable[[], Any], ...] = (
            lambda: run.is_complete and run_row(run),
            lambda: list_trajectories(store, folder),
            lambda: format_scores(run),
            lambda: run.has_predictions and member_epochs(ANNEALING, run),
            lambda: run.has_predictions and load_run_config(run, None),
        )

        def everything() -> None:
            for use in uses:
                use()

        return FuzzCase(everything, (str(run.path),))

    def study(self, rng: Random, folder: Path, store: Path) -> FuzzCase:
        outputs = folder / "outputs"
        linked(self.run, outputs / self.run.name)
        study = outputs / "studies" / "mine"
        content = {"words": ["a=1,2"], "swept": ["a"], "threads": 1,
                   "jobs": [{"run": f"outputs/{self.run.name}", "values": {"a": 1}},
                            {"run": "outputs/other", "values": {"a": 2}}]}  # fmt: skip
        write_file(study / "study.json", json.dumps(content).encode())
        corrupt_file(rng, study / "study.json")
        return FuzzCase(lambda: read_runs(study), (str(study),))

    def waveforms(self, rng: Random, folder: Path, store: Path) -> FuzzCase:
        root = icbhi(folder / "data") if (folder / "data").mkdir() is None else folder
        place = open_database("icbhi", root, RATE_HZ, folder / "store", False).store.folder
        if rng.random() < 0.7:
            path = place / "index.json"
            content = corrupt_json(rng, json.loads(read_file(path)))
            write_corrupted(
                rng, path, mutate_bytes(rng, content) if rng.random() < 0.2 else content
            )
        else:
            path = place / "waveforms.f32"
            write_corrupted(rng, path, mutate_bytes(rng, path.read_bytes()))

        def run() -> None:
            database = open_database("icbhi", root, RATE_HZ, folder / "store", False)
            for cycle in database.cycles.itertuples():
                assert len(database.store.samples[cycle.start_sample : cycle.end_sample]), (
                    "an empty cycle"
                )
            assert set(database.store.recordings) == set(STEMS), "other recordings"

        return FuzzCase(run, (path.name,))

    @property
    def kinds(self) -> dict[Callable[[Random, Path, Path], FuzzCase], int]:
        """The kinds and their shares."""
        return {self.snapshot: 3, self.resume_point: 3, self.path_history: 2, self.run_folder: 6,
                self.study: 2,
                self.waveforms: 3}  # fmt: skip
