"""Shows a study in MLflow: a parent run with its tables, figures and plan; the study's runs lie under it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Param, Run

from lungsound.tracking.view import FOLDER_TAG, PARENT_TAG, experiment_id, quiet_client, told

STUDY_TAG = "lungsound.study"
FAILED_TAG = "lungsound.failed_job"
MOST_RUNS = 10_000


class StudyView:
    """The one MLflow run of a study's folder; the same folder finds it again."""

    def __init__(self, uri: str, experiment: str, folder: Path, tags: dict[str, str]) -> None:
        self.uri, self.folder = uri, folder
        with told(uri, "MLflow cannot be used there"):
            self.client = quiet_client(uri)
            self.experiment = experiment_id(self.client, experiment)
            place = str(folder.resolve())
            found = self.client.search_runs([self.experiment], f"tags.`{STUDY_TAG}` = '{place}'", max_results=1)
            run = found[0] if found else self.client.create_run(
                self.experiment, tags={**tags, STUDY_TAG: place}, run_name=folder.name
            )  # fmt: skip
            self.run_id = run.info.run_id
            self.client.update_run(self.run_id, status="RUNNING")

    def begin(self, anew: Iterable[Path]) -> None:
        """Drop what an earlier command showed as failed before it was a run, and the runs of folders to be trained anew
        from the study: they keep their own MLflow runs."""
        places = {str(path.resolve()) for path in anew}
        with told(self.uri, "the study's earlier runs cannot be changed"):
            for run in self.children():
                if FAILED_TAG in run.data.tags:
                    self.client.delete_run(run.info.run_id)
                elif run.data.tags.get(FOLDER_TAG) in places:
                    self.client.delete_tag(run.info.run_id, PARENT_TAG)
                    self.client.delete_tag(run.info.run_id, FOLDER_TAG)

    def children(self) -> list[Run]:
        of_this = f"tags.`{PARENT_TAG}` = '{self.run_id}'"
        return list(self.client.search_runs([self.experiment], of_this, max_results=MOST_RUNS))

    def add_failed(self, name: str, error: str) -> None:
        """A failed run under the study, for a job that failed before it had one, with its error as an artifact."""
        with told(self.uri, "a failed job cannot be shown"):
            tags = {PARENT_TAG: self.run_id, FAILED_TAG: name}
            run = self.client.create_run(self.experiment, tags=tags, run_name=name)
            self.client.log_text(run.info.run_id, error, "error.txt")
            self.client.set_terminated(run.info.run_id, "FAILED")

    def add_values(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        """The swept keys as params of the runs, by folder: the page compares runs by any of them."""
        with told(self.uri, "the swept values cannot be sent"):
            for run in self.children():
                swept = values.get(run.data.tags.get(FOLDER_TAG, ""), {})
                new = [Param(key, str(value)) for key, value in swept.items() if key not in run.data.params]
                self.client.log_batch(run.info.run_id, params=new)

    def finish(self, status: str, counts: Mapping[str, int]) -> None:
        """Send the study's files and say how it ended: FINISHED, FAILED or KILLED, with `counts` as metrics.

        Step 0 is the first command's count, and each that found another one adds a step.
        """
        with told(self.uri, f"the study is complete in {self.folder}, and the same command sends it"):
            for name, count in counts.items():
                told_before = self.client.get_metric_history(self.run_id, name)
                if not told_before or max(told_before, key=lambda point: point.step).value != count:
                    self.client.log_metric(self.run_id, name, count, step=len(told_before))
            self.client.log_artifacts(self.run_id, str(self.folder))
            self.client.set_terminated(self.run_id, status)
