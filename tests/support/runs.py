"""Composed configurations and small runs."""

import contextlib
import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.utils import JobRuntime
from matplotlib.figure import Figure
from omegaconf import DictConfig, open_dict

if TYPE_CHECKING:
    from lungsound.config.schema import Config

ROOT = Path(__file__).parents[2]


COMPOSED: dict[str, Any] = {}  # arguments of Hydra's loader -> the configuration it composed

# Seconds long, and with everything: several segments per cycle, both kinds of copies, two periods.
SMALL_RUN_OVERRIDES = (
    *("data.demo_patients=8", "data.demo_cycles=60", "segment=2x2s", "model.width=0.0625"),
    *("annealing.cycles=2", "annealing.epochs_per_cycle=2"),
)


def cache_composed_configs() -> None:
    """Have Hydra compose each configuration once: that is most of the time of a small study."""
    loaders: Any = ConfigLoaderImpl
    compose = loaders.load_configuration

    def load(loader: Any, *arguments: Any, **options: Any) -> Any:
        key = repr((JobRuntime.instance().conf, str(loader.config_search_path), arguments, options))
        if key not in COMPOSED:
            COMPOSED[key] = compose(loader, *arguments, **options)
        config = copy.deepcopy(COMPOSED[key])
        config.hydra.runtime.cwd = str(Path.cwd())
        return config

    loaders.load_configuration = load


def compose_config(*overrides: str) -> tuple[DictConfig, dict[str, str]]:
    """The configuration and the options chosen, as `python train.py *overrides` gets them."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=list(overrides), return_hydra_config=True)
    choices = dict(cfg.hydra.runtime.choices)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, choices


def compose_settings(*overrides: str) -> "Config":
    """The checked settings of `python train.py *overrides`."""
    from lungsound.runs.validation import validate_config

    return validate_config(compose_config(*overrides)[0])


@contextlib.contextmanager
def skip_rendering() -> Iterator[None]:
    """Inside, a run's figures are empty and not painted: they take most of a small run's time."""
    from lungsound.runs import report

    def save(figure: Figure, file: BinaryIO, **_: object) -> None:
        file.write(b"a picture")

    with pytest.MonkeyPatch.context() as patch:
        for name in filter(re.compile("plot_").match, dir(report)):
            patch.setattr(report, name, lambda *_, **__: Figure())
        patch.setattr(Figure, "savefig", save)
        yield
