"""Parse, compose and run Hydra command lines. Imports no torch, so that --help is fast."""

import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, open_dict

from lungsound.config.corrections import GROUPS, KEYS, check_words, quote_text, unknown_keys
from lungsound.config.schema import CONFIG_DIR  # the import also registers the schema
from lungsound.errors import ConfigError
from lungsound.storage.places import SECRETS_HINT, reject_secrets

# A launcher of ours has the name of its plugin's schema, and is validated against it.
warnings.filterwarnings("ignore", message=r"(?s).*automatic_schema_matching")

# Hydra's flags that print something and run no job.
INFO_FLAGS = {
    *("-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info"),
    *("-sc", "--shell-completion"),
}

# A key for a password, before `=` or in a dict: it would be stored with every result.
SECRET_KEY = re.compile(
    r"^[^=/]*(password|token|secret)|[{,][^=:,{}]*(password|token|secret)[^=:,{}]*:", re.IGNORECASE
)


def prints_only(arguments: Sequence[str]) -> bool:
    """True if Hydra only prints and runs no job: --help, --cfg, tab completion."""
    return any(argument.partition("=")[0] in INFO_FLAGS for argument in arguments)


def run_hydra(task: Callable[[DictConfig], Any], arguments: Sequence[str]) -> None:
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
        for override in parse_overrides(overrides, sweeps=False):
            _check_single(override)
        with translate_hydra_errors(overrides):
            return hydra.compose("config", overrides=list(overrides), return_hydra_config=True)


def compose_run(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """Return a run's configuration and the option of each group. Raises ConfigError."""
    cfg = compose_config(overrides)
    choices = dict(cfg.hydra.runtime.choices)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, choices


def parse_overrides(words: Sequence[str], sweeps: bool = True) -> list[Override]:
    """Parse the overrides with Hydra's grammar. Raises ConfigError if one cannot be parsed.

    `sweeps`: commas may separate the values of a sweep, also of a text such as a path.
    """
    overrides = []
    with hydra_initialized():
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        quoted = [quote_text(parser, word, sweeps) for word in words]
        if quoted != list(words):
            wrong = [word for word, right in zip(words, quoted, strict=True) if word != right]
            raise ConfigError(
                f"expected a text as Hydra reads it, but got: {'; '.join(wrong)}\n"
                f"With quotes, for the shell and for Hydra: {shlex.join(quoted)}"
            )
        for word in words:
            with translate_hydra_errors([word]):
                (override,) = parser.parse_overrides([word])
            _check_option_names(override, word)
            overrides.append(override)
    return overrides


def _check_option_names(override: Override, word: str) -> None:
    """Raise ConfigError for an option that is a number, such as `segment=9`: Hydra's is unclear."""
    group, value = override.key_or_group, override.value()
    if group not in GROUPS:
        return
    for option in value.list if isinstance(value, ChoiceSweep) else [value]:
        if isinstance(option, int | float | dict):
            raise ConfigError(
                f"{word[:200]}: expected the name of an option of {group}, but got {option!r}. "
                "Names have their unit, as in segment=9s; --help lists them"
            )


def _check_single(override: Override) -> None:
    """Raise ConfigError for several values, such as loss.gamma=1,5: a run has one."""
    if override.is_sweep_override():
        word, hint = str(override.input_line), ""
        if KEYS.get(override.key_or_group) is float:
            hint = f". A decimal has a point: {word.replace(',', '.', 1)}"
        raise ConfigError(
            f"{word[:200]}: expected one value, but got several. They are for sweep.py{hint}"
        )


@contextmanager
def translate_hydra_errors(words: Sequence[str]) -> Iterator[None]:
    """Convert any exception in the block to a ConfigError that quotes the overrides `words`.

    Not only Hydra's: it lets ValueError, RecursionError and others through for odd values.
    """
    try:
        yield
    except Exception as error:
        if unknown := unknown_keys(words):  # Hydra's message recommends +key
            raise ConfigError("; ".join(unknown)) from error
        if isinstance(error, MissingConfigException) and error.options:
            raise ConfigError(_describe_missing_option(error)) from error
        text = f"{error}\n{error.__cause__ or ''}"  # omegaconf's half of the message is the cause
        lines = [line.strip() for line in text.splitlines()]
        noise = ("See ", "reference_type=", "object_type=")
        details = " ".join(line for line in lines if line and not line.startswith(noise))
        got = " ".join(word if word.strip() else repr(word) for word in words)
        raise ConfigError(
            f"expected key=value overrides that Hydra can parse, but got {got}: {details}. "
            "--help lists the groups"
        ) from error


def _describe_missing_option(error: MissingConfigException) -> str:
    """Return what is wrong with `segment=10s`; Hydra's message lists its search path, too."""
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    (nearest,) = get_close_matches(option, error.options or [], 1, cutoff=0)
    options = ", ".join(error.options or [])
    return f"{group}={option}: expected one of {options}. The nearest is {nearest}"


def read_arguments(words: Sequence[str]) -> list[str]:
    """Return the words of a command line, with the machine's experiment.

    Raises ConfigError as of `check_words`, and for a password before anything prints or stores it.
    """
    reject_passwords(words)
    return add_experiment_from_env(check_words(words))


def reject_passwords(arguments: Sequence[str]) -> None:
    """Raise ConfigError if an address or a key is a password's; the key may be mistyped."""
    for argument in arguments:
        key = argument.partition("=")[0]
        if SECRET_KEY.search(argument):
            raise ConfigError(
                f"{key}: expected no password or token, which would be stored. {SECRETS_HINT}"
            )
        if "://" in argument or re.match(r"\W*tracking(\.uri)?=", argument):
            value = re.sub(r"^[^:/?=]*=", "", argument)
            key = "tracking.uri" if value == argument else re.sub(r"\W*(.*)", r"\1", key)
            for address in re.split(r"[,{}'\"\s]|uri:", value):
                reject_secrets(address, key)


def add_experiment_from_env(arguments: Sequence[str]) -> list[str]:
    """Add `experiment=$LUNGSOUND_EXPERIMENT` to arguments that name no experiment.

    conf/config.yaml cannot read the variable: Hydra rejects an interpolated option in a defaults
    list if that option overrides other groups, as every experiment does.
    """
    experiment = os.environ.get("LUNGSOUND_EXPERIMENT")
    if not experiment or any(word.lstrip("+").startswith("experiment=") for word in arguments):
        return list(arguments)
    return [*arguments, f"experiment={experiment}"]
