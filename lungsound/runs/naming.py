"""What a run is called, and what is told of it."""

from pathlib import Path
from typing import Any

from lungsound.config.schema import Config, Split
from lungsound.data.labels import labels_of
from lungsound.results.folder import RunFolder
from lungsound.runs.build import Outline, Parts
from lungsound.storage.files import is_whole, understood
from lungsound.storage.keys import key_of


def heading(parts: Outline) -> str:
    """Names the data, and says SYNTHETIC where they are."""
    if parts.database.synthetic:
        return "SYNTHETIC demo database (no patient was recorded)"
    return f"{parts.database.name}: {parts.cycles['recording'].nunique()} recordings, {len(parts.cycles)} cycles"


def facts(settings: Config, choices: dict[str, str], parts: Parts, folder: RunFolder, done: int) -> dict[str, Any]:
    """What a reader wants to know of a run at a glance; MLflow's params. `done` epochs of the trajectory are there."""
    earlier, last = 0, 0  # of the epochs that earlier starts of this run trained; what was lost does not count
    if is_whole(path := folder.path / "facts.json"):
        stored = folder.read_json(path.name)
        with understood(path):
            last = min(stored["last_epoch_trained"], done)
            earlier = max(0, stored["epochs_trained"] - (stored["last_epoch_trained"] - last))
    return {
        **{group: option for group, option in choices.items() if not group.startswith("hydra/")},
        "data": settings.data.name,  # what is used: a key may have changed what the option says
        "split": settings.split.protocol,
        "annealing.cycles": parts.annealing.periods,
        "model.parameters": sum(parameter.numel() for parameter in parts.module.network.parameters()),
        "data.recordings": parts.database.recordings,
        "data.cycles": len(parts.cycles),
        "split.seed": settings.split.seed,
        **({} if settings.split.file is None else {"split.file": settings.split.file}),
        "seed": settings.seed,
        "synthetic": parts.database.synthetic,
        "label_order": " ".join(labels_of(settings.task.classes)),
        "epochs_trained": earlier,
        "last_epoch_trained": last,
        "trajectory": parts.trajectory.folder.name,
    }


def run_name(settings: Config, choices: dict[str, str], parts: Outline) -> str:
    """Readable, and with a key of all that decides the run's scores."""
    annealing = settings.annealing
    key = key_of([parts.trajectory.folder.name, parts.annealing.periods, annealing.select, annealing.monitor])
    words = (
        choices["experiment"],
        "SYNTHETIC" if parts.database.synthetic else parts.database.name,
        choices["padding"],
        choices["segment"],
        f"M{parts.annealing.periods}",
        split_word(settings.split),
    )
    return "-".join((*words, key[:8]))


def split_word(split: Split) -> str:
    """The protocol and what chose among its splits: random0, patient0.3, official0, a file's own name."""
    if split.protocol == "file":
        return Path(str(split.file)).stem
    return f"{split.protocol}{split.seed}" + ("" if split.fold is None else f".{split.fold}")
