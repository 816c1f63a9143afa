"""Sync a folder to MLflow: `sync` sends what MLflow lacks, and can be repeated at any time.

Each call compares the folder with what MLflow has, whatever earlier calls did. A metric's timestamp
depends only on its run and step: MLflow stores equal points once, so a point that is sent twice,
because the first request timed out but was executed later, is not doubled.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from lungsound.results.folder import RunFolder, folder_lock_path
from lungsound.results.html import report_html
from lungsound.results.study_folder import STUDY_FILE, read_study
from lungsound.storage.files import CHECKSUM_MANIFEST, QUARANTINE_INFIX, read_file
from lungsound.storage.keys import content_key
from lungsound.storage.locks import try_lock
from lungsound.storage.places import remove_secrets
from lungsound.tracking.client import RUN_TAG, Experiment, find_unique_run, open_experiment
from lungsound.tracking.contents import (
    run_datasets,
    run_description,
    run_params,
    study_description,
)
from lungsound.tracking.metrics import MetricPoint, history_metrics, score_metrics, study_metrics
from lungsound.tracking.model import log_model
from lungsound.tracking.state import TrackingState, read_state, resolve_status

PARENT_TAG = "mlflow.parentRunId"  # MLflow's page nests runs by it
FOLDER_TAG = "lungsound.folder"
STUDY_TAG = "lungsound.study"
FAILED_JOB_TAG = "lungsound.failed_job"
METRICS_PER_REQUEST, PARAMS_PER_REQUEST = 1000, 100  # MLflow's limits
MAX_CHILD_RUNS = 10_000
REPORT = "report.md"
WEIGHTS_FOLDER = "snapshots"  # among the artifacts
# Unfinished and corrupt files, weights, checksums (beside each file in release 0.1).
NOT_SENT = re.compile(
    rf"^\.|{re.escape(QUARANTINE_INFIX)}|\.safetensors$|\.sha256$|^{CHECKSUM_MANIFEST}$"
)


def sync(folder: Path, state: TrackingState) -> str:
    """Send what MLflow lacks of the folder of a run or a study; return the MLflow run's id.

    Errors of MLflow, its database and its server are not caught; the next call sends the rest.
    """
    experiment = open_experiment(state.uri, state.experiment)
    if (folder / STUDY_FILE).exists():
        return StudySync(experiment, folder, state).sync()
    return sync_run(experiment, folder, state)


class MlflowSync:
    """One MLflow run, found by the state's id or created; it gets the state's tags."""

    def __init__(
        self, experiment: Experiment, state: TrackingState, name: str, tags: dict[str, str]
    ) -> None:
        self.experiment, self.client, self.state = experiment, experiment.client, state
        tags = {**state.tags, RUN_TAG: state.id, **tags}
        run = find_unique_run(experiment, state.id)
        if run is None:
            run = self.client.create_run(experiment.id, tags=tags, run_name=name)
        self.run, self.run_id = run, str(run.info.run_id)
        for tag, value in tags.items():
            if run.data.tags.get(tag) != value:
                self.client.set_tag(self.run_id, tag, value)
        if state.status == "RUNNING" != run.info.status:
            self.client.update_run(self.run_id, status="RUNNING")

    @property
    def is_finished(self) -> bool:
        """Whether MLflow has all of a finished run; the status is sent last."""
        return self.state.status == "FINISHED" and bool(self.run.info.status == "FINISHED")

    def log_params(self, values: Mapping[str, str]) -> None:
        """Log the params that MLflow does not have; it refuses to change one."""
        names = sorted(values.keys() - self.run.data.params)
        for start in range(0, len(names), PARAMS_PER_REQUEST):
            params = [Param(name, values[name]) for name in names[start:][:PARAMS_PER_REQUEST]]
            self.client.log_batch(self.run_id, params=params)

    def log_metrics(self, points: list[MetricPoint]) -> None:
        """Log the points that MLflow does not have, or has with another value."""
        logged: dict[tuple[str, int], list[float]] = {}
        for name in {name for name, _, _ in points} & set(self.run.data.metrics):
            for point in self.client.get_metric_history(self.run_id, name):
                logged.setdefault((name, point.step), []).append(point.value)
        new = []
        for name, value, step in points:
            earlier = logged.get((name, step), [])
            if value not in earlier:  # a later time makes it the latest value
                time = self.run.info.start_time + step + len(earlier)
                new.append(Metric(name, value, time, step))
        for start in range(0, len(new), METRICS_PER_REQUEST):
            batch = new[start : start + METRICS_PER_REQUEST]
            self.client.log_batch(self.run_id, metrics=batch)

    def log_files(self, folder: Path, paths: Iterable[Path]) -> None:
        """Upload files of the folder, under the same relative paths, without passwords."""
        for path in paths:
            place = path.parent.relative_to(folder).as_posix()
            text = path.read_text("utf-8", "replace") if path.suffix in (".json", ".yaml") else ""
            if text != (public := remove_secrets(text)):  # release 0.1 stored passwords
                self.client.log_text(self.run_id, public, path.relative_to(folder).as_posix())
            else:
                self.client.log_artifact(self.run_id, str(path), None if place == "." else place)

    def log_report(self, folder: Path) -> None:
        """Upload the report as a page, which MLflow shows with its figures."""
        self.client.log_text(self.run_id, report_html(folder), "report.html")

    def log_weights(self) -> None:
        """Upload the members' weights that MLflow does not have."""
        from lungsound.training.weights import read_weights  # it imports torch

        if not self.state.weights:
            return
        artifacts = self.client.list_artifacts(self.run_id, WEIGHTS_FOLDER)
        uploaded = {Path(artifact.path).name for artifact in artifacts}
        for path in map(Path, self.state.weights):
            if path.name not in uploaded:
                # Read first: an edited tracking.json could name any file of this machine.
                if path.suffix == ".pt":  # of release 0.1
                    read_file(path, embedded_checksum=True)
                else:
                    read_weights(path)
                self.client.log_artifact(self.run_id, str(path), WEIGHTS_FOLDER)

    def finish(self) -> None:
        """Send the error and the final status; call it last."""
        if self.state.error:
            self.client.log_text(self.run_id, remove_secrets(self.state.error), "error.txt")
        if self.run.info.status != self.state.status:
            self.client.set_terminated(self.run_id, self.state.status)


def sync_run(experiment: Experiment, folder: Path, state: TrackingState) -> str:
    """Sync one run; return the MLflow run's id."""
    tags = {FOLDER_TAG: str(folder.resolve())}
    parent = find_unique_run(experiment, state.study) if state.study else None
    if parent is not None:  # else a later sync sets it
        tags[PARENT_TAG] = parent.info.run_id
    name = state.name or folder.absolute().name
    target, run = MlflowSync(experiment, state, name, tags), RunFolder(folder)
    finished = state.status == "FINISHED"
    target.log_params(run_params(run, finished))
    if not target.is_finished:
        target.log_metrics(history_metrics(run.read_history()))
        if finished:
            log_results(target, run)
    target.log_weights()
    if state.log_model and finished:
        log_model(experiment, target.run_id, run)
    if state.status != "RUNNING" and not target.is_finished:
        target.log_files(folder, folder.glob("diverged-*.npz"))
        target.finish()
    return target.run_id


def log_results(target: MlflowSync, run: RunFolder) -> None:
    """Log what a finished run has: scores, data sets, description and files."""
    results = run.read_json("scores.json")
    target.log_metrics(score_metrics(results))
    datasets = run_datasets(run)
    try:
        target.client.log_inputs(target.run_id, datasets)
    except MlflowException:  # another process has just stored the same data sets: now they exist
        target.client.log_inputs(target.run_id, datasets)
    target.client.set_tag(target.run_id, MLFLOW_RUN_NOTE, run_description(results))
    target.log_files(run.path, files_to_send(run.path))
    target.log_report(run.path)


class StudySync(MlflowSync):
    """The parent run of a study: its tables, figures and plan; its runs and failed jobs below."""

    def __init__(self, experiment: Experiment, folder: Path, state: TrackingState) -> None:
        tags = {STUDY_TAG: str(folder.resolve())}
        super().__init__(experiment, state, state.name or folder.absolute().name, tags)
        self.folder, self.study = folder, read_study(folder)

    def sync(self) -> str:
        """Sync the study and its runs; return the MLflow run's id."""
        failures = {
            content_key([self.state.id, job, error]): (job, error)
            for job, error in self.state.failed.items()
        }
        runs = list(self._runs())
        self._detach_stale_children({*failures, *(state.id for _, state in runs)})
        if self.state.status == "RUNNING":
            return self.run_id  # its runs sync themselves
        for folder, state in runs:
            if state.study == self.state.id:
                with try_lock(folder_lock_path(folder)) as acquired:
                    if acquired:  # else another process works on the run, and syncs it
                        sync_run(self.experiment, folder, resolve_status(folder, state))
        for identity, (job, error) in failures.items():
            self._log_failed_job(identity, job, error)
        self._log_counts()
        if (self.folder / REPORT).exists():
            self._log_scores([state.id for _, state in runs])
        self.log_files(self.folder, files_to_send(self.folder))
        self.finish()
        return self.run_id

    def _runs(self) -> Iterator[tuple[Path, TrackingState]]:
        """Yield folder and state of each run of the study that has started."""
        outputs = self.folder.resolve().parents[1]
        for name in dict.fromkeys(Path(job["run"]).name for job in self.study["jobs"]):
            state = read_state(outputs / name)
            if state is not None:
                yield outputs / name, state

    def _log_scores(self, runs: list[str]) -> None:
        """Log the mean scores, the main table as description, and the report as a page.

        A run that is listed under another study gets a link there.
        """
        self.log_metrics(study_metrics(self.folder, self.study["swept"]))
        links = {}
        for run in filter(None, (find_unique_run(self.experiment, identity) for identity in runs)):
            if run.data.tags.get(PARENT_TAG) != self.run_id:
                address = f"#/experiments/{self.experiment.id}/runs/{run.info.run_id}"
                links[run.info.run_name] = address
        report = (self.folder / REPORT).read_text("utf-8", "replace")
        if not self.is_finished:
            self.client.set_tag(self.run_id, MLFLOW_RUN_NOTE, study_description(report, links))
        self.log_report(self.folder)

    def _detach_stale_children(self, current: set[str]) -> None:
        """Detach MLflow runs of earlier trainings, and delete old failed jobs."""
        limit = {"max_results": MAX_CHILD_RUNS}
        for child in self.experiment.runs_with_tag(PARENT_TAG, self.run_id, **limit):
            if FAILED_JOB_TAG in child.data.tags and child.data.tags.get(RUN_TAG) not in current:
                self.client.delete_run(child.info.run_id)
            elif child.data.tags.get(RUN_TAG) not in current:
                self.client.delete_tag(child.info.run_id, PARENT_TAG)

    def _log_failed_job(self, identity: str, job: str, error: str) -> None:
        """Log a FAILED run for a job that failed before it had a folder."""
        state = replace(self.state, id=identity, status="FAILED", error=error)
        tags = {PARENT_TAG: self.run_id, FAILED_JOB_TAG: identity}
        MlflowSync(self.experiment, state, job, tags).finish()

    def _log_counts(self) -> None:
        """Log the counts of jobs and epochs; a changed count is a new step."""
        for name, count in self.state.counts.items():
            if self.run.data.metrics.get(name) != count:
                step = len(self.client.get_metric_history(self.run_id, name))
                self.log_metrics([(name, float(count), step)])


def files_to_send(folder: Path) -> Iterator[Path]:
    """Yield the files of the folder and its subfolders, except for links and NOT_SENT."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and not NOT_SENT.search(path.name):
            yield path
