"""Dots on a sweep's command line: annealing.cycles=2,3,...,6 becomes 2,3,4,5,6."""

import re
from decimal import Decimal
from typing import NamedTuple

from lungsound.errors import ConfigError

ELLIPSIS = "..."
MAX_VALUES = 1000  # of one progression
# Few enough digits for Decimal to be exact, and an exponent small enough to write out.
NUMBER = re.compile(r"(-?\d{1,25}(?:\.\d{1,25}(?!\d))?(?:[eE]-?\d{1,3})?)", re.ASCII)


class Numbers(NamedTuple):
    """The one number that differs between values, and the text around it."""

    prefix: str
    texts: list[str]
    suffix: str


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
            errors.append(f"  - {argument}: {error}")
    if errors:
        raise ConfigError("\n".join(["The dots have no meaning here:", *errors]))
    return expanded


def _expand_values(key: str, values: list[str]) -> list[str]:
    expanded: list[str] = []
    for value, next_value in zip(values, [*values[1:], ""], strict=True):
        if value != ELLIPSIS:
            expanded.append(value)
            continue
        if len(expanded) < 2:
            raise ConfigError(
                f"expected two values before the dots, but got {len(expanded)}. "
                f"Right would be {key}=2,3,...,10"
            )
        first, second = expanded[-2:]
        if next_value in (ELLIPSIS, ""):
            raise ConfigError(
                "expected a last value after the dots, but got none. "
                f"Right would be {key}={first},{second},{ELLIPSIS},LAST with that value for LAST"
            )
        expanded += _fill_progression(key, first, second, next_value)
    return expanded


def _fill_progression(key: str, first: str, second: str, last: str) -> list[str]:
    """Return the values between `second` and `last`, without these two."""
    prefix, texts, suffix = _find_numbers(first, second, last)
    start, second_number, end = (Decimal(text) for text in texts)
    step = second_number - start
    if end == second_number:
        raise ConfigError(
            f"expected the last value to come after {second}. Right would be {key}={first},{second}"
        )
    if not step or (end - second_number) / step < 1:
        raise ConfigError(
            f"expected the last value to come after {second}, but got {last}. "
            f"Name every value: {key}={first},{second},{last}"
        )
    steps = int((end - second_number) / step)
    if steps > MAX_VALUES:
        raise ConfigError(f"expected at most {MAX_VALUES} values, but got {steps + 2}")
    width = _zero_pad_width(texts)
    values = []
    for place in range(1, steps + 2):
        number = _format_decimal(second_number + place * step).zfill(width)
        values.append(f"{prefix}{number}{suffix}")
    if second_number + steps * step != end:
        line = f"{key}={first},{second},{ELLIPSIS}"
        raise ConfigError(
            f"expected steps of {_format_decimal(abs(step))} to end at {last}, but they miss it. "
            f"Right would be {line},{values[-2]} or {line},{values[-1]}"
        )
    return values[: steps - 1]


def _find_numbers(*values: str) -> Numbers:
    """Return the number that differs. Raises ConfigError unless the values differ in one alone."""
    parts = [NUMBER.split(value) for value in values]  # text, number, text, number, ...
    if len({len(split) for split in parts}) == 1:
        columns = list(zip(*parts, strict=True))
        places = [place for place, column in enumerate(columns) if len(set(column)) > 1]
        if len(places) == 1 and places[0] % 2:
            (place,) = places
            around = parts[0]
            prefix, suffix = "".join(around[:place]), "".join(around[place + 1 :])
            return Numbers(prefix, list(columns[place]), suffix)
    raise ConfigError(
        f"expected values that differ in one number alone, but got {', '.join(values)}. "
        "Name every value in place of the dots"
    )


def _zero_pad_width(texts: list[str]) -> int:
    """Return the number of digits, 2 for 08, 09, ..., 12; 0 if no number has a leading zero."""
    if not any(re.match(r"-?0\d", text) for text in texts):
        return 0
    widths = {len(text) for text in texts}
    if len(widths) > 1 or not all(text.isdigit() for text in texts):
        raise ConfigError(
            "expected whole numbers of as many digits after a leading 0, "
            f"but got {', '.join(texts)}"
        )
    return widths.pop()


def _format_decimal(number: Decimal) -> str:
    """Format without an exponent or trailing zeros: 3, not 3.0; 0.5; 0.0001."""
    return f"{number.normalize():f}"
