"""Shows a study in MLflow: a parent run with its tables, figures and plan; the study's runs lie
under it.
"""

from collections.abc import Iterator
from pathlib import Path

from mlflow.entities import Run

from lungsound.results.study_folder import read_study
from lungsound.storage.keys import content_key
from lungsound.tracking.client import PARENT_TAG, RUN_TAG
from lungsound.tracking.state import Record, held_if_free, read_record, settled
from lungsound.tracking.sync import FolderView, RunView

STUDY_TAG = "lungsound.study"
FAILED_TAG = "lungsound.failed_job"
MOST_RUNS = 10_000


class StudyView(FolderView):
    """The one MLflow run of a study's folder, and what the folder says of the runs under it."""

    folder_tag = STUDY_TAG

    def _send(self, record: Record) -> None:
        runs = dict(self._runs(record))
        self._drop({known.id for known in runs.values()}, record)
        if record.status == "RUNNING":
            return  # its runs send themselves
        values = {Path(job["run"]).name: job["values"] for job in read_study(self.path)["jobs"]}
        for path, known in runs.items():
            self._send_run(path, known, values[path.name], record)
        children = self._children()
        for name, error in record.failed.items():
            made = [
                run for run in children if run.data.tags.get(FAILED_TAG) == failure_id(name, error)
            ]
            self._show_failed(name, error, made)
        # A later command's counts are a step of their own; the same ones are there already.
        now = self.client.get_run(self.run_id).data.metrics
        changed = {name: count for name, count in record.counts.items() if now.get(name) != count}
        step = max((last for steps in self.steps().values() for last in steps), default=-1) + 1
        self.send_points([(name, count, step) for name, count in changed.items()])
        self.send_files()
        self.end(record)

    def _runs(self, record: Record) -> Iterator[tuple[Path, Record]]:
        """The folders of the study's runs, as far as they have begun, and their records."""
        outputs = self.path.resolve().parents[1]
        for name in {Path(job["run"]).name for job in read_study(self.path)["jobs"]}:
            known = read_record(outputs / name)
            if known is not None and known.study == record.id:
                yield outputs / name, known

    def _send_run(self, path: Path, known: Record, swept: dict[str, object], study: Record) -> None:
        """A run as it is now, under its study, with the swept keys as params: the page compares
        runs by any of them.
        """
        with held_if_free(path) as free:
            if not free:
                return  # the command that works on it sends it
            view = RunView(path)
            view.beat = self.beat
            known = Record(
                **{**vars(settled(path, known)), "uri": study.uri, "experiment": study.experiment}
            )
            view.send(known)
            view.send_params(swept)

    def _drop(self, current: set[str], record: Record) -> None:
        """Take from the study what is no run of it any more: those trained anew leave their earlier
        MLflow run behind, and failures that were not repeated are gone.
        """
        failures = {failure_id(name, error) for name, error in record.failed.items()}
        for run in self._children():
            tags = run.data.tags
            if tags.get(FAILED_TAG, "") not in failures | {""}:
                self.client.delete_run(run.info.run_id)
            elif FAILED_TAG not in tags and tags.get(RUN_TAG) not in current:
                self.client.delete_tag(run.info.run_id, PARENT_TAG)
        self.beat()

    def _children(self) -> list[Run]:
        of_this = f"tags.`{PARENT_TAG}` = '{self.run_id}'"
        return list(self.client.search_runs([self.experiment], of_this, max_results=MOST_RUNS))

    def _show_failed(self, name: str, error: str, made: list[Run]) -> None:
        """A failed run under the study, for a job that failed before it had one, with its error as
        an artifact.

        `made`: what an earlier try has come to; twins are of requests that were done after we
        stopped waiting.
        """
        tags = {PARENT_TAG: self.run_id, FAILED_TAG: failure_id(name, error)}
        run, *twins = made or [self.client.create_run(self.experiment, tags=tags, run_name=name)]
        if run.info.status != "FAILED":
            self.client.log_text(run.info.run_id, error, "error.txt")
            self.client.set_terminated(run.info.run_id, "FAILED")
        for twin in twins:
            self.client.delete_run(twin.info.run_id)
        self.beat()


def failure_id(name: str, error: str) -> str:
    return content_key([name, error])
