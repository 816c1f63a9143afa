"""A finished run's ensemble as a model in MLflow: logged, registered, and loaded from there."""

import io
import os
import shutil
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import soundfile
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from lungsound.errors import LungsoundError
from lungsound.models.registry import network_package
from lungsound.results.folder import MEMBERS, TRAINING_FILES, RunFolder
from lungsound.results.members import SCORES
from lungsound.storage.places import SQLITE, URI_VARIABLE, without_secrets
from lungsound.tracking.client import (
    DEFAULT_URI,
    Experiment,
    connection_uri,
    open_client,
    root_cause,
    validate_tracking_uri,
)

NAME = "ensemble"
RUN = "run"  # among the model's artifacts: what Ensemble.load needs of the run's folder
PACKAGE = Path(__file__).parents[1]
CODE = PACKAGE / "serving" / "model.py"  # MLflow runs it; this layer does not import it
# What the code imports; another package's network needs that package, too.
REQUIREMENTS = (
    *("mlflow", "torch", "numpy", "pandas", "safetensors", "soundfile", "soxr", "filelock"),
    *("pyyaml", "matplotlib", "scikit-learn", "rich"),
)
EXAMPLE_RATE, EXAMPLE_SECONDS = 4000, 4  # Hz


def log_model(experiment: Experiment, run_id: str, folder: RunFolder) -> None:
    """Log the run's ensemble with params and test scores, unless MLflow has it."""
    client = experiment.client
    for model in client.search_logged_models([experiment.id], f"source_run_id = '{run_id}'"):
        if model.status == LoggedModelStatus.READY:
            return
        client.delete_logged_model(model.model_id)  # an earlier upload that was interrupted
    run = client.get_run(run_id)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / NAME
        save_model(folder, path)
        model = client.create_logged_model(
            experiment.id, NAME, source_run_id=run_id, params=run.data.params
        )
        client.log_model_artifacts(model.model_id, str(path))
    metrics = []
    for name, value in run.data.metrics.items():
        if name.startswith("test/"):  # equal to the run's own points, which are then not doubled
            point = (name, value, run.info.start_time, 0)
            metrics.append(Metric(*point, model_id=model.model_id, run_id=run_id))
    client.log_batch(run_id, metrics=metrics)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    client.finalize_logged_model(model.model_id, "READY")


def save_model(folder: RunFolder, path: Path) -> None:
    """Write the model: this package's code, the run's members, signature, example, versions."""
    package = network_package(folder.read_config()["model"]["name"])
    needed = (*REQUIREMENTS, package) if package else REQUIREMENTS
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / RUN
        (run / MEMBERS).mkdir(parents=True)
        files = [folder.path / name for name in (*TRAINING_FILES, SCORES)]
        for source in (*files, *folder.member_paths()):
            shutil.copyfile(source, run / source.relative_to(folder.path))
        mlflow.pyfunc.save_model(
            path,
            python_model=str(CODE),
            code_paths=[str(PACKAGE)],
            artifacts={RUN: str(run)},
            signature=model_signature(folder.read_json("scores.json")["label_order"]),
            input_example=pd.DataFrame({"audio": [example_audio()]}),
            pip_requirements=[f"{name}=={version(name)}" for name in needed],
        )


def model_signature(labels: list[str]) -> ModelSignature:
    """Return the columns of a request, of an answer, and the params with their defaults."""
    numbers = ("start_seconds", "end_seconds", *(f"p_{label}" for label in labels))
    outputs = Schema(
        [
            ColSpec(DataType.long, "recording"),
            *(ColSpec(DataType.double, name) for name in numbers),
            ColSpec(DataType.string, "label"),
            ColSpec(DataType.double, "spread"),
            ColSpec(DataType.boolean, "abnormal", required=False),
        ]
    )
    inputs = Schema([ColSpec(DataType.string, "audio")])
    window, hop = (ParamSpec(n, DataType.double, s) for n, s in (("window", 3.0), ("hop", 1.0)))
    return ModelSignature(inputs, outputs, ParamSchema([window, hop]))


def example_audio() -> str:
    """Return a short wav of noise in base64."""
    noise = np.random.default_rng(0).normal(0, 0.1, EXAMPLE_RATE * EXAMPLE_SECONDS)
    file = io.BytesIO()
    soundfile.write(file, noise, EXAMPLE_RATE, format="WAV")
    return b64encode(file.getvalue()).decode()


def register_model(uri: str, run_id: str, name: str) -> str:
    """Register the run's logged model as a new version; return its address, `models:/NAME/1`.

    A run that is registered under this name keeps its version.
    """
    client = open_client(uri)
    for found in client.search_model_versions(f"run_id = '{run_id}' and name = '{name}'"):
        return f"models:/{name}/{found.version}"
    run = client.get_run(run_id)
    assert run.outputs is not None  # `sync` has logged it
    mlflow.set_tracking_uri(connection_uri(uri))
    made = mlflow.register_model(f"models:/{run.outputs.model_outputs[-1].model_id}", name)
    client.update_model_version(name, made.version, run.data.tags.get(MLFLOW_RUN_NOTE))
    return f"models:/{name}/{made.version}"


@contextmanager
def downloaded_run(uri: str) -> Iterator[Path]:
    """Yield the folder of the run in a model, such as models:/NAME/1 or runs:/ID/ensemble.

    The model's code is not run. Raises LungsoundError if MLflow does not have it.
    """
    from mlflow.artifacts import download_artifacts

    address = os.environ.get(URI_VARIABLE, "").strip() or DEFAULT_URI
    store = validate_tracking_uri(without_secrets(address))
    expected = f"{uri}: expected an ensemble of lungsound register in {store}"
    if store.startswith(SQLITE) and not Path(store.removeprefix(SQLITE)).exists():
        raise LungsoundError(f"{expected}, but there is no such file ({URI_VARIABLE})")
    store = connection_uri(store)
    with tempfile.TemporaryDirectory() as place:
        try:
            model = download_artifacts(uri, dst_path=place, tracking_uri=store, registry_uri=store)
        except Exception as error:  # MLflow, its database and its server raise many types
            raise LungsoundError(f"{expected}, but: {root_cause(error)}") from error
        yield Path(model) / "artifacts" / RUN
