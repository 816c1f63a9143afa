"""A finished run's members on another database, or on one part of one: the same scores, the same leak report."""

import io
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from omegaconf import DictConfig, OmegaConf

from lungsound.config.schema import Config
from lungsound.data.database import Database, open_database
from lungsound.data.labels import labels_of
from lungsound.data.splits.leakage import leak_report
from lungsound.errors import ConfigError, DataError
from lungsound.results.folder import RunFolder
from lungsound.results.predictions import SPRSOUND_COLUMNS
from lungsound.runs.build import Parts, build_datamodule, build_module, class_column, class_numbers
from lungsound.runs.predict import kept_epochs, predictions
from lungsound.runs.run import scores_text, write_scores
from lungsound.runs.validation import checked
from lungsound.storage.files import understood
from lungsound.training.schedule import Annealing
from lungsound.training.trajectory import Trajectory

TEST_PARTS = ("inter", "intra")


def rescore(
    run: Path, name: str, root: Path, part: str | None, store_dir: Path | None = None, skip_bad: bool = False
) -> Path:
    """Score the members of `run` on the database `name` at `root`; the folder with its predictions and scores.

    `skip_bad` leaves out recordings that cannot be used, and says so.
    Everything is done in the run's own signal settings. The single member stays the one that is best on the run's own
    validation cycles, whose predictions are in the written file, too. Raises LungsoundError where the run is not
    finished, its members are not stored any more, or the database lacks what is asked for.
    """
    trained = RunFolder(run.resolve())
    settings = stored_settings(trained, store_dir)
    classes = labels_of(settings.task.classes)
    database = open_database(name, root, settings.features.sample_rate, Path(settings.store_dir), skip_bad)
    cycles = _part(database, part)
    if class_column(classes) == "event_type" and (cycles["event_type"] == "").any():
        raise DataError(f"{run}: its classes are SPRSound's event types, which {name} does not have")
    cycles = cycles.assign(set="test", target=class_numbers(cycles, classes))
    parts = _parts(settings, trained, database, cycles)
    print(*parts.notes, sep="\n", flush=True)
    table = predictions(settings, parts, kept_epochs(parts.annealing, trained), ("test",))
    scored = RunFolder(run / "-".join(["scored", name, *([part] if part else [])]))
    with trained.held():
        scored.write_predictions(_with_validation(table, trained.read_predictions()))
        write_scores(parts, scored)
    print(scores_text(scored), f"predictions: {scored.path}", sep="\n")
    return scored.path


def stored_settings(run: RunFolder, store_dir: Path | None) -> Config:
    """The configuration a finished run was made with. Raises ConfigError where there is none."""
    if not run.trained:
        raise ConfigError(f"{run.path}: expected the folder of a finished run, below outputs, but it is not one")
    path = run.path / "config.yaml"
    text = run.read_text(path.name)
    with understood(path):
        # Nothing that is written with a run needs these; a stranger's could read this machine's environment, or grow.
        if any(isinstance(token, yaml.AliasToken | yaml.TagToken) for token in yaml.scan(text)):
            raise ValueError("expected plain values, but got an alias or a tag")
        values = yaml.safe_load(text)
        if "${" in str(values):
            raise ValueError("expected plain values, but got an interpolation")
        cfg = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(values))
        assert isinstance(cfg, DictConfig)
        cfg.store_dir = str(store_dir or cfg.store_dir)
        if cfg.trainer.accelerator == "gpu":  # where it was trained
            cfg.trainer.accelerator = "auto"
        try:
            return checked(cfg)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


def _parts(settings: Config, run: RunFolder, database: Database, cycles: pd.DataFrame) -> Parts:
    annealing = Annealing(**vars(settings.annealing))
    trajectory = Trajectory(Path(settings.store_dir) / "trajectories" / run.trajectory(), annealing)
    for epoch in kept_epochs(annealing, run):
        if not trajectory.snapshot_path(epoch).exists():
            raise DataError(
                f"{trajectory.snapshot_path(epoch)}: expected the run's member in the store, but it is not there. Name "
                "the store it was trained in with --store, or train the run again (redo=true)"
            )
    leaks = leak_report(pd.concat([_learned(settings, run, database.name), cycles], ignore_index=True))
    datamodule, module = build_datamodule(settings, database, cycles), build_module(settings, cycles)
    return Parts(database, cycles, database.notes, leaks, annealing, trajectory, datamodule, module)


def _learned(settings: Config, run: RunFolder, name: str) -> pd.DataFrame:
    """What the run was trained and chosen on; names from another database are never those of this one."""
    text = run.read_text("split.csv")
    with understood(run.path / "split.csv"):
        split = pd.read_csv(io.StringIO(text), dtype="str", keep_default_na=False)
        split = split[split["set"].isin(["train", "val"])]
        if settings.data.name != name:
            split[["patient", "recording"]] = settings.data.name + "/" + split[["patient", "recording"]]
        return split[["patient", "recording", "content", "set"]]


def _part(database: Database, part: str | None) -> pd.DataFrame:
    there = database.cycles["part"]
    wanted = TEST_PARTS if part == "test" else (part,)
    cycles = database.cycles if part is None else database.cycles[there.isin(wanted)]
    if cycles.empty:
        parts = ", ".join(sorted(set(there) - {""})) or "none"
        raise DataError(f"--part {part}: expected a part of {database.name} that is there, but there are: {parts}")
    return cycles.reset_index(drop=True)


def _with_validation(table: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    validation = own[own["set"] == "val"]
    attributes: dict[Any, Any] = table.attrs
    both = pd.concat([validation, table], ignore_index=True)
    both.attrs = attributes
    absent = [name for name in SPRSOUND_COLUMNS if name in both]
    return both.fillna(dict.fromkeys(absent, ""))
