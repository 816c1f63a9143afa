"""The typed schema of the configuration, and what is done to a command line. Light: no torch, no
Lightning.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lungsound.config.schema import CONFIG_DIR
from lungsound.errors import ConfigError


def reject_numeric_options(arguments: list[str]) -> None:
    """Raise ConfigError for an option that is a number (`segment=9`): Hydra dies of it without a
    word on the cause.
    """
    for argument in arguments:
        group, _, options = argument.partition("=")
        numbers = [option for option in options.split(",") if option.replace(".", "").isdigit()]
        if numbers and group in config_groups():
            raise ConfigError(
                f"{argument}: expected the name of an option of {group}, but got a number. "
                "Names carry their unit, as in segment=9s; --help lists them"
            )


def parse_train_overrides(arguments: list[str]) -> list[str]:
    """A training's command line as Hydra can read it. Raises ConfigError where it cannot be one."""
    reject_numeric_options(arguments)
    overrides = add_experiment_from_env(arguments)
    if not any(word.startswith("-") for word in overrides):  # flags are Hydra's own
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            compose_config(
                overrides
            )  # Hydra does it again; but what it cannot read would end in its own words
    return overrides


def compose_config(words: Sequence[str]) -> DictConfig:
    """The configuration that Hydra makes of the words, its own part included. Raises ConfigError
    where it cannot.
    """
    parse_overrides(words)
    with translate_hydra_errors(words):
        return compose("config", overrides=list(words), return_hydra_config=True)


def parse_overrides(words: Sequence[str]) -> list[Override]:
    """The words as Hydra reads them. Raises ConfigError where it cannot."""
    overrides = []
    for word in words:
        with translate_hydra_errors([word]):
            overrides += OverridesParser.create(
                GlobalHydra.instance().config_loader()
            ).parse_overrides([word])
        group, value = overrides[-1].key_or_group, overrides[-1].value()
        for option in value.list if isinstance(value, ChoiceSweep) else [value]:
            if group in config_groups() and isinstance(option, int | float | dict):
                raise ConfigError(
                    f"{word[:200]}: expected the name of an option of {group}, but got {option!r}"
                )
    return overrides


@contextmanager
def translate_hydra_errors(words: Sequence[str]) -> Iterator[None]:
    """What Hydra says of a command line, as a ConfigError that names its words."""
    try:
        yield
    # Not Hydra's errors alone: thousands of digits, brackets as deep, [9] for an option end in
    # Python's own.
    except Exception as error:
        causes = [
            error,
            *([error.__cause__] if isinstance(error.__cause__, OmegaConfBaseException) else []),
        ]
        lines = [line.strip() for cause in causes for line in str(cause).splitlines()]
        details = " ".join(line for line in lines if line and not line.startswith("See "))
        got = " ".join(word if word.strip() else repr(word) for word in words)
        raise ConfigError(
            f"expected key=value words that Hydra can read, but got {got}: {details}. --help lists the groups"
        ) from error


def config_groups() -> set[str]:
    """The groups of options, as folders."""
    return {path.name for path in CONFIG_DIR.iterdir() if path.is_dir()}


def add_experiment_from_env(arguments: list[str]) -> list[str]:
    """The command line's arguments with LUNGSOUND_EXPERIMENT's experiment, where they name none.

    Hydra refuses a defaults list that takes an option from the environment when that option
    overrides others.
    """
    experiment = os.environ.get("LUNGSOUND_EXPERIMENT")
    has_experiment = any(argument.lstrip("+").startswith("experiment=") for argument in arguments)
    return (
        arguments if has_experiment or not experiment else [*arguments, f"experiment={experiment}"]
    )
