"""Build a run's data, split, schedule and network: enough to name, plan and list it.

Lightning is not imported here: it takes seconds, and a finished run needs none of it.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from lungsound.config.schema import Config
from lungsound.data.database import Database, assign_split, open_database
from lungsound.data.labels import LabelSet
from lungsound.data.registry import find_database
from lungsound.data.splits.leakage import count_leakage
from lungsound.data.splits.leakage import leakage_sentence as leak_line
from lungsound.models.registry import find_network, network_settings
from lungsound.runs.origin import check_origin
from lungsound.runs.trajectory_key import trajectory_key_fields
from lungsound.signal.rng import make_rng
from lungsound.signal.segments import SegmentSpec
from lungsound.storage.keys import content_key
from lungsound.training.schedule import Annealing
from lungsound.training.trajectory import Trajectory

# Makes cuBLAS deterministic. The libraries read these variables only once, at the first product,
# which may be a step that `plan=true` times: therefore they are set at import.
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
# With one of these, NVIDIA's libraries, oneDNN, MKL and torch round otherwise than without.
for _name in (
    *("NVIDIA_TF32_OVERRIDE", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"),
    *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS"),
):
    os.environ.pop(_name, None)


@dataclass(frozen=True)
class RunInputs:
    """The data and schedule of a run: enough to name it and to find its stored files."""

    database: Database
    labels: LabelSet  # the classes of the task
    cycles: pd.DataFrame  # columns of Database.cycles, `set`, `target` (index in labels)
    notes: tuple[str, ...]  # on the database and the split, for the user
    leakage: dict[str, Any]  # `count_leakage` of the split
    annealing: Annealing
    trajectory: Trajectory

    @property
    def leakage_sentence(self) -> str:
        """The sentence that is printed with every score."""
        return leak_line(self.leakage)


def build_inputs(settings: Config, database: Database | None = None) -> RunInputs:
    """Open the database, unless `database` is given, and split it.

    Raises DataError if the database or the split cannot be used, ConfigError if the initial weights
    know cycles of test.
    """
    database = database or build_database(settings)
    labels = database.spec.task(settings.task.classes)
    split = {**vars(settings.split), "root": settings.data.root}
    cycles, notes = assign_split(database, labels, split.pop("protocol"), split)
    annealing = Annealing(**vars(settings.annealing))
    key = content_key(trajectory_key_fields(settings, database, cycles, annealing))
    trajectory = build_trajectory(settings, annealing, key)
    notes = (*database.notes, *notes)
    leakage = count_leakage(cycles, check_origin(settings.model, cycles))
    return RunInputs(database, labels, cycles, notes, leakage, annealing, trajectory)


def build_trajectory(settings: Config, annealing: Annealing, key: str) -> Trajectory:
    """Open the trajectory with this content key in the store."""
    return Trajectory(Path(settings.store_dir) / "trajectories" / key, annealing)


def build_network(settings: Config, pretrained: bool = False) -> nn.Module:
    """Build the untrained network, or the `pretrained` one that `validate_config` has found."""
    return find_network(settings.model.name).create(
        pretrained=pretrained,
        classes=settings.task.classes,
        bands=settings.features.n_mels,
        frames=segment_spec(settings).chunk_frames,
        seed=int(make_rng(settings.seed, "weights").integers(2**31)),
        **network_settings(vars(settings.model)),
    )


def build_database(settings: Config) -> Database:
    """Open the database; create a synthetic one first. Raises DataError if it cannot be used."""
    data, store_dir = settings.data, Path(settings.store_dir)
    spec = find_database(data.name, data.table, data.labels)
    if spec.create is not None:
        root = spec.create(store_dir, data.demo_seed, data.demo_patients, data.demo_cycles)
    else:
        assert data.root is not None  # `validate_config` has checked it
        root = Path(data.root)
    return open_database(spec, root, settings.features.sample_rate, store_dir, data.skip_bad)


def segment_spec(settings: Config) -> SegmentSpec:
    """Return how cycles are cut into segments and chunks."""
    segment, features = settings.segment, settings.features
    grid = features.sample_rate, features.n_fft, features.hop
    padding, rolls = settings.padding.mode, features.test_rolls
    return SegmentSpec.from_seconds(segment.seconds, segment.chunks, padding, *grid, rolls=rolls)


def vtlp_copies(settings: Config, database: Database) -> dict[str, int]:
    """Return the number of VTLP copies per cycle of each label; 0 if the settings name none."""
    labels = database.spec.label_sets["label"].labels
    return {**dict.fromkeys(labels, 0), **settings.augment.vtlp_copies}
