"""Score a finished run's members on another database, or on one part of it."""

import io
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from omegaconf import DictConfig, OmegaConf

from lungsound.config.schema import Config
from lungsound.data.database import Database, encode_targets, open_database
from lungsound.data.labels import LabelSet
from lungsound.data.registry import DATABASES
from lungsound.data.splits.leakage import count_leakage
from lungsound.errors import ConfigError, DataError
from lungsound.results.folder import MEMBERS, RunFolder
from lungsound.results.predictions import SPRSOUND_COLUMNS
from lungsound.runs.build import RunComponents, build_datamodule, build_module
from lungsound.runs.predict import predict_members
from lungsound.runs.report import format_scores, write_scores
from lungsound.runs.validation import validate_config
from lungsound.storage.files import corrupt_file_on_error
from lungsound.training.schedule import Annealing
from lungsound.training.trajectory import Trajectory

TEST_PARTS = ("inter", "intra")


def score_on_database(
    run: Path,
    name: str,
    root: Path,
    part: str | None,
    store_dir: Path | None = None,
    skip_bad: bool = False,
) -> Path:
    """Score the members of `run` on the database `name` at `root`; return the results' folder.

    Segments and features are those of the run. The single member is the one that is best on the
    run's own validation cycles, whose predictions are therefore copied. `skip_bad` leaves out
    recordings that cannot be used, and lists them. Raises LungsoundError if the run is not
    finished, its members are no longer stored, or the database lacks the part or the classes.
    """
    source_run = RunFolder(run.resolve())
    settings = load_run_config(source_run, store_dir)
    if not source_run.member_paths():  # before a whole database is decoded
        raise DataError(
            f"{source_run.path / MEMBERS}: expected the members' weights, but they are not there: "
            "the run was made by release 0.1. Its command makes one that has them"
        )
    labels = DATABASES[settings.data.name].task(settings.task.classes)
    database = open_database(
        name, root, settings.features.sample_rate, Path(settings.store_dir), skip_bad
    )
    cycles = _select_part(database, part)
    target = encode_targets(database.spec, cycles, labels)
    cycles = cycles.assign(set="test", target=target)
    parts = _build_components(settings, source_run, database, labels, cycles)
    if parts.notes:
        print(*parts.notes, sep="\n", flush=True)
    table = predict_members(settings, parts, source_run.member_paths(), ("test",))
    target_folder = RunFolder(run / "-".join(["scored", name, *([part] if part else [])]))
    with source_run.lock():
        target_folder.write_predictions(_append_validation(table, source_run.read_predictions()))
        write_scores(parts, target_folder)
    print(format_scores(target_folder), f"predictions: {target_folder.path}", sep="\n")
    return target_folder.path


def load_run_config(run: RunFolder, store_dir: Path | None) -> Config:
    """Load the configuration of a finished run. Raises ConfigError if `run` is not finished."""
    if not run.has_predictions:
        raise ConfigError(
            f"{run.path}: expected the folder of a finished run, below outputs, but it is not one"
        )
    path = run.path / "config.yaml"
    text = run.read_text(path.name)
    with corrupt_file_on_error(path):
        # Reject YAML aliases, tags and interpolations: they could read the environment or exhaust
        # memory.
        if any(isinstance(token, yaml.AliasToken | yaml.TagToken) for token in yaml.scan(text)):
            raise ValueError("expected plain values, but got an alias or a tag")
        values = yaml.safe_load(text)
        if "${" in str(values):
            raise ValueError("expected plain values, but got an interpolation")
        cfg = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(values))
        assert isinstance(cfg, DictConfig)
        cfg.store_dir = str(store_dir or cfg.store_dir)
        if cfg.trainer.accelerator == "gpu":  # this machine may have none
            cfg.trainer.accelerator = "auto"
        if "constant_epochs" not in values["annealing"]:  # release 0.1
            cfg.annealing.constant_epochs = cfg.annealing.cycles * cfg.annealing.epochs_per_cycle
        try:
            return validate_config(cfg)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


def _build_components(
    settings: Config, run: RunFolder, database: Database, labels: LabelSet, cycles: pd.DataFrame
) -> RunComponents:
    annealing = Annealing(**vars(settings.annealing))
    key = run.trajectory_key()
    trajectory = Trajectory(Path(settings.store_dir) / "trajectories" / key, annealing)
    leaks = count_leakage(
        pd.concat([_seen_cycles(settings, run, database.name), cycles], ignore_index=True)
    )
    datamodule = build_datamodule(settings, database, cycles)
    module = build_module(settings, annealing, labels, cycles)
    notes = database.notes
    return RunComponents(
        database, labels, cycles, notes, leaks, annealing, trajectory, datamodule, module
    )


def _seen_cycles(settings: Config, run: RunFolder, name: str) -> pd.DataFrame:
    """Return the cycles of training and validation, marked if they are of another database."""
    text = run.read_text("split.csv")
    with corrupt_file_on_error(run.path / "split.csv"):
        split = pd.read_csv(io.StringIO(text), dtype="str", keep_default_na=False)
        split = split[split["set"].isin(["train", "val"])]
        if settings.data.name != name:
            split[["patient", "recording"]] = (
                settings.data.name + "/" + split[["patient", "recording"]]
            )
        return split[["patient", "recording", "content", "set"]]


def _select_part(database: Database, part: str | None) -> pd.DataFrame:
    available = database.cycles["part"]
    requested = TEST_PARTS if part == "test" else (part,)
    cycles = database.cycles if part is None else database.cycles[available.isin(requested)]
    if cycles.empty:
        parts = ", ".join(sorted(set(available) - {""})) or "none"
        raise DataError(
            f"--part {part}: expected a part of {database.name} that is there, "
            f"but there are: {parts}"
        )
    return cycles.reset_index(drop=True)


def _append_validation(table: pd.DataFrame, run_predictions: pd.DataFrame) -> pd.DataFrame:
    validation = run_predictions[run_predictions["set"] == "val"]
    attributes: dict[Any, Any] = table.attrs
    combined = pd.concat([validation, table], ignore_index=True)
    combined.attrs = attributes
    optional_columns = [name for name in SPRSOUND_COLUMNS if name in combined]
    return combined.fillna(dict.fromkeys(optional_columns, ""))
