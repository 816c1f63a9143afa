"""MLflow shows a run's folder: names and steps others rely on, one MLflow run a folder, nothing
doubled or lost.
"""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.mlflow import metric_points, mlflow_client, mlflow_runs, only_run
from support.runs import SMALL_RUN_OVERRIDES, compose_config

import lungsound.runs.run
import lungsound.tracking.background
from lungsound.errors import LungsoundError
from lungsound.runs.validation import validate_config
from lungsound.tracking.sync import RunView, first_tried
from lungsound.training.module import SnapshotModule
from lungsound.training.trajectory import Trajectory

TrainIn = Callable[..., Path]
EPOCHS, MEMBERS, ONCE = [1, 2, 3, 4], [1, 2], [0]
STEPS = {
    **{
        name: EPOCHS
        for name in ("train/loss", "val/loss", "val/score_4", "val/score_2", "val/accuracy", "lr")
    },
    **{name: MEMBERS for name in ("member/val_score_4", "member/test_score_4")},
    **{name: MEMBERS for name in ("ensemble/test_score_4", "ensemble/test_score_2")},
    **{
        f"test/{name}": ONCE
        for name in ("specificity", "sensitivity_4", "sensitivity_2", "score_4", "score_2")
    },
    **{f"test/single_{name}": ONCE for name in ("score_4", "score_2")},
    **{f"leak/{name}": ONCE for name in ("patients", "recordings", "duplicates")},
}


def test_metrics_are_the_folders(finished_run: Path) -> None:
    stored = metric_points(finished_run, only_run(finished_run))
    assert {name: sorted(steps) for name, steps in stored.items()} == STEPS
    for line in (finished_run / "history.jsonl").read_text().splitlines():
        record = json.loads(line)
        for name in ("train/loss", "val/loss", "val/score_4", "val/score_2", "val/accuracy", "lr"):
            assert stored[name][record["epoch"]] == record[name]
    scores = json.loads((finished_run / "scores.json").read_text())["scores"]
    for m in MEMBERS:
        assert stored["member/val_score_4"][m] == scores["members"][m - 1]["val"]["score_4"]
        assert stored["member/test_score_4"][m] == scores["members"][m - 1]["test"]["score_4"]
        for name in ("score_4", "score_2"):
            assert stored[f"ensemble/test_{name}"][m] == scores["ensemble"][m - 1]["test"][name]
    for name in ("specificity", "sensitivity_4", "sensitivity_2", "score_4", "score_2"):
        assert stored[f"test/{name}"][0] == scores["ensemble"][-1]["test"][name]
    leaks = json.loads((finished_run / "scores.json").read_text())["leaks"]
    for name in ("patients", "recordings", "duplicates"):
        assert stored[f"leak/{name}"][0] == leaks[name]
    best = max(scores["members"], key=lambda member: member["val"]["score_4"])
    assert stored["test/single_score_4"][0] == best["test"]["score_4"]
    assert stored["test/single_score_2"][0] == best["test"]["score_2"]


def test_learning_rates_are_equation_1(finished_run: Path) -> None:
    stored = metric_points(finished_run, only_run(finished_run))["lr"]
    with compose_config(*SMALL_RUN_OVERRIDES) as (cfg, _):
        highest, length = cfg.annealing.max_lr, cfg.annealing.epochs_per_cycle
    for t in EPOCHS:
        assert stored[t] == pytest.approx(
            highest / 2 * (math.cos(math.pi * ((t - 1) % length) / length) + 1)
        )


def test_params_tags_and_files(finished_run: Path) -> None:
    run, client = only_run(finished_run), mlflow_client(finished_run)
    expected = {
        "experiment": "demo", "data": "demo", "split": "random", "segment": "2x2s", "padding": "sample",
        "augment": "light", "model": "cnn7_eighth", "loss": "focal", "annealing": "cosine", "task": "four_class",
        "trainer": "auto", "annealing.cycles": "2", "data.cycles": "60", "split.seed": "0", "epochs_trained": "4",
    }  # fmt: skip
    assert expected.items() <= run.data.params.items()
    audio = finished_run.parents[1].glob("store/demo/*/audio_and_txt_files/*.wav")
    assert run.data.params["data.recordings"] == str(len(list(audio)))
    with compose_config(*SMALL_RUN_OVERRIDES) as (cfg, _):
        assert int(run.data.params["model.parameters"]) == parameters(
            validate_config(cfg).model.width
        )
    (trajectory,) = (finished_run.parents[1] / "store" / "trajectories").glob("*/")
    assert run.data.tags["trajectory"] == trajectory.name
    assert run.data.tags["data"].startswith("SYNTHETIC")
    assert run.info.run_name == finished_run.name
    assert "SYNTHETIC" in finished_run.name
    assert "TEST PATIENTS ARE ALSO IN TRAINING" in run.data.tags["leak"]
    assert run.info.status == "FINISHED"
    here = {path.name for path in finished_run.iterdir()} | {
        f"figures/{path.name}" for path in finished_run.glob("figures/*")
    }
    there = {
        file.path
        for place in ("", "figures")
        for file in client.list_artifacts(run.info.run_id, place)
    }
    assert there == here


def parameters(width: float) -> int:
    """Table I counted by hand: kernels and biases, a pair for each normalized channel, two dense
    layers.
    """
    filters = [round(width * count) for count in (64, 128, 128, 256, 256, 512, 512)]
    inputs, dense = [1, *filters[:-1]], filters[-1]
    convolutions = sum(
        9 * before * after + after for before, after in zip(inputs, filters, strict=True)
    )
    normalized = 2 * sum([*inputs, filters[-1], dense])
    return convolutions + normalized + (filters[-1] + 1) * dense + 4 * (dense + 1)


def test_two_classes_have_no_four_class_metric(run_training: TrainIn, tmp_path: Path) -> None:
    folder = run_training(tmp_path, "task=two_class")
    stored = metric_points(folder, only_run(folder))
    four = {name for name in STEPS if name.endswith("_4")}
    assert stored.keys() == (STEPS.keys() - four) | {"member/val_score_2", "member/test_score_2"}


def test_a_stopped_run_goes_on_under_its_id(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise RuntimeError("stopped")

    for owner, name in (
        (Trajectory, "tidy"),
        (SnapshotModule, "validation_step"),
        (lungsound.runs.run, "report"),
    ):
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="stopped"):
            patch.setattr(owner, name, stop)
            run_training(tmp_path)
        first_tried.cache_clear()  # as another process has it
        assert mlflow_runs(tmp_path / "outputs" / "run")[0].info.status == "FAILED"
    folder = run_training(tmp_path)
    run = only_run(folder)
    assert run.info.status == "FINISHED"
    assert run.data.params["epochs_trained"] == "4"
    assert metric_points(folder, run) == metric_points(finished_run, only_run(finished_run))


def test_what_was_not_sent_is_sent_later(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            RunView, "send_files", lambda *_: (_ for _ in ()).throw(RuntimeError("no room"))
        )
        patch.setattr(lungsound.tracking.background, "TRIES_S", 0.0)
        folder = run_training(tmp_path)
    assert only_run(folder).info.status == "RUNNING"
    assert run_training(tmp_path) == folder
    run = only_run(folder)
    assert run.info.status == "FINISHED"
    assert metric_points(folder, run) == metric_points(finished_run, only_run(finished_run))


def test_a_run_made_again_in_part_is_finished_again(run_training: TrainIn, tmp_path: Path) -> None:
    folder = run_training(tmp_path)
    (folder / "scores.json").unlink()
    before = metric_points(folder, only_run(folder))
    run_training(tmp_path)
    run = only_run(folder)
    assert run.info.status == "FINISHED"
    assert metric_points(folder, run) == before


def test_weights_are_sent_when_asked(
    run_training: TrainIn, finished_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_run.parents[1] / "store", tmp_path / "store")
    folder = run_training(tmp_path, "tracking.log_snapshots=true")
    run = only_run(folder)
    sent = {
        file.path for file in mlflow_client(folder).list_artifacts(run.info.run_id, "snapshots")
    }
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    best = {max((line for line in history if line["period"] == period), key=lambda line: line["val/score_4"])["epoch"]
            for period in (1, 2)}  # fmt: skip
    assert sent == {
        f"snapshots/member-{member:02d}.safetensors" for member in range(1, len(best) + 1)
    }
    assert run.data.params["epochs_trained"] == "0"


def test_an_address_that_is_no_database_is_refused(run_training: TrainIn, tmp_path: Path) -> None:
    with pytest.raises(LungsoundError, match=r"tracking\.uri=nonsense"):
        run_training(tmp_path, "tracking.uri=nonsense://here")
    assert not list(tmp_path.glob("store/trajectories/*"))  # said before any training
