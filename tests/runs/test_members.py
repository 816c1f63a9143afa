"""A run's members: evaluated once per trajectory, and enough without the store."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support.files import flip_bit
from support.results import result_bytes

import lungsound.runs.predict
from lungsound.errors import CorruptFileError
from lungsound.results.folder import RunFolder
from lungsound.storage.files import remove_temp_files
from lungsound.storage.locks import try_lock
from lungsound.studies.report import run_row
from lungsound.studies.store_admin import list_trajectories
from lungsound.training.schedule import Annealing

RunTraining = Callable[..., Path]


def test_corrupt_probabilities_are_made_again(
    run_training: RunTraining, finished_run: Path, run_copy: Path, tmp_path: Path,
    evaluated: list[str],
) -> None:  # fmt: skip
    first, second = sorted(tmp_path.glob("store/trajectories/*/probabilities-*.safetensors"))
    first.write_bytes(flip_bit(first.read_bytes(), -1 + first.stat().st_size))
    (run_copy / "predictions.parquet").unlink()
    assert result_bytes(run_training(tmp_path)) == result_bytes(finished_run)
    assert evaluated == ["member-01"]
    assert first.with_name(f"{first.name}.damaged-1").exists()
    assert second.exists()


@pytest.mark.slow
def test_probabilities_of_other_weights_are_not_used(
    run_training: RunTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same epochs were trained again, on a machine that gives other bits."""
    run = run_training(tmp_path, "annealing.select=last")
    expected = result_bytes(run)
    shutil.rmtree(tmp_path / "store" / "trajectories")
    with monkeypatch.context() as patch:
        patch.setattr(Annealing, "learning_rate", lambda *_: 1e-3)
        run_training(tmp_path, "annealing.select=last", "annealing.cycles=3")
    stored = {path: path.read_bytes()
              for path in tmp_path.glob("store/trajectories/*/probabilities-*")}  # fmt: skip
    (run / "predictions.parquet").unlink()
    assert result_bytes(run_training(tmp_path, "annealing.select=last")) == expected
    assert stored == {path: path.read_bytes() for path in stored}


def test_probabilities_are_not_stored_while_another_process_trains(
    run_training: RunTraining, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It removes the files that are half written, and the snapshots that it replaces."""
    original = lungsound.runs.predict.evaluate_member

    def evaluate(trainer: Any, parts: Any, *args: Any) -> Any:
        monkeypatch.setattr(os, "replace", replace)
        return original(trainer, parts, *args)

    def replace(source: str, target: Path) -> None:
        for folder in tmp_path.glob("store/trajectories/*/"):
            with try_lock(folder.with_name(f"{folder.name}.lock")) as acquired:
                if acquired:
                    remove_temp_files(folder)
        Path(source).rename(target)

    monkeypatch.setattr(lungsound.runs.predict, "evaluate_member", evaluate)
    assert result_bytes(run_training(tmp_path)) == result_bytes(finished_run)


def test_probabilities_go_with_their_snapshots(finished_run: Path) -> None:
    (trajectory,) = finished_run.parents[1].glob("store/trajectories/*/")
    snapshots = {path.stem[-4:] for path in trajectory.glob("epoch-*.safetensors")}
    probabilities = {path.stem[-4:] for path in trajectory.glob("probabilities-*.safetensors")}
    assert probabilities
    assert probabilities <= snapshots


def test_a_finished_folder_verifies_with_sha256sum(finished_run: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=finished_run, check=True)
    lines = (finished_run / "SHA256SUMS").read_text().splitlines()
    listed = {line.split("  ")[1] for line in lines}
    files = {path.relative_to(finished_run).as_posix()
             for path in finished_run.rglob("*") if path.is_file()}  # fmt: skip
    assert files - listed == {"SHA256SUMS", "tracking.json"}
    assert not [name for name in files if name.endswith(".sha256")]


def test_a_truncated_sha256sums_makes_no_run_complete(
    run_training: RunTraining, finished_run: Path, run_copy: Path, tmp_path: Path
) -> None:
    sums = run_copy / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    for kept, missing in ((2, "report.md"), (7, "members/member-02.safetensors")):
        sums.write_text("".join(lines[:kept]))
        (run_copy / missing).unlink()
        assert not RunFolder(run_copy).is_complete
        assert result_bytes(run_training(tmp_path)) == result_bytes(finished_run)
        assert [line[64:] for line in sums.open()] == [line[64:] for line in lines]


def test_members_are_the_stores_snapshots(finished_run: Path) -> None:
    members = RunFolder(finished_run).member_paths()
    assert [path.name for path in members] == ["member-01.safetensors", "member-02.safetensors"]
    for path in members:
        assert path.stat().st_nlink >= 2  # a link into the store, which takes no space
        tensors = load_file(path)
        assert {name.partition(".")[0] for name in tensors} <= {"network", "features"}
        weights = [tensor for name, tensor in tensors.items() if name.startswith("network")]
        assert all(torch.isfinite(tensor).all() for tensor in weights)


@pytest.mark.parametrize(
    "name", ["predictions.parquet", "history.jsonl", "metadata.json", "scores.json"]
)
def test_a_finished_folder_is_read_only_as_it_was_written(
    finished_run: Path, tmp_path: Path, name: str
) -> None:
    """Without this a study's table would show other scores: Parquet notices few changed bits."""
    folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
    (folder / name).write_bytes((finished_run / name).read_bytes() + b"\n")
    run = RunFolder(folder)
    read: dict[str, Callable[[], Any]] = {
        "predictions.parquet": run.read_predictions,
        "history.jsonl": run.read_history,
        "metadata.json": run.metadata,
        "scores.json": lambda: run.read_json("scores.json"),
    }
    with pytest.raises(CorruptFileError, match=f"{name} is damaged.*checksum"):
        read[name]()


@pytest.mark.parametrize(
    "content", ["{}".encode("utf-16"), b"\xef\xbb\xbf{}", b'{"a": "\xed\xa0\x80"}']
)
def test_json_is_read_as_utf_8_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metadata.json").write_bytes(content)
    run = RunFolder(tmp_path)
    for read in (run.metadata, lambda: run.read_json("metadata.json")):
        with pytest.raises(CorruptFileError, match=r"metadata\.json is not as this version"):
            read()


@pytest.mark.slow
@pytest.mark.parametrize("sums", [None, "", "not a checksum"])
@pytest.mark.parametrize("name", ["predictions.parquet", "metadata.json", "history.jsonl"])
def test_a_killed_run_with_an_unreadable_file_goes_on(
    run_training: RunTraining, finished_run: Path, run_copy: Path, tmp_path: Path,
    trained_epochs: list[int], name: str, sums: str | None,
) -> None:  # fmt: skip
    """Without SHA256SUMS, which is written last, a file counts that can be read."""
    if sums is None:  # as a kill leaves it
        (run_copy / "SHA256SUMS").unlink()
    else:
        (run_copy / "SHA256SUMS").write_text(sums)
    (run_copy / name).write_bytes((run_copy / name).read_bytes()[:-20])
    assert result_bytes(run_training(tmp_path)) == result_bytes(finished_run)
    assert (run_copy / f"{name}.damaged-1").exists()
    assert trained_epochs == []


def test_a_runs_row_has_the_score_at_the_threshold_that_is_best_on_validation(
    run_copy: Path,
) -> None:
    predictions = pd.read_parquet(run_copy / "predictions.parquet")
    means = {"p_normal": "mean", "label": "first"}
    cycles = predictions.groupby(["set", "recording", "cycle"]).agg(means).reset_index("set")
    score, is_normal = 1 - cycles["p_normal"], cycles["label"] == "normal"

    def score_2(threshold: float, name: str) -> float:
        called = (score >= threshold)[cycles["set"] == name]
        normal = is_normal[cycles["set"] == name]
        return round((called[~normal].mean() + 1 - called[normal].mean()) / 2, 9)

    values = np.unique(score[cycles["set"] == "val"])
    between = [0.0, *(values[1:] + values[:-1]) / 2, 2.0]
    best = max(between, key=lambda threshold: score_2(threshold, "val"))
    row = run_row(RunFolder(run_copy))
    assert row["threshold_score_2"] == pytest.approx(score_2(best, "test"))
    scores = json.loads((run_copy / "scores.json").read_text())
    (run_copy / "SHA256SUMS").unlink()
    for operating in ({"operating": {}}, {}):  # none in runs of release 0.1
        scores.pop("operating", None)
        (run_copy / "scores.json").write_text(json.dumps({**scores, **operating}))
        assert run_row(RunFolder(run_copy))["threshold_score_2"] is None


def test_a_run_of_release_0_1_is_listed_and_reported(run_copy: Path, tmp_path: Path) -> None:
    run = run_copy
    row = run_row(RunFolder(run))
    (run / "metadata.json").rename(run / "facts.json")
    shutil.rmtree(run / "members")
    (run / "SHA256SUMS").unlink()
    (run / "scores.json.sha256").write_text("0" * 64)
    folder = RunFolder(run)
    assert folder.is_complete
    assert folder.has_predictions
    assert run_row(folder) == row
    key = json.loads((run / "facts.json").read_text())["trajectory"]
    listed, _ = list_trajectories(tmp_path / "store", tmp_path / "outputs")
    assert f"{key} " in listed
    assert run.name in listed
    (run / "report.md").unlink()
    assert not folder.is_complete
