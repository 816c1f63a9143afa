"""Parse, compose and run Hydra command lines. Imports no torch, so that --help is fast."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from omegaconf import DictConfig, open_dict

from lungsound.config.schema import CONFIG_DIR  # the import also registers the schema
from lungsound.errors import ConfigError
from lungsound.storage.places import reject_secrets

# Hydra's flags that print something and run no job.
INFO_FLAGS = {
    *("-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info"),
    *("-sc", "--shell-completion"),
}


def prints_only(arguments: Sequence[str]) -> bool:
    """True if Hydra only prints and runs no job: --help, --cfg, tab completion."""
    return any(argument.partition("=")[0] in INFO_FLAGS for argument in arguments)


def run_hydra(task: Callable[[DictConfig], None], arguments: Sequence[str]) -> None:
    """Run `task` as a Hydra application on `arguments`; with --multirun once per job.

    Replaces sys.argv meanwhile: hydra.main (1.3.8) reads the command line only from there, and
    Hydra's public API has no other way to a launcher.
    """
    main = hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="config")(task)
    original = sys.argv
    sys.argv = [original[0], *arguments]
    try:
        main()
    finally:
        sys.argv = original


@contextmanager
def hydra_initialized() -> Iterator[None]:
    """Initialize Hydra's compose API in the block, unless it is initialized already."""
    if GlobalHydra.instance().is_initialized():
        yield
    else:
        with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            yield


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """Compose the configuration with its `hydra` node. Raises ConfigError if Hydra cannot."""
    with hydra_initialized():
        parse_overrides(overrides)
        with translate_hydra_errors(overrides):
            return hydra.compose("config", overrides=list(overrides), return_hydra_config=True)


def compose_run(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """Return a run's configuration and the option of each group. Raises ConfigError."""
    cfg = compose_config(overrides)
    choices = dict(cfg.hydra.runtime.choices)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, choices


def parse_overrides(words: Sequence[str]) -> list[Override]:
    """Parse the overrides with Hydra's grammar. Raises ConfigError if one cannot be parsed."""
    overrides = []
    with hydra_initialized():
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        for word in words:
            with translate_hydra_errors([word]):
                (override,) = parser.parse_overrides([word])
            _check_option_names(override, word)
            overrides.append(override)
    return overrides


def _check_option_names(override: Override, word: str) -> None:
    """Raise ConfigError for an option that is a number, such as `segment=9`: Hydra's is unclear."""
    group, value = override.key_or_group, override.value()
    if group not in {path.name for path in CONFIG_DIR.iterdir() if path.is_dir()}:
        return
    for option in value.list if isinstance(value, ChoiceSweep) else [value]:
        if isinstance(option, int | float | dict):
            raise ConfigError(
                f"{word[:200]}: expected the name of an option of {group}, but got {option!r}. "
                "Names have their unit, as in segment=9s; --help lists them"
            )


@contextmanager
def translate_hydra_errors(words: Sequence[str]) -> Iterator[None]:
    """Convert any exception in the block to a ConfigError that quotes the overrides `words`.

    Not only Hydra's: it lets ValueError, RecursionError and others through for odd values.
    """
    try:
        yield
    except Exception as error:
        text = f"{error}\n{error.__cause__ or ''}"  # omegaconf's half of the message is the cause
        lines = [line.strip() for line in text.splitlines()]
        details = " ".join(line for line in lines if line and not line.startswith("See "))
        got = " ".join(word if word.strip() else repr(word) for word in words)
        raise ConfigError(
            f"expected key=value overrides that Hydra can parse, but got {got}: {details}. "
            "--help lists the groups"
        ) from error


def add_experiment_from_env(arguments: Sequence[str]) -> list[str]:
    """Add `experiment=$LUNGSOUND_EXPERIMENT` to arguments that name no experiment.

    conf/config.yaml cannot read the variable: Hydra rejects an interpolated option in a defaults
    list if that option overrides other groups, as every experiment does. Raises ConfigError for a
    password in tracking.uri, before Hydra prints or stores it.
    """
    _reject_passwords(arguments)
    experiment = os.environ.get("LUNGSOUND_EXPERIMENT")
    if not experiment or any(word.lstrip("+").startswith("experiment=") for word in arguments):
        return list(arguments)
    return [*arguments, f"experiment={experiment}"]


def _reject_passwords(arguments: Sequence[str]) -> None:
    for word in arguments:
        if re.match(r"\W*tracking(\.uri)?=", word):
            for address in re.split(r"[,{}'\"\s]|uri:", word.partition("=")[2]):
                reject_secrets(address)
