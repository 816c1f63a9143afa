"""Score a finished run's members on another database, or on one part of it."""

import io
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from lungsound.config.schema import Config
from lungsound.data.database import Database, encode_targets, open_database
from lungsound.data.registry import DatabaseSpec, find_database
from lungsound.data.splits.leakage import count_leakage
from lungsound.errors import ConfigError, DataError
from lungsound.results.folder import CONFIG, MEMBERS, RunFolder
from lungsound.results.predictions import AGE, OPTIONAL_COLUMNS
from lungsound.runs.build import RunComponents, build_datamodule, build_module
from lungsound.runs.inputs import build_trajectory
from lungsound.runs.origin import initial_weights
from lungsound.runs.predict import predict_members
from lungsound.runs.scores import format_scores, write_scores
from lungsound.runs.validation import validate_config
from lungsound.storage.files import corrupt_file_on_error
from lungsound.training.schedule import Annealing

SCORES = "scores.json"
TEST_PARTS = ("test", "inter", "intra")  # of a table, and of SPRSound


def score_on_database(
    run: Path,
    spec: DatabaseSpec,
    root: Path,
    part: str | None,
    store_dir: Path | None = None,
    skip_bad: bool = False,
) -> Path:
    """Score the members of `run` on a database at `root`; return the results' folder.

    Segments and features are those of the run. The single member is the one that is best on the
    run's own validation cycles, whose predictions are therefore copied. `skip_bad` leaves out
    recordings that cannot be used, and lists them. Raises LungsoundError if the run is not
    finished, its members are no longer stored, or the database lacks the part or the classes.
    """
    source = RunFolder(run.resolve())
    settings = load_run_config(source, store_dir)
    if not source.member_paths():  # before a whole database is decoded
        raise DataError(
            f"{source.path / MEMBERS}: expected the members' weights, but they are not there: "
            "the run was made by release 0.1. Its command makes one that has them"
        )
    parts = _build_components(settings, source, spec, root, part, skip_bad)
    print("".join(f"{note}\n" for note in parts.notes), end="", flush=True)
    table = predict_members(settings, parts, source.member_paths(), ("test",))
    words = ["scored", spec.name, *([part] if part else [])]
    with source.lock():
        target = _choose_target(run, "-".join(words), parts)
        target.write_predictions(_append_validation(table, source.read_predictions()))
        write_scores(parts, target)
    print(format_scores(target), f"predictions: {target.path}", sep="\n")
    return target.path


def _choose_target(run: Path, name: str, parts: RunComponents) -> RunFolder:
    """Return the folder `name`, or one beside it if that has the scores of another database."""
    target, fingerprint = RunFolder(run / name), parts.database.fingerprint
    if not (target.path / SCORES).exists():
        return target
    if target.read_json(SCORES).get("fingerprint") == fingerprint:
        return target
    print(f"{target.path} has the scores of other recordings, and is kept.")
    return RunFolder(run / f"{name}-{fingerprint[:8]}")


def load_run_config(run: RunFolder, store_dir: Path | None) -> Config:
    """Load the configuration of a finished run. Raises ConfigError if `run` is not finished."""
    if not run.has_predictions:
        raise ConfigError(
            f"{run.path}: expected the folder of a finished run, below outputs, but it is not one"
        )
    path, values = run.path / CONFIG, run.read_config()
    with corrupt_file_on_error(path):
        cfg = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(values))
        assert isinstance(cfg, DictConfig)
        cfg.store_dir = str(store_dir or cfg.store_dir)
        cfg.model.checkpoint = None  # the members' own weights are loaded
        if cfg.trainer.accelerator == "gpu":  # this machine may have none
            cfg.trainer.accelerator = "auto"
        if "constant_epochs" not in values["annealing"]:  # release 0.1
            cfg.annealing.constant_epochs = cfg.annealing.cycles * cfg.annealing.epochs_per_cycle
        try:
            return validate_config(cfg)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


def _build_components(
    settings: Config,
    run: RunFolder,
    spec: DatabaseSpec,
    root: Path,
    part: str | None,
    skip_bad: bool,
) -> RunComponents:
    data = settings.data
    labels = find_database(data.name, data.table, data.labels).task(settings.task.classes)
    store_dir, rate = Path(settings.store_dir), settings.features.sample_rate
    database = open_database(spec, root, rate, store_dir, skip_bad)
    cycles = _select_part(database, part)
    cycles["target"] = encode_targets(database.spec, cycles, labels)
    annealing = Annealing(**vars(settings.annealing))
    seen = _seen_cycles(settings, run, spec.name)
    weights = initial_weights(run.read_config()["model"])
    return RunComponents(
        database=database,
        labels=labels,
        cycles=cycles,
        notes=database.notes,
        leakage=count_leakage(pd.concat([seen, cycles], ignore_index=True), weights),
        annealing=annealing,
        trajectory=build_trajectory(settings, annealing, run.trajectory_key()),
        datamodule=build_datamodule(settings, database, cycles),
        module=build_module(settings, annealing, labels, cycles),
    )


def _seen_cycles(settings: Config, run: RunFolder, name: str) -> pd.DataFrame:
    """Return the cycles of training and validation, marked if they are of another database."""
    text = run.read_text("split.csv")
    with corrupt_file_on_error(run.path / "split.csv"):
        split = pd.read_csv(io.StringIO(text), dtype="str", keep_default_na=False)
        split = split[split["set"].isin(["train", "val"])]
        if settings.data.name != name:
            split["recording"] = f"{settings.data.name}/" + split["recording"]
            is_known = split["patient"] != ""
            split.loc[is_known, "patient"] = f"{settings.data.name}/" + split["patient"]
        return split[["patient", "recording", "content", "set"]]


def _select_part(database: Database, part: str | None) -> pd.DataFrame:
    """Return the cycles of the part, or of all, as a test set."""
    available = database.cycles["part"]
    requested = TEST_PARTS if part == "test" else (part,)
    cycles = database.cycles if part is None else database.cycles[available.isin(requested)]
    if cycles.empty:
        parts = ", ".join(sorted(set(available) - {""})) or "none"
        raise DataError(
            f"--part {part}: expected a part of {database.name} that is there, "
            f"but there are: {parts}"
        )
    return cycles.reset_index(drop=True).assign(set="test")


def _append_validation(table: pd.DataFrame, run_predictions: pd.DataFrame) -> pd.DataFrame:
    validation = run_predictions[run_predictions["set"] == "val"]
    combined = pd.concat([validation, table], ignore_index=True)
    combined.attrs = table.attrs
    missing = {name: "" for name in OPTIONAL_COLUMNS if name in combined and name != AGE}
    return combined.fillna(missing)
