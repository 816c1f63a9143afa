"""What MLflow holds after a run."""

import threading
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

# The steps of each metric of a small run with four classes.
EPOCHS, MEMBERS, ONCE = [1, 2, 3, 4], [1, 2], [0]
HISTORY = ("train/loss", "val/loss", "val/score_4", "val/score_2", "val/accuracy", "lr")
TEST_SCORES = ("specificity", "sensitivity_4", "sensitivity_2", "score_4", "score_2")
LEAKS = ("patients", "recordings", "duplicates")
STEPS = {
    **dict.fromkeys(HISTORY, EPOCHS),
    **{f"member/{part}_score_4": MEMBERS for part in ("val", "test")},
    **{f"ensemble/test_score_{classes}": MEMBERS for classes in (4, 2)},
    **{f"test/{name}": ONCE for name in TEST_SCORES},
    **{f"test/recall_{label}": ONCE for label in ("normal", "crackle", "wheeze", "both")},
    "test/macro_f1": ONCE,
    **{f"test/single_score_{classes}": ONCE for classes in (4, 2)},
    **{f"leak/{name}": ONCE for name in LEAKS},
}


def join_tracking_threads() -> None:
    """Wait for the threads that a run has left with MLflow; in real life the process ends there."""
    for thread in threading.enumerate():
        if thread.name == "tracking":
            thread.join(60)
            assert not thread.is_alive(), "a tracking thread waits for ever"


def mlflow_runs(run_folder: Path) -> list[Run]:
    """The MLflow runs beside a run that `train_in` made, the newest first."""
    client = mlflow_client(run_folder)
    experiment = client.get_experiment_by_name("lungsound")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def mlflow_client(run_folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{run_folder.parents[1] / 'mlflow.db'}")


def metric_points(folder: Path, run: Run) -> dict[str, dict[int, float]]:
    """Every stored metric of a run: step -> value. Fails where a step was sent twice."""
    return stored_points(mlflow_client(folder), run)


def stored_points(client: MlflowClient, run: Run) -> dict[str, dict[int, float]]:
    """`metric_points` of a run wherever it is."""
    stored = {}
    for name in run.data.metrics:
        history = client.get_metric_history(run.info.run_id, name)
        stored[name] = {point.step: point.value for point in history}
        assert len(stored[name]) == len(history), f"{name} has a step twice"
    return stored


def only_run(folder: Path) -> Run:
    (run,) = mlflow_runs(folder)
    return run


def artifact_paths(folder: Path, run: Run) -> set[str]:
    """The paths of all files that MLflow has of a run."""
    client, found = mlflow_client(folder), set()
    places = [""]
    while places:
        for file in client.list_artifacts(run.info.run_id, places.pop()):
            if file.is_dir:
                places.append(file.path)
            else:
                found.add(file.path)
    return found
