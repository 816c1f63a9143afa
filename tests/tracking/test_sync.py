"""MLflow shows a folder: the names and steps that others rely on, nothing doubled or lost."""

import contextlib
import functools
import getpass
import json
import math
import re
import shutil
import sys
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import git
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from support.mlflow import (
    EPOCHS,
    HISTORY,
    LEAKS,
    MEMBERS,
    STEPS,
    TEST_SCORES,
    artifact_paths,
    metric_points,
    mlflow_client,
    mlflow_runs,
    only_run,
)
from support.runs import SMALL_RUN_OVERRIDES, compose_settings

import lungsound.runs.report
from lungsound.results.folder import RunFolder
from lungsound.results.html import report_html
from lungsound.tracking.client import RUN_TAG, open_experiment
from lungsound.tracking.contents import origin_tags, run_datasets
from lungsound.tracking.metrics import history_metrics
from lungsound.tracking.state import TrackingState, read_state
from lungsound.tracking.sync import sync
from lungsound.training.trajectory import Trajectory

TrainIn = Callable[..., Path]
WRITES = (
    *("create_run", "log_batch", "log_artifact", "log_text", "log_inputs", "set_tag"),
    *("update_run", "set_terminated"),
)


def test_metrics_are_those_of_the_folder(finished_run: Path) -> None:
    stored = metric_points(finished_run, only_run(finished_run))
    assert {name: sorted(steps) for name, steps in stored.items()} == STEPS
    for line in (finished_run / "history.jsonl").read_text().splitlines():
        record = json.loads(line)
        for name in HISTORY:
            assert stored[name][record["epoch"]] == record[name]
    results = json.loads((finished_run / "scores.json").read_text())
    scores = results["scores"]
    for m in MEMBERS:
        member, ensemble = scores["members"][m - 1], scores["ensemble"][m - 1]["test"]
        assert stored["member/val_score_4"][m] == member["val"]["score_4"]
        assert stored["member/test_score_4"][m] == member["test"]["score_4"]
        for name in ("score_4", "score_2"):
            assert stored[f"ensemble/test_{name}"][m] == ensemble[name]
    for name in TEST_SCORES:
        assert stored[f"test/{name}"][0] == scores["ensemble"][-1]["test"][name]
    assert stored["test/macro_f1"][0] == scores["macro_f1"]
    assert stored["test/recall_both"][0] == scores["recall"]["both"]
    for name in LEAKS:
        assert stored[f"leak/{name}"][0] == results["leaks"][name]
    best = max(scores["members"], key=lambda member: member["val"]["score_4"])
    for name in ("score_4", "score_2"):
        assert stored[f"test/single_{name}"][0] == best["test"][name]


def test_passwords_of_release_0_1_are_not_sent(
    finished_run: Path, tmp_path: Path, empty_mlflow: Path
) -> None:
    run, address = Path(shutil.copytree(finished_run, tmp_path / "run")), "http://127.0.0.1:9"
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    (run / "SHA256SUMS").unlink()  # it had none
    config = (run / "config.yaml").read_text().replace("uri: ", f"uri: {address}\n  # ")
    study = json.dumps({"words": [f"tracking.uri={address}", "seed=1"], "jobs": []}, indent=2)
    for name, text in {"config.yaml": config, "old.json": study}.items():
        (run / name).write_text(text.replace("http://", "http://ana:s3'c/ret@"))
    state = read_state(run)
    assert state
    state = replace(state, uri=f"sqlite:///{tmp_path}/mlflow.db", error="no http://ana:s3@host")
    run_id = sync(run, state)
    sent = tmp_path / "mlruns" / run_id / "artifacts"
    assert (sent / "config.yaml").read_text() == config
    assert (sent / "old.json").read_text() == study
    assert (sent / "error.txt").read_text() == "no http://host"


def test_learning_rates_follow_equation_1(finished_run: Path) -> None:
    stored = metric_points(finished_run, only_run(finished_run))["lr"]
    annealing = compose_settings(*SMALL_RUN_OVERRIDES).annealing
    highest, length = annealing.max_lr, annealing.epochs_per_cycle
    for t in EPOCHS:
        cosine = math.cos(math.pi * ((t - 1) % length) / length)
        assert stored[t] == pytest.approx(highest / 2 * (cosine + 1))


def test_only_numbers_of_the_history_are_metrics() -> None:
    record = {"epoch": 3, "period": 1, "lr": 0.5, "val/loss": None, "machine": {"threads": 1}}
    assert history_metrics([record]) == [("lr", 0.5, 3)]


def test_params_tags_and_files(finished_run: Path) -> None:
    run, settings = only_run(finished_run), compose_settings(*SMALL_RUN_OVERRIDES)
    expected = {
        "experiment": "demo", "data": "demo", "split": "random", "segment": "2x2s",
        "padding": "sample", "augment": "light", "model": "cnn7_eighth", "loss": "focal",
        "annealing": "cosine", "task": "four_class", "trainer": "auto", "annealing.cycles": "2",
        "data.cycles": "60", "split.seed": "0", "epochs_trained": "4", "device": "cpu",
        "threads": "1", "annealing.max_lr": str(settings.annealing.max_lr), "loss.gamma": "1.0",
        "trainer.batch_size": "32", "augment.vtlp_copies.both": "2", "segment.seconds": "4.0",
    }  # fmt: skip
    assert expected.items() <= run.data.params.items()
    audio = finished_run.parents[1].glob("store/demo/*/audio_and_txt_files/*.wav")
    assert run.data.params["data.recordings"] == str(len(list(audio)))
    assert int(run.data.params["model.parameters"]) == count_parameters(width=0.0625)
    (trajectory,) = (finished_run.parents[1] / "store" / "trajectories").glob("*/")
    assert run.data.tags["trajectory"] == trajectory.name
    assert run.data.tags["data"].startswith("SYNTHETIC")
    assert "TEST PATIENTS ARE ALSO IN TRAINING" in run.data.tags["leak"]
    assert f"torch {version('torch')}" in run.data.params["versions"]
    assert run.data.tags["mlflow.user"] == getpass.getuser()
    assert run.data.tags["mlflow.source.name"] == sys.argv[0]
    assert run.info.run_name == "M2 2x2s sample s0 SYNTHETIC"
    assert run.info.status == "FINISHED"
    assert artifact_paths(finished_run, run) == readable_files(finished_run)


def readable_files(folder: Path) -> set[str]:
    """What MLflow is to have of a run: its report as a page, no checksums, and no weights."""
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    unwanted = (".sha256", ".safetensors", "SHA256SUMS")
    return {name for name in files if not name.endswith(unwanted)} | {"report.html"}


def test_the_description_has_the_leak_and_then_the_scores(finished_run: Path) -> None:
    description = only_run(finished_run).data.tags["mlflow.note.content"]
    leak, title, table, *_ = description.split("\n\n")
    results = json.loads((finished_run / "scores.json").read_text())
    assert leak == f"**{results['leak']}**"
    assert "SYNTHETIC" in title
    (row,) = [line for line in table.splitlines() if line.startswith("| ensemble of 2 |")]
    assert row.split(" | ")[1] == f"{results['scores']['ensemble'][1]['val']['specificity']:.3f}"


def test_the_three_sets_are_data_sets(finished_run: Path, run_copy: Path) -> None:
    split = pd.read_csv(finished_run / "split.csv")
    digests = set()
    for one in only_run(finished_run).inputs.dataset_inputs:
        (context,) = [tag.value for tag in one.tags if tag.key == "mlflow.data.context"]
        cycles = split[split["set"] == {"validation": "val"}.get(context, context)]
        profile = json.loads(one.dataset.profile)
        assert profile["num_rows"] == len(cycles)
        assert profile["patients"] == cycles["patient"].nunique()
        assert profile["wheeze"] == (cycles["label"] == "wheeze").sum()
        digests.add(one.dataset.digest)
    assert len(digests) == 3
    last = (run_copy / "split.csv").read_text().rstrip()[:-1]
    (run_copy / "split.csv").write_text(f"{last}!\n")  # the content of its last cycle
    (run_copy / "SHA256SUMS").unlink()
    changed = {one.dataset.digest for one in run_datasets(RunFolder(run_copy))}
    assert len(digests & changed) == 2


def test_the_report_is_a_page_with_its_figures_inside(finished_run: Path, tmp_path: Path) -> None:
    page = report_html(finished_run)
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)
    figures = [path.read_bytes() for path in RunFolder(finished_run).figures()]
    assert [b64decode(picture) for picture in pictures] == figures
    assert "<td>ensemble of 2</td>" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    report = "<script>x</script> ![](../secret.png) ![](http://host/a.png) a | b"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "report.md").write_text(report)
    (tmp_path / "secret.png").write_bytes(b"not for anybody")
    page = report_html(tmp_path / "run")
    assert "<script>" not in page
    assert "base64" not in page


def test_a_commit_is_that_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = git.Repo.init(tmp_path)
    commit = repository.index.commit("first").hexsha
    repository.create_remote("origin", "https://ana:secret@host/x.git")
    (tmp_path / "train.py").touch()
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "train.py")])
    tags = origin_tags()
    assert tags["mlflow.source.git.commit"] == commit
    assert "secret" not in str(tags)


def test_an_earlier_release_s_params_stay(
    finished_run: Path, tmp_path: Path, elsewhere: TrackingState
) -> None:
    """MLflow refuses to change a param; what is new is added."""
    run_id = sync(finished_run, replace(elsewhere, status="RUNNING"))
    client = mlflow_client(tmp_path / "outputs" / "run")
    client.log_param(run_id, "device", "of an earlier release")
    sync(finished_run, elsewhere)
    params = only_run(tmp_path / "outputs" / "run").data.params
    assert params["device"] == "of an earlier release"
    assert params["epochs_trained"] == "4"


def test_any_label_may_be_in_a_param_s_name(
    run_copy: Path, tmp_path: Path, elsewhere: TrackingState
) -> None:
    config = (run_copy / "config.yaml").read_text().replace("    wheeze:", "    'a+b/c':")
    (run_copy / "config.yaml").write_text(config)
    (run_copy / "SHA256SUMS").unlink()
    sync(run_copy, elsewhere)
    assert only_run(run_copy).data.params["augment.vtlp_copies.a_b_c"] == "1"


def count_parameters(width: float) -> int:
    """Table I by hand: kernels and biases, two per normalized channel, two dense layers."""
    filters = [round(width * size) for size in (64, 128, 128, 256, 256, 512, 512)]
    inputs, dense = [1, *filters[:-1]], filters[-1]
    pairs = zip(inputs, filters, strict=True)
    convolutions = sum(9 * before * after + after for before, after in pairs)
    normalized = 2 * sum([*inputs, filters[-1], dense])
    return convolutions + normalized + (filters[-1] + 1) * dense + 4 * (dense + 1)


@pytest.mark.slow
def test_a_failed_run_goes_on_under_its_id(
    run_training: TrainIn, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("stopped")

    ids = set()
    for owner, name in ((Trajectory, "prune"), (lungsound.runs.report, "write_run_report")):
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="stopped"):
            patch.setattr(owner, name, fail)
            run_training(tmp_path)
        (run,) = mlflow_runs(tmp_path / "outputs" / "run")
        assert run.info.status == "FAILED"
        assert "error.txt" in artifact_paths(tmp_path / "outputs" / "run", run)
        ids.add(run.info.run_id)
    folder = run_training(tmp_path)
    run = only_run(folder)
    assert {run.info.run_id} == ids
    assert run.info.status == "FINISHED"
    assert run.data.params["epochs_trained"] == "4"
    assert metric_points(folder, run) == metric_points(finished_run, only_run(finished_run))


def test_a_repaired_run_is_finished_again(
    run_training: TrainIn, run_copy: Path, tmp_path: Path
) -> None:
    before = metric_points(run_copy, only_run(run_copy))
    (run_copy / "scores.json").unlink()
    run_training(tmp_path)
    run = only_run(run_copy)
    assert run.info.status == "FINISHED"
    assert metric_points(run_copy, run) == before


@pytest.mark.usefixtures("store_copy")
def test_weights_are_sent_if_asked_for(run_training: TrainIn, tmp_path: Path) -> None:
    folder = run_training(tmp_path, "tracking.log_snapshots=true")
    run = only_run(folder)
    client = mlflow_client(folder)
    sent = Path(client.download_artifacts(run.info.run_id, "snapshots", str(tmp_path)))
    members = {path.name: path.read_bytes() for path in RunFolder(folder).member_paths()}
    assert members.keys() == {"member-01.safetensors", "member-02.safetensors"}
    assert {path.name: path.read_bytes() for path in sent.iterdir()} == members
    assert run.data.params["epochs_trained"] == "0"


@pytest.fixture
def elsewhere(finished_run: Path, tmp_path: Path, empty_mlflow: Path) -> TrackingState:
    """The finished run's state, with another database that has nothing yet."""
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    state = read_state(finished_run)
    assert state
    return replace(state, uri=f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.mark.slow
@pytest.mark.parametrize("outcome", ["refused", "answer lost", "late"])
def test_any_request_may_fail_and_nothing_is_doubled_or_lost(
    finished_run: Path, tmp_path: Path, elsewhere: TrackingState, empty_mlflow: Path, outcome: str
) -> None:
    """Each request in turn fails; "late": the server executes it after all was sent again."""
    expected = only_run(finished_run)
    for number in count(1):
        database = tmp_path / str(number) / "mlflow.db"
        database.parent.mkdir()
        shutil.copy(empty_mlflow, database)
        state = replace(elsewhere, uri=f"sqlite:///{database}")
        with failing_request(number, outcome) as failed:
            with contextlib.suppress(MlflowException):
                sync(finished_run, state)
            run_id = sync(finished_run, state)
        for request in failed:
            with contextlib.suppress(FileNotFoundError):  # of a text's temporary file
                request()
        assert sync(finished_run, state) == run_id
        folder = database.parent / "outputs" / finished_run.name
        run = only_run(folder)
        assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
        assert metric_points(folder, run) == metric_points(finished_run, expected)
        assert run.data.params == expected.data.params
        if not failed:
            break
        assert artifact_paths(folder, run) == readable_files(finished_run)
    assert number > 10


@contextlib.contextmanager
def failing_request(number: int, outcome: str) -> Iterator[list[Callable[[], object]]]:
    """Inside, the request to MLflow of this number fails; yields it, to be executed later."""
    failed: list[Callable[[], object]] = []
    numbers = count(1)

    def flaky(original: Callable[..., Any]) -> Callable[..., Any]:
        def request(*args: Any, **kwargs: Any) -> Any:
            if next(numbers) != number:
                return original(*args, **kwargs)
            if original.__name__ == "create_run":  # the client, not the server, says when it began
                kwargs["start_time"] = int(time.time() * 1000)
            failed.append(functools.partial(original, *args, **kwargs))
            if outcome == "answer lost":
                failed[0]()
            raise MlflowException("timed out")

        return request

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            patch.setattr(MlflowClient, name, flaky(getattr(MlflowClient, name)))
        yield failed
    if outcome != "late":
        failed[:] = failed and [lambda: None]


def test_a_second_sync_sends_nothing(
    finished_run: Path, elsewhere: TrackingState, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = sync(finished_run, elsewhere)
    for name in WRITES:
        monkeypatch.delattr(MlflowClient, name)
    assert sync(finished_run, elsewhere) == run_id


def test_files_that_are_not_sent(
    finished_run: Path, tmp_path: Path, elsewhere: TrackingState
) -> None:
    folder = Path(shutil.copytree(finished_run, tmp_path / "outputs" / "run"))
    expected = readable_files(folder)
    (tmp_path / "secret").write_text("not for anybody")
    (folder / "link").symlink_to(tmp_path / "secret")
    for name in (".report.md.x.part", "report.md.damaged-1", "notes.txt.sha256", "a.safetensors"):
        (folder / name).write_text("not for MLflow")
    sync(folder, elsewhere)
    run = only_run(folder)
    assert artifact_paths(folder, run) == expected
    # The files lie beside the database.
    assert str(run.info.artifact_uri).startswith((tmp_path / "mlruns").as_uri())


def test_a_run_lies_under_its_study_once_that_is_there(
    finished_run: Path, tmp_path: Path, elsewhere: TrackingState
) -> None:
    state = replace(elsewhere, study="0123abcd")
    outside = tmp_path / "outputs" / "run"
    sync(finished_run, state)
    assert "mlflow.parentRunId" not in only_run(outside).data.tags
    experiment = open_experiment(state.uri, state.experiment)
    parent = experiment.client.create_run(experiment.id, tags={RUN_TAG: "0123abcd"})
    run_id = sync(finished_run, state)
    child = experiment.client.get_run(run_id)
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
