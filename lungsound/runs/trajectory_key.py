"""The content key of a trajectory: everything that shapes its weights by intention."""

import ast
import functools
import hashlib
from pathlib import Path
from typing import Any

import pandas as pd

from lungsound.config.schema import AugmentConfig, Config, ModelConfig, to_container
from lungsound.data.database import Database
from lungsound.models.registry import find_network
from lungsound.runs.teacher import teacher_key
from lungsound.storage.files import file_sha256
from lungsound.training.schedule import Annealing

PACKAGE = Path(__file__).parents[1]
# The code that decides the weights, and the probabilities that are stored with them. data/tools has
# commands, which no run imports.
WEIGHT_SOURCES = (
    *("data/", "models/", "scoring/", "signal/", "training/"),
    *("runs/inputs.py", "runs/build.py", "runs/predict.py", "runs/teacher.py"),
)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def trajectory_key_fields(
    settings: Config, database: Database, cycles: pd.DataFrame, annealing: Annealing
) -> dict[str, Any]:
    """Return everything that determines the weights, except for the machine.

    Values that are not listed (M, select, names, tracking, workers) reuse the same trajectory. So
    does another machine, although it may change last bits: every epoch's record names its machine.
    """
    trainer = settings.trainer
    groups = ("segment", "padding", "task")
    features = to_container(settings.features)
    del features["test_rolls"]  # of the answers, which are stored for each number of rolls
    continue_from = annealing.continue_from
    teacher = settings.loss.teacher
    return {
        "data": database.fingerprint,
        "split": cycles[["recording", "cycle", "set"]].to_numpy(dtype=object).tolist(),
        **{group: to_container(getattr(settings, group)) for group in groups},
        "augment": _augment_fields(settings.augment),
        "features": features,
        "model": _model_fields(settings.model),
        "labels": list(database.spec.task(settings.task.classes).labels),
        "loss": {"gamma": settings.loss.gamma},
        **({} if teacher is None else {"teacher": teacher_key(teacher)}),
        "annealing": {
            "schedule": annealing.schedule,
            "period_epochs": annealing.epochs_per_period,
            "max_lr": annealing.max_lr,
            "continue_from": continue_from,
            "monitor": annealing.monitor if continue_from == "best" else None,
            "average": annealing.select == "average",
        },
        "seed": settings.seed,
        "batch_size": trainer.batch_size,
        "precision": trainer.precision,
        "matmul_precision": trainer.matmul_precision,
        # Only if they are not the defaults: the keys of earlier runs lack them.
        **({} if trainer.deterministic else {"deterministic": False}),
        **({"compile": True} if trainer.compile else {}),
        "source": source_hash(),
    }


def _augment_fields(augment: AugmentConfig) -> dict[str, Any]:
    """Return the settings of `augment`, without those that are off and earlier runs lack."""
    added = ("balance", "mixup", "band_mask", "frame_mask")
    fields = to_container(augment).items()
    return {name: value for name, value in fields if value or name not in added}


def _model_fields(model: ModelConfig) -> dict[str, Any]:
    """Return the network's settings, with a checkpoint's content in place of its path."""
    fields = {**to_container(model), "version": find_network(model.name).version}
    if model.checkpoint is not None:
        fields["checkpoint"] = file_sha256(Path(model.checkpoint))
    added = ("checkpoint", "pretrained", "version")  # the keys of earlier runs lack them
    return {name: value for name, value in fields.items() if value or name not in added}


@functools.cache  # the files may change while the process runs its older code
def source_hash() -> str:
    """Return a hash of the code that decides weights and probabilities: another trajectory."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(WEIGHT_SOURCES) and not name.startswith("data/tools/"):
            code = code_without_comments(path.read_text(encoding="utf-8"))
            digest.update(f"{name}\0{code}\0".encode())
    return digest.hexdigest()


def code_without_comments(source: str) -> str:
    """Return Python source as a syntax tree without comments, docstrings and line numbers."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree)
