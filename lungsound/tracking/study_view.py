"""Shows a study in MLflow: a parent run with its tables, figures and plan; the study's runs lie under it."""

from pathlib import Path

from lungsound.tracking.view import PARENT_TAG, experiment_id, quiet_client, told

STUDY_TAG = "lungsound.study"


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

    def add_failed(self, name: str, error: str) -> None:
        """A failed run under the study, for a job that failed before it had one, with its error as an artifact."""
        with told(self.uri, "a failed job cannot be shown"):
            run = self.client.create_run(self.experiment, tags={PARENT_TAG: self.run_id}, run_name=name)
            self.client.log_text(run.info.run_id, error, "error.txt")
            self.client.set_terminated(run.info.run_id, "FAILED")

    def finish(self, status: str) -> None:
        """Send the study's files and say how it ended: FINISHED, FAILED or KILLED."""
        with told(self.uri, f"the study is complete in {self.folder}, and the same command sends it"):
            self.client.log_artifacts(self.run_id, str(self.folder))
            self.client.set_terminated(self.run_id, status)
