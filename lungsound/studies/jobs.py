"""Expand a sweep into jobs as Hydra's sweeper does; compose and check all of them."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.override_parser.types import Override

from lungsound.config.overrides import (
    compose_config,
    compose_run,
    hydra_initialized,
    parse_overrides,
    translate_hydra_errors,
)
from lungsound.config.schema import Config
from lungsound.errors import ConfigError, LungsoundError
from lungsound.runs.validation import validate_config

MAX_JOBS = 10_000
LOCAL_LAUNCHERS = ("basic", "joblib")  # the others may train on another machine

Values = dict[str, str | int | float]


class ComposedJob(NamedTuple):
    """A job whose configuration is valid; its data are not read yet."""

    values: Values  # of the swept keys
    fixed_overrides: tuple[str, ...]  # the overrides that all jobs share
    settings: Config
    choices: dict[str, str]  # the option of each group


def compose_jobs(words: Sequence[str]) -> list[ComposedJob]:
    """Compose the jobs of a command line. Raises ConfigError with every invalid job."""
    with hydra_initialized():
        overrides_per_job = expand_jobs(words)
        first = overrides_per_job[0]
        swept = [key for key in first if any(job[key] != first[key] for job in overrides_per_job)]
        fixed = tuple(sorted(f"{key}={first[key]}" for key in first if key not in swept))
        jobs, invalid = [], []
        for overrides in overrides_per_job:
            values = {key: _parse_number(overrides[key]) for key in swept}
            try:
                cfg, choices = compose_run([f"{key}={value}" for key, value in overrides.items()])
                trains_here = choices["hydra/launcher"] in LOCAL_LAUNCHERS
                settings = validate_config(cfg, trains_here)
                jobs.append(ComposedJob(values, fixed, settings, choices))
            except LungsoundError as error:
                invalid.append((format_values(values, " ".join(words)), error))
    raise_invalid_jobs(invalid, len(overrides_per_job))
    return jobs


def expand_jobs(words: Sequence[str]) -> list[dict[str, str]]:
    """Return each job's value of every overridden key, in the order of Hydra's sweeper.

    `hydra.sweeper.params` of the experiment come first. Raises ConfigError if Hydra cannot parse
    the overrides, or they do not make 1 to MAX_JOBS jobs.
    """
    with hydra_initialized():
        typed = parse_overrides(words)
        constants = [
            word for word, line in zip(words, typed, strict=True) if not line.is_sweep_override()
        ]
        params: dict[str, Any] = compose_config(constants).hydra.sweeper.params or {}
        defaults = parse_overrides([f"{key}={value}" for key, value in params.items()])
        values = {line.get_key_element(): _override_values(line) for line in [*defaults, *typed]}
    number = math.prod(len(choices) for choices in values.values())
    if not 1 <= number <= MAX_JOBS:
        found = "none" if number == 0 else f"more than {MAX_JOBS}"
        raise ConfigError(
            f"{' '.join(words)}: expected from 1 to {MAX_JOBS} jobs, "
            f"but these overrides make {found}"
        )
    return [dict(zip(values, job, strict=True)) for job in itertools.product(*values.values())]


def raise_invalid_jobs(invalid: Sequence[tuple[str, LungsoundError]], num_jobs: int) -> None:
    """Raise ConfigError with all `invalid` jobs, each with its error, if there are any."""
    if not invalid:
        return
    lines = [f"{len(invalid)} of {num_jobs} jobs cannot be run; none was begun:"]
    for job, error in invalid:
        messages = [line.strip(" -") for line in str(error).splitlines()]
        if isinstance(error, ConfigError) and len(messages) > 1:
            del messages[0]  # the heading, which is the same for all jobs
        lines.append(f"  - {job}: {'; '.join(messages)}")
    raise ConfigError("\n".join(lines))


def format_values(values: Mapping[str, Any], alone: str = "the run") -> str:
    """Format the values of the swept keys as key=value; `alone` if no key is swept."""
    return " ".join(f"{key}={value}" for key, value in values.items()) or alone


def _override_values(override: Override) -> list[str]:
    """Return the values of one override, at most MAX_JOBS + 1 of them."""
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    word = str(override.input_line)
    if getattr(override.value(), "shuffle", False):
        raise ConfigError(f"{word}: expected values without shuffle(): jobs have a fixed order")
    with translate_hydra_errors([word]):
        return list(itertools.islice(override.sweep_string_iterator(), MAX_JOBS + 1))


def _parse_number(text: str) -> str | int | float:
    for number_type in (int, float):
        try:
            return number_type(text)
        except ValueError:
            pass
    return text
