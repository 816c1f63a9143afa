"""Dots on a sweep's command line: annealing.cycles=2,3,...,10 is written out before Hydra reads it."""

import contextlib
import re
from decimal import Decimal

from lungsound.config.overrides import add_experiment_from_env, reject_numeric_options
from lungsound.errors import ConfigError

ELLIPSIS = "..."
MAX_VALUES = 1000  # values that one progression may stand for
# One number between a prefix and a suffix without digits: 9s, 0.25, -3, split4.
# Of no more digits than a Decimal is exact to, and an exponent that can be written out.
AFFIXED_NUMBER = re.compile(
    r"(?P<prefix>[^\d.-]*)(?P<number>-?\d{1,25}(?:\.\d{1,25})?(?:[eE]-?\d{1,3})?)(?P<suffix>[^\d.]*)",
    re.ASCII,
)


def parse_sweep_overrides(arguments: list[str]) -> list[str]:
    """A sweep's command line as Hydra can read it. Raises ConfigError where it cannot be one."""
    words = expand_ellipses(add_experiment_from_env(arguments))
    reject_numeric_options(words)
    return words


def expand_ellipses(arguments: list[str]) -> list[str]:
    """The arguments with every `key=a,b,...,z` written out: the dots stand for the arithmetic
    progression of the two values before them, up to the value after them.

    Raises ConfigError where dots cannot be read: every such argument, each with the line that would
    be right.
    """
    written, wrong = [], []
    for argument in arguments:
        key, _, value_list = argument.partition("=")
        values = [value.strip() for value in value_list.split(",")]
        try:
            written.append(
                f"{key}={','.join(_expand_values(key, values))}" if ELLIPSIS in values else argument
            )
        except ConfigError as error:
            wrong.append(f"  - {argument}: {error}")
    if wrong:
        raise ConfigError("\n".join(["The dots cannot be read:", *wrong]))
    return written


def _expand_values(key: str, values: list[str]) -> list[str]:
    expanded: list[str] = []
    for value, next_value in zip(values, [*values[1:], ELLIPSIS], strict=True):
        if value != ELLIPSIS:
            expanded.append(value)
        elif len(expanded) < 2:
            raise ConfigError(
                f"expected two values before the dots, but got {len(expanded)}. Right would be {key}=2,3,...,10"
            )
        elif next_value in (ELLIPSIS, ""):
            _parse_numbers(key, *expanded[-2:])
            raise ConfigError(
                "expected a last value after the dots, but got none. "
                f"Right would be {key}={expanded[-2]},{expanded[-1]},{ELLIPSIS},LAST with that value for LAST"
            )
        else:
            expanded += _fill_progression(key, expanded[-2], expanded[-1], next_value)
    return expanded


def _fill_progression(key: str, first: str, second: str, last: str) -> list[str]:
    """The values that the dots between `second` and `last` stand for."""
    prefix, suffix, (start, second_value, end) = _parse_numbers(key, first, second, last)
    step = second_value - start
    if end == second_value:
        raise ConfigError(
            f"expected the last value to come after {second}. Right would be {key}={first},{second}"
        )
    if not step or (end - second_value) / step < 1:
        raise ConfigError(
            f"expected the last value to come after {second}, but got {last}. "
            f"Name every value: {key}={first},{second},{last}"
        )
    steps = int((end - second_value) / step)
    if steps > MAX_VALUES:
        raise ConfigError(f"expected at most {MAX_VALUES} values, but got {steps + 2}")
    width = _zero_pad_width(first, second, last)
    named = [
        f"{prefix}{_format_decimal(second_value + place * step).zfill(width)}{suffix}"
        for place in range(1, steps + 2)
    ]
    if second_value + steps * step != end:
        raise ConfigError(
            f"expected steps of {_format_decimal(abs(step))} to end at {last}, but they miss it. "
            f"Right would be {key}={first},{second},{ELLIPSIS},{named[-2]} or {key}={first},{second},{ELLIPSIS},{named[-1]}"
        )
    return named[: steps - 1]


def _parse_numbers(key: str, *values: str) -> tuple[str, str, list[Decimal]]:
    """The values' common prefix and suffix, and the number of each."""
    shapes = [AFFIXED_NUMBER.fullmatch(value) for value in values]
    affixes = {(shape["prefix"], shape["suffix"]) if shape else None for shape in shapes}
    common = affixes.pop() if len(affixes) == 1 else None
    if common is None:
        raise ConfigError(
            f"expected values that differ in one number alone, but got {', '.join(values)}. {_suggest_explicit_list(key, *values)}"
        )
    return *common, [Decimal(shape["number"]) for shape in shapes if shape]


def _suggest_explicit_list(key: str, *values: str) -> str:
    """The line with every value in place of the dots, where the values have one beginning:
    2x2s,2x2.5s,...,2x3.5s.
    """
    found = re.match(r".*?\d[^\d.-]+(?=-?\d)", values[0])
    prefix = found[0] if found else ""
    explicit = list(values)
    if prefix and len(values) == 3 and all(value.startswith(prefix) for value in values):
        with contextlib.suppress(ConfigError):
            explicit[2:2] = [
                prefix + value
                for value in _fill_progression(
                    key, *(value.removeprefix(prefix) for value in values)
                )
            ]
    return f"Name every value in place of the dots: {key}={','.join(explicit)}"


def _zero_pad_width(*values: str) -> int:
    """The digits of values like 08,09,...,12, which are kept; 0 where no value begins with a zero
    before a digit.
    """
    numbers = [shape["number"] for shape in map(AFFIXED_NUMBER.fullmatch, values) if shape]
    if not any(re.match(r"-?0\d", number) for number in numbers):
        return 0
    widths = {len(number) for number in numbers}
    if len(widths) > 1 or not all(number.isdigit() for number in numbers):
        raise ConfigError(
            f"expected whole numbers of as many digits after a leading 0, but got {', '.join(values)}"
        )
    return widths.pop()


def _format_decimal(number: Decimal) -> str:
    """As a person writes it: 3, not 3.0; 0.5; 0.0001."""
    return f"{number.normalize():f}"
