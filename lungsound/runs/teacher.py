"""Distillation: one network learns the mean probabilities of a finished run's ensemble.

Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015.
"""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lungsound.config.corrections import GROUPS as CONFIG_GROUPS
from lungsound.config.corrections import check_words
from lungsound.config.overrides import compose_config
from lungsound.config.schema import Config
from lungsound.data.splits.table import COLUMNS, split_table
from lungsound.errors import ConfigError
from lungsound.results.folder import CONFIG, RunFolder
from lungsound.storage.files import corrupt_file_on_error, file_sha256
from lungsound.training.schedule import Annealing

if TYPE_CHECKING:  # they import torch and Lightning
    from torch import Tensor

    from lungsound.runs.build import RunComponents

GROUPS = ("segment", "padding", "features", "model", "task")


def distill_run(run: Path, changes: Sequence[str]) -> None:
    """Train the student of a finished run: its settings, one period as long as all of its periods.

    `changes` are further settings, as of `train`. Raises ConfigError if `run` is not finished, or
    one of them is unknown.
    """
    from lungsound.runs.rescore import load_run_config
    from lungsound.runs.run import run as train_run

    changes = check_words(changes)
    source = RunFolder(run.resolve())
    settings = load_run_config(source, None)
    settings.annealing.total_epochs = Annealing(**vars(settings.annealing)).epochs
    settings.annealing.cycles = 1
    settings.loss.teacher = str(source.path)
    settings.output_dir = str(source.path.parent)
    settings.tracking.study, settings.redo = None, False
    cfg, options = _change(settings, changes)
    if cfg.loss.teacher != settings.loss.teacher:
        raise ConfigError(f"loss.teacher: expected none beside RUN, but got {cfg.loss.teacher}")
    train_run(cfg, {**source.metadata(), **options, "experiment": "distill"})


def _change(settings: Config, changes: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """Return the settings with `changes`, and the options of config groups among these."""
    pairs = [word.partition("=")[::2] for word in changes]
    options = {key: option for key, option in pairs if key in CONFIG_GROUPS}
    keys = OmegaConf.from_dotlist([f"{key}={value}" for key, value in pairs if key not in options])
    composed = compose_config([f"{group}={option}" for group, option in options.items()])
    try:
        groups = {group: composed[group] for group in options}
        cfg = OmegaConf.merge(OmegaConf.structured(settings), groups, keys)
    except OmegaConfBaseException as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"{' '.join(changes)}: expected GROUP=OPTION and KEY=VALUE, such as model=timm "
            f"and model.name=resnet18, but got: {reason}"
        ) from error
    assert isinstance(cfg, DictConfig)
    return cfg, options


def teacher_key(teacher: str) -> list[Any]:
    """Return what decides the teacher's probabilities: its settings, and each member's SHA-256."""
    folder = RunFolder(Path(teacher))
    if not folder.is_trained:
        raise ConfigError(
            f"loss.teacher={teacher}: expected the folder of a finished run, below outputs, with "
            "the weights of all members"
        )
    config = folder.read_config()
    with corrupt_file_on_error(folder.path / CONFIG):
        settings = [config[group] for group in GROUPS]
    return [settings, [file_sha256(path) for path in folder.member_paths()]]


def teacher_probabilities(settings: Config, parts: "RunComponents") -> "Tensor":
    """Return the mean probabilities [n, K] of the teacher's members for the n training cycles.

    Raises ConfigError if the teacher has another split, which may let it know the test cycles,
    other classes, or another sample rate.
    """
    import torch

    from lungsound.runs.build import build_datamodule, build_module, build_trainer
    from lungsound.runs.predict import evaluate_member
    from lungsound.runs.rescore import load_run_config

    folder = RunFolder(Path(str(settings.loss.teacher)))
    teacher = load_run_config(folder, Path(settings.store_dir))
    teacher.trainer = settings.trainer
    _check_same(settings, teacher, parts.cycles, folder)
    module = build_module(teacher, parts.annealing, parts.labels, parts.datamodule.cycles["val"])
    datamodule = build_datamodule(teacher, parts.database, parts.cycles)
    trainer = build_trainer(teacher, epochs=0)
    theirs = replace(parts, module=module, datamodule=datamodule)
    paths = folder.member_paths()
    members = [evaluate_member(trainer, theirs, path, ["train"])["train"] for path in paths]
    print(f"Teacher: {len(paths)} members, on {len(members[0])} training cycles", flush=True)
    return torch.stack(members).mean(0)


def _check_same(settings: Config, teacher: Config, cycles: pd.DataFrame, folder: RunFolder) -> None:
    for group, key in (("data", "name"), ("task", "classes"), ("features", "sample_rate")):
        ours, theirs = (getattr(getattr(one, group), key) for one in (settings, teacher))
        if ours != theirs:
            raise ConfigError(
                f"{group}.{key}: expected {theirs}, as of loss.teacher, but got {ours}"
            )
    text = folder.read_text("split.csv")
    with corrupt_file_on_error(folder.path / "split.csv"):
        known = pd.read_csv(io.StringIO(text), dtype="str", keep_default_na=False)[[*COLUMNS]]
    split = split_table(cycles, cycles["set"])[[*COLUMNS]].astype("str")
    if sorted(known.itertuples(index=False)) != sorted(split.itertuples(index=False)):
        raise ConfigError(
            f"loss.teacher={folder.path}: expected a run on the same split, but its split.csv "
            "differs: it may have been trained on cycles that are tested here"
        )
