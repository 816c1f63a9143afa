"""Dots on a sweep's command line: annealing.cycles=2,3,...,6 becomes 2,3,4,5,6."""

import re
from decimal import Decimal

from lungsound.errors import ConfigError

ELLIPSIS = "..."
MAX_VALUES = 1000  # of one progression
# Few enough digits for Decimal to be exact, and an exponent small enough to write out. A leading
# zero is text, so that 01,02,...,05 keeps it.
NUMBER = re.compile(r"(-?(?:0|[1-9]\d{0,24})(?:\.\d{1,25}(?!\d))?(?:[eE]-?\d{1,3})?)", re.ASCII)


def expand_ellipses(arguments: list[str]) -> list[str]:
    """Expand every `key=a,b,...,z` to the arithmetic progression that a and b begin, up to z.

    Raises ConfigError with every argument that cannot be expanded, each with a correction.
    """
    expanded, errors = [], []
    for argument in arguments:
        key, _, value_list = argument.partition("=")
        values = [value.strip() for value in value_list.split(",")]
        try:
            line = f"{key}={','.join(_expand_values(key, values))}"
            expanded.append(line if ELLIPSIS in values else argument)
        except ConfigError as error:
            errors.append(f"\n  - {argument}: {error}")
    if errors:
        raise ConfigError(f"The dots have no meaning here:{''.join(errors)}")
    return expanded


def _expand_values(key: str, values: list[str]) -> list[str]:
    if ELLIPSIS not in values:
        return values
    place = values.index(ELLIPSIS)
    before, after = values[:place], values[place + 1 :]
    if len(before) < 2:
        raise ConfigError(
            f"expected two values before the dots, but got {len(before)}. "
            f"Right would be {key}=2,3,...,10"
        )
    first, second = before[-2:]
    if not after or after[0] in (ELLIPSIS, ""):
        raise ConfigError(
            "expected a last value after the dots, but got none. "
            f"Right would be {key}={first},{second},{ELLIPSIS},LAST with that value for LAST"
        )
    between = _fill_progression(key, first, second, after[0])
    return _expand_values(key, [*before, *between, *after])


def _fill_progression(key: str, first: str, second: str, last: str) -> list[str]:
    """Return the values between `second` and `last`, without these two."""
    prefix, texts, suffix = _find_numbers(first, second, last)
    start, following, end = map(Decimal, texts)
    step = following - start
    if not step or (end - following) / step < 1:
        raise ConfigError(
            f"expected the last value to come after {second}, but got {last}. "
            f"Name every value: {','.join(dict.fromkeys([f'{key}={first}', second, last]))}"
        )
    steps = int((end - following) / step)
    if steps > MAX_VALUES:
        raise ConfigError(f"expected at most {MAX_VALUES} values, but got {steps + 2}")
    values = []
    for place in range(1, steps + 2):
        values.append(f"{prefix}{_format_decimal(following + place * step)}{suffix}")
    if following + steps * step != end:
        line = f"{key}={first},{second},{ELLIPSIS}"
        raise ConfigError(
            f"expected steps of {_format_decimal(abs(step))} to end at {last}, but they miss it. "
            f"Right would be {line},{values[-2]} or {line},{values[-1]}"
        )
    return values[: steps - 1]


def _find_numbers(*values: str) -> tuple[str, list[str], str]:
    """Return the one number that differs, and the text before and after it."""
    parts = [NUMBER.split(value) for value in values]  # text, number, text, number, ...
    if len({len(split) for split in parts}) == 1:
        columns = list(zip(*parts, strict=True))
        places = [place for place, column in enumerate(columns) if len(set(column)) > 1]
        if len(places) == 1 and places[0] % 2:
            (place,), around = places, parts[0]
            return "".join(around[:place]), list(columns[place]), "".join(around[place + 1 :])
    raise ConfigError(
        f"expected values that differ in one number alone, but got {', '.join(values)}. "
        "Name every value in place of the dots"
    )


def _format_decimal(number: Decimal) -> str:
    """Format without an exponent or trailing zeros: 3, not 3.0; 0.5; 0.0001."""
    return f"{number.normalize():f}"
