"""What the fuzzer feeds: files of a run, a study and the store, damaged or by a stranger."""

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

from lungsound.data.database import Database, open_database
from lungsound.data.registry import DATABASES
from lungsound.results.folder import RunFolder
from lungsound.runs.build import build_components, build_trainer
from lungsound.runs.predict import load_member, member_epochs
from lungsound.runs.rescore import load_run_config
from lungsound.runs.scores import format_scores
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
    """A copy of a folder, of links: `write_file` replaces a file, and changes the copy alone."""
    return Path(shutil.copytree(source, target, copy_function=os.link))


def write_corrupted(rng: Random, path: Path, content: bytes, embedded: bool = False) -> None:
    """Mostly with the right checksum: a stranger can compute it, and readers check it first."""
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
            separator = ": " if path.suffix == ".yaml" else ","
            content = corrupt_lines(rng, content.decode(), separator).encode(errors="replace")
    if rng.random() < 0.4:
        content = mutate_bytes(rng, content)
    write_corrupted(rng, path, content)


def odd_json_lines(rng: Random, content: bytes) -> bytes:
    lines = content.splitlines()
    place = rng.randrange(len(lines))
    line = lines[place]
    changed = rng.choice((corrupt_json(rng, json.loads(line)), line + line, b""))
    lines[place] = changed.replace(b"\n", b" ")
    return b"\n".join(lines)


def corrupt_parquet(rng: Random, content: bytes) -> bytes:
    """predictions.parquet with columns or rows that should not be so."""
    table = pq.read_table(pa.BufferReader(content))
    name = rng.choice(table.column_names)
    place, rows = table.column_names.index(name), table.num_rows
    text = rng.choice((*NUMBERS, *TEXTS[:9]))
    value = rng.choice(([1], {"a": 1}, 1e308, -1, b"\xff", True, None, text))
    chosen = sorted(rng.randrange(rows) for _ in range(rng.randint(0, rows)))
    own = table.schema.metadata or {}
    metadata = {key: mutate_bytes(rng, fact) for key, fact in own.items()}
    table = rng.choice((
        table.drop_columns(name),
        table.set_column(place, name, pa.array([value] * rows)),
        table.take(pa.array(chosen, pa.int64())),
        table.append_column(rng.choice((name, "x", "part", "event_type")), table[name]),
        table.replace_schema_metadata(metadata),
    ))  # fmt: skip
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
    holder[key] = _corrupt_tensor(rng, holder[key])
    if isinstance(holder, dict) and rng.random() < 0.5:
        holder[rng.choice(TEXTS)] = holder.pop(key)
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _corrupt_tensor(rng: Random, old: Any) -> Any:
    if not isinstance(old, torch.Tensor):
        return corrupt_value(rng, old)
    kinds = old.long(), old.bool(), old.to(torch.complex64), old.to("meta"), old.to_sparse()
    return rng.choice((*kinds, old.flatten()[:-1], old * torch.nan, old[None]))


def corrupt_snapshot(rng: Random, path: Path) -> None:
    """A snapshot with other tensors or metadata and the right checksum, or with other bytes."""
    tensors, metadata = read_tensors(path)
    name = rng.choice(list(tensors))
    old = tensors[name]
    content = mutate_bytes(rng, path.read_bytes())
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
            write_file(path, content)
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
    """The kinds that begin with a finished run; its store lies two folders above."""

    def __init__(self, run: Path) -> None:
        self.run = run
        (self.path,) = run.parents[1].glob("store/trajectories/*/")
        self.settings = load_run_config(RunFolder(run), run.parents[1] / "store")
        self.parts = cache(lambda: build_components(self.settings))

    def trajectory(self, folder: Path) -> Trajectory:
        """A copy of the run's trajectory that may be changed."""
        return Trajectory(linked(self.path, folder / "path"), ANNEALING)

    def snapshot(self, rng: Random, folder: Path, store: Path) -> FuzzCase:
        trajectory = self.trajectory(folder)
        path = rng.choice(sorted(trajectory.folder.glob("epoch-*.safetensors")))
        corrupt_snapshot(rng, path)

        def run() -> None:
            trajectory.completed_epochs()
            load_member(self.parts().module, path)

        return FuzzCase(run, (path.name,))

    def resume_point(self, rng: Random, folder: Path, store: Path) -> FuzzCase:
        trajectory = self.trajectory(folder)
        path = trajectory.resume_path(ANNEALING.epochs)
        write_corrupted(rng, path, corrupt_tensors(rng, path), embedded=True)

        def run() -> None:
            if done := trajectory.completed_epochs():
                parts = replace(self.parts(), trajectory=trajectory)
                # It is restored, and then there is nothing to train.
                fit(build_trainer(self.settings, done), parts, done)

        return FuzzCase(run, (path.name,))

    def path_history(self, rng: Random, folder: Path, store: Path) -> FuzzCase:
        trajectory = self.trajectory(folder)
        path = trajectory.folder / "history.jsonl"
        lines = odd_json_lines(rng, read_file(path, embedded_checksum=True))
        write_corrupted(rng, path, lines, embedded=True)

        def run() -> None:
            if done := trajectory.completed_epochs():
                trajectory.prune(done)
                for period in (1, 2):
                    ANNEALING.snapshot_epoch(trajectory.history(done), period)

        return FuzzCase(run, ("history.jsonl",))

    def run_folder(self, rng: Random, folder: Path, store: Path) -> FuzzCase:
        run = RunFolder(linked(self.run, folder / "run"))
        names = ("metadata.json", "scores.json", "split.csv", "history.jsonl")
        corrupt_file(
            rng, run.path / rng.choice((*names, *2 * ("predictions.parquet", "config.yaml")))
        )
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
        root = folder / "data"
        root.mkdir()

        def open_again() -> Database:
            return open_database(DATABASES["icbhi"], root, RATE_HZ, folder / "store", False)

        icbhi(root)
        path = open_again().store.folder / rng.choice(("index.json", "waveforms.f32"))
        if path.suffix == ".json":
            write_corrupted(rng, path, corrupt_json(rng, json.loads(read_file(path))))
        else:
            write_corrupted(rng, path, mutate_bytes(rng, path.read_bytes()))

        def run() -> None:
            database = open_again()
            for cycle in database.cycles.itertuples():
                samples = database.store.samples[cycle.start_sample : cycle.end_sample]
                assert len(samples), "an empty cycle"
            assert set(database.store.recordings) == set(STEMS), "other recordings"

        return FuzzCase(run, (path.name,))

    @property
    def kinds(self) -> dict[Callable[[Random, Path, Path], FuzzCase], int]:
        """The kinds and their shares."""
        weights = self.snapshot, self.resume_point, self.path_history
        return {**dict.fromkeys(weights, 3), self.run_folder: 6, self.study: 2, self.waveforms: 3}
