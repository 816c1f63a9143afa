"""Sends a run's folder to MLflow: what is there already is not sent again, so a broken run goes on where it was."""

import logging
import os
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

from lungsound.errors import LungsoundError
from lungsound.evaluation.biocas import FIGURES
from lungsound.evaluation.folder import RunFolder
from lungsound.files import locked
from lungsound.scoring.scores import SCORES

PARENT_TAG = "mlflow.parentRunId"  # what the page makes a tree of
FOLDER_TAG = "lungsound.folder"
TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # the page opens on the list of runs
SHOWN = "It is shown in the MLflow run"  # the note of an error that has a run of its own
SQLITE = "sqlite:///"
BATCH = 1000  # metrics MLflow takes in one call


@contextmanager
def told(uri: str, what: str) -> Iterator[None]:
    """MLflow's errors as one of ours."""
    try:
        yield
    except MlflowException as error:
        raise LungsoundError(f"tracking.uri={uri}: {what}: {error.message}") from error


def quiet_client(uri: str) -> MlflowClient:
    """A client that does not report how it makes its database, and does not make it while another process does."""
    for noisy in ("alembic", "mlflow.store.db.utils", "mlflow.tracking.fluent"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # MLflow makes a database's tables when it first opens it, and without a lock.
    database = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None
    with locked(Path(f"{database}.lock")) if database else nullcontext():
        if database and not database.exists():
            make_database(database)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


def make_database(path: Path) -> None:
    """MLflow's tables at `path`, all or none: a death in the midst of its migrations leaves what no start can use."""
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    MlflowClient(tracking_uri=f"{SQLITE}{unfinished}").search_experiments(max_results=1)
    os.replace(unfinished, path)


def experiment_id(client: MlflowClient, name: str) -> str:
    """The id of the experiment, which is made where it is not there."""
    experiment = client.get_experiment_by_name(name)
    if experiment:
        return str(experiment.experiment_id)
    # MLflow would put the files of a sqlite database's runs into the working folder, wherever the database is.
    database, uri = Path(client.tracking_uri.removeprefix(SQLITE)), client.tracking_uri
    beside = (database.absolute().parent / "mlruns").as_uri() if uri.startswith(SQLITE) else None
    return str(client.create_experiment(name, artifact_location=beside, tags=TRAINING))


class MlflowView:
    """One MLflow run that shows one run's folder."""

    def __init__(self, uri: str, experiment: str, folder: RunFolder, tags: dict[str, str], anew: bool) -> None:
        self.folder, self.uri = folder, uri
        with told(self.uri, "MLflow cannot be used there"):
            self.client = quiet_client(uri)
            place = experiment_id(self.client, experiment)
            run = None if anew else self._existing(place)
            if run is None:
                tags = {**tags, FOLDER_TAG: str(folder.path.resolve())}
                run = self.client.create_run(place, tags=tags, run_name=folder.path.name)
            for name, value in tags.items():
                if run.data.tags.get(name) != value:  # a run that was there before its study
                    self.client.set_tag(run.info.run_id, name, value)
            self.run_id, self.status = run.info.run_id, run.info.status
            self.params = set(run.data.params)
            self.sent: dict[str, set[int]] = defaultdict(set)
            for metric in run.data.metrics:
                self.sent[metric] = {point.step for point in self.client.get_metric_history(self.run_id, metric)}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show the run as running inside, and as what it came to afterwards."""
        self.status = "RUNNING"
        with told(self.uri, "the run cannot be shown as running"):
            self.client.update_run(self.run_id, status=self.status)
        try:
            yield
        except BaseException as error:
            with suppress(MlflowException):  # the error itself is what a user must see
                self.client.log_text(self.run_id, "".join(traceback.format_exception(error)), "error.txt")
                for path in self.folder.path.glob("diverged-*.npz"):  # what a diverged training saw last
                    self.client.log_artifact(self.run_id, str(path))
                self.client.set_terminated(self.run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
            error.add_note(f"{SHOWN} {self.run_id}")
            raise

    def send_facts(self, finished: bool) -> None:
        """facts.json as params. A param is written once: only new ones go, and what still grows at the end."""
        growing = set() if finished else {"epochs_trained"}
        facts = self.folder.read_json("facts.json")
        facts = {name: value for name, value in facts.items() if name not in self.params | growing}
        params = [Param(name, str(value)) for name, value in facts.items()]
        with told(self.uri, "the run's params cannot be sent"):
            self.client.log_batch(self.run_id, params=params)
        self.params |= set(facts)

    def send_progress(self) -> None:
        """What history.jsonl has by now. The training goes on where that fails: the end sends what is not there."""
        try:
            self._send_history()
        except MlflowException as error:
            print(f"tracking.uri={self.uri}: not sent for now, the training goes on: {error.message}", flush=True)

    def _send_history(self) -> None:
        """history.jsonl as metrics, step = epoch."""
        for record in self.folder.read_history():
            self._send([(name, record[name], record["epoch"]) for name in record if name not in ("epoch", "period")])

    def send_all(self, weights: list[Path]) -> None:
        """The finished folder: what is not there yet, every file, and the members' weights where they are wanted."""
        if self.status == "FINISHED" and not weights:
            return
        self.send_facts(finished=True)
        with told(
            self.uri, f"the results are complete in {self.folder.path}, and the same command sends what is missing"
        ):
            self._send_history()
            self._send(score_metrics(self.folder.read_json("scores.json")))
            self.client.log_artifacts(self.run_id, str(self.folder.path))
            for path in weights:
                self.client.log_artifact(self.run_id, str(path), "snapshots")
            self.client.set_terminated(self.run_id, "FINISHED")

    def _send(self, points: list[tuple[str, float | None, int]]) -> None:
        now = int(time.time() * 1000)
        new = [
            Metric(name, float(value), now, step)
            for name, value, step in points
            if value is not None and step not in self.sent[name]
        ]
        for start in range(0, len(new), BATCH):
            self.client.log_batch(self.run_id, metrics=new[start : start + BATCH])
        for metric in new:
            self.sent[metric.key].add(metric.step)

    def _existing(self, experiment_id: str) -> Run | None:
        path = str(self.folder.path.resolve()).replace("'", "\\'")
        runs = self.client.search_runs([experiment_id], f"tags.`{FOLDER_TAG}` = '{path}'", max_results=1)
        return runs[0] if runs else None


def score_metrics(results: dict[str, Any]) -> list[tuple[str, float | None, int]]:
    """(name, value, step) of what scores.json holds, under the names that others rely on."""
    scores = results["scores"]
    points: list[tuple[str, float | None, int]] = []
    kinds = [name for name in SCORES if name in scores["ensemble"][0]["test"]]
    for row in scores["members"]:
        points += [(f"member/{part}_{kinds[0]}", row[part][kinds[0]], row["member"]) for part in ("val", "test")]
    for row in scores["ensemble"]:
        points += [(f"ensemble/test_{kind}", row["test"][kind], row["members"]) for kind in kinds]
    final = scores["ensemble"][-1]["test"]
    points += [(f"test/{name}", value, 0) for name, value in final.items() if name != "accuracy"]
    points += [(f"test/single_{kind}", scores["single"]["test"][kind], 0) for kind in kinds]
    points += [(f"leak/{kind}", results["leaks"][kind], 0) for kind in ("patients", "recordings", "duplicates")]
    for row in results["biocas"]:
        if row["who"].startswith("ensemble"):
            points += [(f"biocas/{row['part']}_{row['task']}_{name}", row[name], 0) for name in FIGURES]
    return points
