"""The name of a run, the title of its data, and its metadata."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lungsound.config.schema import Config, SplitConfig
from lungsound.results.folder import RunFolder
from lungsound.runs.inputs import RunInputs
from lungsound.runs.machine import device, versions
from lungsound.storage.files import corrupt_file_on_error
from lungsound.storage.keys import content_key

if TYPE_CHECKING:  # it imports Lightning
    from lungsound.runs.build import RunComponents

SHORT_NAME_KEYS = ("annealing.cycles", "segment", "padding", "split.seed", "split.fold")


def data_title(inputs: RunInputs) -> str:
    """Return the title of the data, with SYNTHETIC for the demo database."""
    if inputs.database.synthetic:
        return "SYNTHETIC demo database (no patient was recorded)"
    recordings = inputs.cycles["recording"].nunique()
    return f"{inputs.database.name}: {recordings} recordings, {len(inputs.cycles)} cycles"


def run_metadata(
    settings: Config,
    choices: dict[str, str],
    parts: "RunComponents",
    epochs_trained: int,
    last_epoch: int,
) -> dict[str, Any]:
    """Return the content of metadata.json, logged as MLflow params.

    `epochs_trained`: by all starts of the run; `last_epoch`: the last of them.
    """
    options = {group: name for group, name in choices.items() if not group.startswith("hydra/")}
    split, teacher = settings.split, settings.loss.teacher
    return {
        **options,
        "data": settings.data.name,  # data.name=... may differ from the option data=...
        "split": split.protocol,
        "annealing.cycles": parts.annealing.num_periods,
        "model.parameters": sum(weight.numel() for weight in parts.module.network.parameters()),
        "data.recordings": parts.database.recordings,
        "data.cycles": len(parts.cycles),
        "split.seed": split.seed,
        **({} if split.file is None else {"split.file": split.file}),
        **({} if teacher is None else {"loss.teacher": Path(teacher).name}),
        "seed": settings.seed,
        "synthetic": parts.database.synthetic,
        "label_order": " ".join(parts.labels.labels),
        "epochs_trained": epochs_trained,
        "last_epoch_trained": last_epoch,
        "trajectory": parts.trajectory.folder.name,
        "device": device(settings),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def count_trained_epochs(folder: RunFolder, epochs_done: int) -> tuple[int, int]:
    """Return how many epochs earlier starts of the run trained, and the last of them.

    Epochs after `epochs_done` do not count: their resume points were lost.
    """
    if not folder.metadata_path.exists():
        return 0, 0
    stored = folder.metadata()
    with corrupt_file_on_error(folder.metadata_path):
        last = min(stored["last_epoch_trained"], epochs_done)
        lost = stored["last_epoch_trained"] - last
        return max(0, stored["epochs_trained"] - lost), last


def run_name(settings: Config, choices: dict[str, str], inputs: RunInputs) -> str:
    """Return a readable name that ends in a key of everything that determines the scores."""
    periods, annealing = inputs.annealing.num_periods, settings.annealing
    identity = [inputs.trajectory.folder.name, periods, annealing.select, annealing.monitor]
    if settings.features.test_rolls > 1:
        identity.append(settings.features.test_rolls)
    # They decide no weight, but intervals and what leaks.
    patients = inputs.cycles[["recording", "patient"]].drop_duplicates()
    identity.append(patients.to_numpy(dtype=object).tolist())
    words = (
        choices["experiment"],
        database_label(inputs),
        choices["padding"],
        choices["segment"],
        f"M{periods}",
        split_label(settings.split),
        content_key(identity)[:8],
    )
    return "-".join(words)


def short_name(
    settings: Config, choices: dict[str, str], inputs: RunInputs, swept: dict[str, Any]
) -> str:
    """Return the name in MLflow's list, which shows 20 characters: `M5 2x4.5s sample s0 icbhi`.

    It starts with those values of a study's `swept` keys that the rest does not have.
    """
    words = []
    for key, value in swept.items():
        if key not in SHORT_NAME_KEYS:
            words.append(f"{key.rpartition('.')[2]}={value}")
    words += [f"M{inputs.annealing.num_periods}", choices["segment"], choices["padding"]]
    words.append(f"s{split_label(settings.split).removeprefix(settings.split.protocol)}")
    return " ".join([*words, database_label(inputs)])


def database_label(inputs: RunInputs) -> str:
    """Return the database's name, SYNTHETIC for the demo's."""
    return "SYNTHETIC" if inputs.database.synthetic else inputs.database.name


def split_label(split: SplitConfig) -> str:
    """Return protocol and seed, fold or file: random0, patient0.3, official0, my_split."""
    if split.protocol == "file":
        return Path(str(split.file)).stem
    return f"{split.protocol}{split.seed}" + ("" if split.fold is None else f".{split.fold}")
