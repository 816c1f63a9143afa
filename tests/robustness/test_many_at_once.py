"""Many commands in one folder in the same second: they share store, trajectories and MLflow."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support.mlflow import metric_points, mlflow_runs
from support.studies import start_command

# Two trajectories (split.seed), and of each both more and fewer periods at once; two of the
# commands are the same.
TRAININGS = [
    (f"annealing.cycles={m}", f"split.seed={seed}")
    for m, seed in ((1, 0), (2, 0), (3, 0), (3, 0), (1, 1), (2, 1))
]
# Two studies that share runs with each other and with the trainings.
SWEEPS = [("annealing.cycles=1,2", "split.seed=0,1"), ("annealing.cycles=2,3",)]
COMMANDS: list[tuple[str, ...]] = [("train.py", *words) for words in TRAININGS]
COMMANDS += [("sweep.py", *words) for words in SWEEPS]
TROUBLE = re.compile(
    "Traceback|locked|alembic|OperationalError|IntegrityError|did not take|not sent"
)
RUNS, EPOCHS = 5, 3 + 2  # distinct ones: an epoch a period


@pytest.mark.long
def test_six_trainings_and_two_sweeps(tmp_path: Path, record_property: Callable[..., None]) -> None:
    begun = [start_command(*words, folder=tmp_path) for words in COMMANDS]
    outputs = [process.communicate()[0] for process in begun]
    for words, process, text in zip(COMMANDS, begun, outputs, strict=True):
        assert process.returncode == 0, (words, text)
        assert text.splitlines()[-1].startswith("run: " if words[0] == "train.py" else "study: ")
        assert not TROUBLE.findall(text), (words, text)
    facts = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/*/metadata.json")]
    assert len(facts) == RUNS
    trained = sum(fact["epochs_trained"] for fact in facts)
    epochs = f"{trained} epochs trained where {EPOCHS} are needed"
    record_property("figures", f"{len(begun)} commands at once, {epochs}")
    assert trained == EPOCHS
    assert sum(text.count("epoch ") for text in outputs) == EPOCHS  # each leaves a line
    assert sum("Decoding" in text for text in outputs) == 1  # the waveforms, once
    folder = tmp_path / "outputs" / "any"
    runs = mlflow_runs(folder)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == RUNS + len(SWEEPS)
    studies = [
        json.loads(path.read_text()) for path in tmp_path.glob("outputs/studies/*/study.json")
    ]
    assert {len(study["jobs"]) for study in studies} == {4, 2}
    for run in runs:
        metric_points(folder, run)  # fails if a step is there twice
    assert not list(tmp_path.glob("**/*.half"))
