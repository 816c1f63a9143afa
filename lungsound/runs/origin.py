"""Where initial weights come from: an earlier run must not have been trained on this one's test."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lungsound.config.schema import ModelConfig
from lungsound.errors import ConfigError
from lungsound.results.folder import CONFIG, MEMBERS, RunFolder
from lungsound.storage.files import corrupt_file_on_error

SPLIT = "split.csv"


def check_origin(model: ModelConfig, cycles: pd.DataFrame) -> str:
    """Return the initial weights of which nobody knows what they were trained on, or "".

    Raises ConfigError if they are a member of a run that was trained on a test cycle of `cycles`.
    """
    if model.checkpoint is None:
        return initial_weights(vars(model))
    path = Path(model.checkpoint).resolve()
    run = RunFolder(path.parent.parent)
    is_member = path.parent.name == MEMBERS
    if not (is_member and (run.path / CONFIG).is_file() and (run.path / SPLIT).is_file()):
        return initial_weights(vars(model))
    test = cycles[cycles["set"] == "test"]
    names = set(zip(test["recording"], test["cycle"].astype("str"), strict=True))
    if shared := names & _seen_cycles(run):
        raise ConfigError(
            f"model.checkpoint={model.checkpoint}: expected weights that know no cycle of test, "
            f"but that run was trained on {len(shared)} of the {len(names)}. Name one on the same "
            "split, or train this one with that run's split: split=file "
            f"split.file={run.path / SPLIT}"
        )
    return initial_weights(run.read_config()["model"])


def initial_weights(model: Mapping[str, Any]) -> str:
    """Return a name of the weights that a network was initialized with, "" if they were random."""
    if model.get("checkpoint"):
        return str(model["checkpoint"])
    return f"timm's {model['name']}" if model.get("pretrained") else ""


def _seen_cycles(run: RunFolder) -> set[tuple[str, str]]:
    """Return the recording and cycle of all that a run was trained and chosen on."""
    text = run.read_text(SPLIT)
    with corrupt_file_on_error(run.path / SPLIT):
        split = pd.read_csv(io.StringIO(text), dtype="str", keep_default_na=False)
        split = split[split["set"].isin(["train", "val"])]
        return set(zip(split["recording"], split["cycle"], strict=True))
