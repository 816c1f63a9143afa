"""Sends a folder to MLflow: what is there already is not sent again, so a broken run goes on where
it was.
"""

import functools
import re
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

from lungsound.results.biocas import BIOCAS_METRICS
from lungsound.results.folder import RunFolder
from lungsound.scoring.scores import score_names
from lungsound.storage.files import QUARANTINE_INFIX, read_file
from lungsound.tracking.client import PARENT_TAG, RUN_TAG, experiment_id, find_run, open_client
from lungsound.tracking.state import Record

FOLDER_TAG = "lungsound.folder"
BATCH = 1000  # metrics MLflow takes in one call
SNAPSHOTS = "snapshots"  # the weights' place among a run's files


class FolderView(ABC):
    """One MLflow run that shows one folder."""

    folder_tag: str  # names the tag with the folder's place

    def __init__(self, path: Path) -> None:
        self.path = path
        self.client: MlflowClient
        self.run_id, self.status = (
            "",
            "",
        )  # no id: not looked for yet, or not since something failed
        self.metrics: list[str] = []
        self.sent: dict[str, set[int]] | None = None
        self.beat: Callable[[], None] = lambda: (
            None
        )  # called after MLflow's answers; a sender puts its own here

    def send(self, record: Record) -> None:
        """Bring MLflow to what the folder and its record hold. What goes wrong is raised as it
        comes, and the next call looks anew at what is there.
        """
        try:
            if not self.run_id:
                self._find(record)
            if record.status == "RUNNING" != self.status:
                self.client.update_run(self.run_id, status="RUNNING")
                self.status = "RUNNING"
            self._send(record)
        except BaseException:
            self.run_id = ""
            raise

    def tags(self, record: Record) -> dict[str, str]:
        """All that the MLflow run carries; called with the client open."""
        return {**record.tags, RUN_TAG: record.id, self.folder_tag: str(self.path.resolve())}

    @abstractmethod
    def _send(self, record: Record) -> None:
        """What MLflow lacks of the folder and the record."""

    def _find(self, record: Record) -> None:
        """The MLflow run with the folder's id, made where it is not there, and what it holds."""
        self.client = open_client(record.uri)
        self.experiment = experiment_id(self.client, record.experiment)
        tags = self.tags(record)
        run = find_run(self.client, self.experiment, record.id)
        if run is None and record.lost:
            run = self._earlier_run(record)
        if run is None:
            run = self.client.create_run(
                self.experiment, tags=tags, run_name=self.path.absolute().name
            )
        self.beat()
        for name, value in tags.items():
            if run.data.tags.get(name) != value:  # a run that was there before its study, say
                self.client.set_tag(run.info.run_id, name, value)
        self.status, self.params = run.info.status, set(run.data.params)
        self.metrics, self.sent = list(run.data.metrics), None
        self.run_id = run.info.run_id

    def _earlier_run(self, record: Record) -> Run | None:
        """The folder's newest MLflow run of the very same work. What else is RUNNING of the folder
        was killed.
        """
        place = str(self.path.resolve())
        alike = re.sub(
            r"[^\w/.-]", "_", place
        )  # which stands for any character: MLflow's filter knows no quoting
        found = self.client.search_runs(
            [self.experiment],
            f"tags.`{self.folder_tag}` LIKE '{alike}'",
            order_by=["attributes.start_time DESC"],
        )
        earlier = [run for run in found if run.data.tags[self.folder_tag] == place]
        same = next((run for run in earlier if record.tags.items() <= run.data.tags.items()), None)
        for run in earlier:
            if run is not same and run.info.status == "RUNNING":
                self.client.set_terminated(run.info.run_id, "KILLED")
        return same

    def send_params(self, values: dict[str, Any]) -> None:
        """Those that are not there yet: a param is written once."""
        new = [Param(name, str(value)) for name, value in values.items() if name not in self.params]
        if new:
            self.client.log_batch(self.run_id, params=new)
            self.params |= {param.key for param in new}
            self.beat()

    def send_points(self, points: list[tuple[str, float | None, int]]) -> None:
        """(name, value, step) as metrics, where that step is not there yet."""
        sent = self.steps()
        new = [
            Metric(name, float(value), first_tried(self.run_id, step), step)
            for name, value, step in points
            if value is not None and step not in sent[name]
        ]
        for start in range(0, len(new), BATCH):
            self.client.log_batch(self.run_id, metrics=new[start : start + BATCH])
            self.beat()
        for metric in new:
            sent[metric.key].add(metric.step)

    def steps(self) -> dict[str, set[int]]:
        """Those that MLflow has of each metric."""
        if self.sent is None:
            self.sent = defaultdict(set)
            for name in self.metrics:
                self.sent[name] = {
                    point.step for point in self.client.get_metric_history(self.run_id, name)
                }
                self.beat()
        return self.sent

    def send_files(self) -> None:
        """Every file of the folder, but those that are still being written, or were damaged."""
        for path in sorted(self.path.rglob("*")):
            if (
                path.is_file()
                and not path.is_symlink()
                and not path.name.startswith(".")
                and QUARANTINE_INFIX not in path.name
            ):
                place = path.parent.relative_to(self.path).as_posix()
                self.client.log_artifact(self.run_id, str(path), None if place == "." else place)
                self.beat()

    def end(self, record: Record) -> None:
        """Say how it ended, last of all: what is FINISHED in MLflow is all there."""
        if record.error:
            self.client.log_text(self.run_id, record.error, "error.txt")
        find_run(self.client, self.experiment, record.id)  # drops twins
        self.client.set_terminated(self.run_id, record.status)
        self.status = record.status
        self.beat()


@functools.cache
def first_tried(run_id: str, step: int) -> int:
    """The time, in ms, that a step's metrics have: that of their first try. MLflow keeps a metric
    that comes twice once if its time is the same, too; so one that it took without our knowing is
    not doubled by the next try.
    """
    return int(time.time() * 1000)


class RunView(FolderView):
    """The MLflow run of one training: params, metrics by epoch, scores, files, and weights where
    they are wanted.
    """

    folder_tag = FOLDER_TAG

    def tags(self, record: Record) -> dict[str, str]:
        tags = super().tags(record)
        study = find_run(self.client, self.experiment, record.study) if record.study else None
        return tags if study is None else {**tags, PARENT_TAG: study.info.run_id}

    def _send(self, record: Record) -> None:
        folder, finished = RunFolder(self.path), record.status == "FINISHED"
        if not finished or self.status != "FINISHED":
            if (self.path / "facts.json").exists():
                growing = set() if finished else {"epochs_trained", "last_epoch_trained"}
                facts = folder.read_json("facts.json")
                self.send_params(
                    {name: value for name, value in facts.items() if name not in growing}
                )
            self.send_points(history_metrics(folder.read_history()))
            if finished:
                self.send_points(score_metrics(folder.read_json("scores.json")))
                self.send_files()
        self._send_weights(record)
        if record.status != "RUNNING" and (record.error or record.status != self.status):
            for path in self.path.glob("diverged-*.npz"):  # what a training that diverged saw last
                self.client.log_artifact(self.run_id, str(path))
            self.end(record)

    def _send_weights(self, record: Record) -> None:
        if not record.weights:
            return
        there = {
            Path(file.path).name for file in self.client.list_artifacts(self.run_id, SNAPSHOTS)
        }
        for path in record.weights:
            if Path(path).name not in there:
                read_file(
                    Path(path), sealed=True
                )  # ours and whole: a stranger's record could name any file here
                self.client.log_artifact(self.run_id, path, SNAPSHOTS)
                self.beat()


def history_metrics(history: list[dict[str, Any]]) -> list[tuple[str, float | None, int]]:
    """(name, value, step) of what history.jsonl holds; step = epoch."""
    return [
        (name, record[name], record["epoch"])
        for record in history
        for name in record
        if name not in ("epoch", "period")
    ]


def score_metrics(results: dict[str, Any]) -> list[tuple[str, float | None, int]]:
    """(name, value, step) of what scores.json holds, under the names that others rely on."""
    scores = results["scores"]
    points: list[tuple[str, float | None, int]] = []
    kinds = score_names(scores["ensemble"][0]["test"])
    for row in scores["members"]:
        points += [
            (f"member/{part}_{kinds[0]}", row[part][kinds[0]], row["member"])
            for part in ("val", "test")
        ]
    for row in scores["ensemble"]:
        points += [(f"ensemble/test_{kind}", row["test"][kind], row["members"]) for kind in kinds]
    final = scores["ensemble"][-1]["test"]
    points += [(f"test/{name}", value, 0) for name, value in final.items() if name != "accuracy"]
    points += [(f"test/single_{kind}", scores["single"]["test"][kind], 0) for kind in kinds]
    points += [
        (f"leak/{kind}", results["leaks"][kind], 0)
        for kind in ("patients", "recordings", "duplicates")
    ]
    for row in results["biocas"]:
        if row["who"].startswith("ensemble"):
            points += [
                (f"biocas/{row['part']}_{row['task']}_{name}", row[name], 0)
                for name in BIOCAS_METRICS
            ]
    return points
