"""What a run is called, and what is told of it."""

from pathlib import Path
from typing import Any

from lungsound.config.schema import Config, SplitConfig
from lungsound.data.labels import label_set
from lungsound.results.folder import RunFolder
from lungsound.runs.build import RunComponents, RunInputs
from lungsound.storage.files import corrupt_file_on_error, is_intact
from lungsound.storage.keys import content_key


def data_title(parts: RunInputs) -> str:
    """Names the data, and says SYNTHETIC where they are."""
    if parts.database.synthetic:
        return "SYNTHETIC demo database (no patient was recorded)"
    return f"{parts.database.name}: {parts.cycles['recording'].nunique()} recordings, {len(parts.cycles)} cycles"


def run_metadata(
    settings: Config,
    group_choices: dict[str, str],
    parts: RunComponents,
    folder: RunFolder,
    epochs_done: int,
) -> dict[str, Any]:
    """What a reader wants to know of a run at a glance; MLflow's params. `epochs_done` epochs of
    the trajectory are there.
    """
    previously_trained, last_trained_epoch = (
        0,
        0,
    )  # of the epochs that earlier starts of this run trained; what was lost does not count
    if is_intact(path := folder.path / "facts.json"):
        stored = folder.read_json(path.name)
        with corrupt_file_on_error(path):
            last_trained_epoch = min(stored["last_epoch_trained"], epochs_done)
            previously_trained = max(
                0, stored["epochs_trained"] - (stored["last_epoch_trained"] - last_trained_epoch)
            )
    return {
        **{
            group: option
            for group, option in group_choices.items()
            if not group.startswith("hydra/")
        },
        "data": settings.data.name,  # what is used: a key may have changed what the option says
        "split": settings.split.protocol,
        "annealing.cycles": parts.annealing.num_periods,
        "model.parameters": sum(
            parameter.numel() for parameter in parts.module.network.parameters()
        ),
        "data.recordings": parts.database.recordings,
        "data.cycles": len(parts.cycles),
        "split.seed": settings.split.seed,
        **({} if settings.split.file is None else {"split.file": settings.split.file}),
        "seed": settings.seed,
        "synthetic": parts.database.synthetic,
        "label_order": " ".join(label_set(settings.task.classes).labels),
        "epochs_trained": previously_trained,
        "last_epoch_trained": last_trained_epoch,
        "trajectory": parts.trajectory.folder.name,
    }


def run_name(settings: Config, choices: dict[str, str], parts: RunInputs) -> str:
    """Readable, and with a key of all that decides the run's scores."""
    annealing = settings.annealing
    key = content_key(
        [
            parts.trajectory.folder.name,
            parts.annealing.num_periods,
            annealing.select,
            annealing.monitor,
        ]
    )
    words = (
        choices["experiment"],
        "SYNTHETIC" if parts.database.synthetic else parts.database.name,
        choices["padding"],
        choices["segment"],
        f"M{parts.annealing.num_periods}",
        split_label(settings.split),
    )
    return "-".join((*words, key[:8]))


def split_label(split: SplitConfig) -> str:
    """The protocol and what chose among its splits: random0, patient0.3, official0, a file's own
    name.
    """
    if split.protocol == "file":
        return Path(str(split.file)).stem
    return f"{split.protocol}{split.seed}" + ("" if split.fold is None else f".{split.fold}")
