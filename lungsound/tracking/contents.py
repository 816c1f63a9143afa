"""What MLflow has of a run or a study besides files and metrics: params, texts, data sets."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.tracking.context.default_context import DefaultRunContext
from mlflow.tracking.context.git_context import GitRunContext
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_GIT_COMMIT,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)
from mlflow.utils.validation import MAX_TAG_VAL_LENGTH

from lungsound.results.folder import CONFIG, RunFolder
from lungsound.results.report import class_scores, scores_markdown
from lungsound.storage.keys import content_key
from lungsound.storage.places import remove_secrets
from lungsound.tracking.metrics import FORBIDDEN

# Not the remote's address, which may have a token.
ORIGIN_TAGS = (MLFLOW_USER, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_GIT_COMMIT)
# MLflow refuses to change a param: these are sent once the run is finished.
FINAL_PARAMS = ("epochs_trained", "last_epoch_trained", "device", "threads", "versions")
SET_CONTEXTS = {"train": "train", "val": "validation", "test": "test"}


def origin_tags() -> dict[str, str]:
    """Return user, command and git commit of this process, as MLflow's own tags."""
    found = {**DefaultRunContext().tags(), **GitRunContext().tags()}  # type: ignore[no-untyped-call,unused-ignore]
    return {name: str(found[name]) for name in ORIGIN_TAGS if found.get(name)}


def run_params(run: RunFolder, finished: bool) -> dict[str, str]:
    """Return a run's metadata, and every value of its configuration: `annealing.max_lr`."""
    values = {}
    if (run.path / CONFIG).exists():
        config = run.read_config()
        config.pop("tracking", None)  # where to send it, and no setting of the run
        values = dict(_flatten(config))
    if run.metadata_path.exists():
        values |= run.metadata()
    return {
        FORBIDDEN.sub("_", name): remove_secrets(str(value))
        for name, value in values.items()
        if finished or name not in FINAL_PARAMS
    }


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def run_description(results: Mapping[str, Any]) -> str:
    """Return what leaks, then data and scores, from scores.json."""
    # Runs of earlier releases have no intervals.
    scores = scores_markdown(results["scores"], results.get("intervals"))
    parts = [f"**{results['leak']}**", results["data"], scores, class_scores(results["scores"])]
    return "\n\n".join(parts)[:MAX_TAG_VAL_LENGTH]


def run_datasets(run: RunFolder) -> list[DatasetInput]:
    """Return training, validation and test set, each with counts and a digest of its cycles."""
    metadata, inputs = run.metadata(), []
    rows = list(csv.DictReader(io.StringIO(run.read_text("split.csv"))))
    for name, context in SET_CONTEXTS.items():
        cycles = [row for row in rows if row["set"] == name]
        profile: dict[str, Any] = {"num_rows": len(cycles)}
        for column in ("recording", "patient"):
            profile[f"{column}s"] = len({row.get(column) for row in cycles})
        profile |= Counter(row.get("label", "") for row in cycles)
        source = {"uri": str(metadata["data"]), "split": str(metadata["split"])}
        dataset = Dataset(
            name=str(metadata["data"]),
            digest=content_key(cycles)[:8],
            source_type="local",
            source=json.dumps(source),
            profile=json.dumps(profile),
        )
        inputs.append(DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)]))
    return inputs


def study_description(report: str, links: Mapping[str, str]) -> str:
    """Return the main table, below what leaks, from a study's report.md.

    `links`: the address of each run that is listed under another study, by its name.
    """
    section = report.removeprefix("## ").partition("\n## ")[0]
    heading, _, table = section.partition("![")[0].partition("\n")
    parts = [f"**{heading}**", table.strip()]
    if links:
        listed = ", ".join(f"[{name}]({address})" for name, address in links.items())
        parts.append(f"Runs that are listed under another study: {listed}")
    return "\n\n".join(parts)[:MAX_TAG_VAL_LENGTH]
