"""Dots on a sweep's command line: annealing.cycles=2,3,...,10 is written out before Hydra reads it."""

import contextlib
import re
from decimal import Decimal

from lungsound.config.overrides import refuse_numbers, with_environment
from lungsound.errors import ConfigError

DOTS = "..."
MOST = 1000  # values that one progression may stand for
# One number between a prefix and a suffix without digits: 9s, 0.25, -3, split4.
# Of no more digits than a Decimal is exact to, and an exponent that can be written out.
SHAPE = re.compile(
    r"(?P<prefix>[^\d.-]*)(?P<number>-?\d{1,25}(?:\.\d{1,25})?(?:[eE]-?\d{1,3})?)(?P<suffix>[^\d.]*)", re.ASCII
)


def study_words(arguments: list[str]) -> list[str]:
    """A sweep's command line as Hydra can read it. Raises ConfigError where it cannot be one."""
    words = write_out_dots(with_environment(arguments))
    refuse_numbers(words)
    return words


def write_out_dots(arguments: list[str]) -> list[str]:
    """The arguments with every `key=a,b,...,z` written out: the dots stand for the arithmetic progression of the two
    values before them, up to the value after them.

    Raises ConfigError where dots cannot be read: every such argument, each with the line that would be right.
    """
    written, wrong = [], []
    for argument in arguments:
        key, _, listed = argument.partition("=")
        values = [value.strip() for value in listed.split(",")]
        try:
            written.append(f"{key}={','.join(_written_out(key, values))}" if DOTS in values else argument)
        except ConfigError as error:
            wrong.append(f"  - {argument}: {error}")
    if wrong:
        raise ConfigError("\n".join(["The dots cannot be read:", *wrong]))
    return written


def _written_out(key: str, values: list[str]) -> list[str]:
    out: list[str] = []
    for value, following in zip(values, [*values[1:], DOTS], strict=True):
        if value != DOTS:
            out.append(value)
        elif len(out) < 2:
            raise ConfigError(
                f"expected two values before the dots, but got {len(out)}. Right would be {key}=2,3,...,10"
            )
        elif following in (DOTS, ""):
            _numbers(key, *out[-2:])
            raise ConfigError(
                "expected a last value after the dots, but got none. "
                f"Right would be {key}={out[-2]},{out[-1]},{DOTS},LAST with that value for LAST"
            )
        else:
            out += _between(key, out[-2], out[-1], following)
    return out


def _between(key: str, first: str, second: str, last: str) -> list[str]:
    """The values that the dots between `second` and `last` stand for."""
    prefix, suffix, (start, then, end) = _numbers(key, first, second, last)
    step = then - start
    if end == then:
        raise ConfigError(f"expected the last value to come after {second}. Right would be {key}={first},{second}")
    if not step or (end - then) / step < 1:
        raise ConfigError(
            f"expected the last value to come after {second}, but got {last}. "
            f"Name every value: {key}={first},{second},{last}"
        )
    steps = int((end - then) / step)
    if steps > MOST:
        raise ConfigError(f"expected at most {MOST} values, but got {steps + 2}")
    width = _width(first, second, last)
    named = [f"{prefix}{_plain(then + place * step).zfill(width)}{suffix}" for place in range(1, steps + 2)]
    if then + steps * step != end:
        raise ConfigError(
            f"expected steps of {_plain(abs(step))} to end at {last}, but they miss it. "
            f"Right would be {key}={first},{second},{DOTS},{named[-2]} or {key}={first},{second},{DOTS},{named[-1]}"
        )
    return named[: steps - 1]


def _numbers(key: str, *values: str) -> tuple[str, str, list[Decimal]]:
    """The values' common prefix and suffix, and the number of each."""
    shapes = [SHAPE.fullmatch(value) for value in values]
    around = {(shape["prefix"], shape["suffix"]) if shape else None for shape in shapes}
    common = around.pop() if len(around) == 1 else None
    if common is None:
        raise ConfigError(
            f"expected values that differ in one number alone, but got {', '.join(values)}. {_named(key, *values)}"
        )
    return *common, [Decimal(shape["number"]) for shape in shapes if shape]


def _named(key: str, *values: str) -> str:
    """The line with every value in place of the dots, where the values have one beginning: 2x2s,2x2.5s,...,2x3.5s."""
    found = re.match(r".*?\d[^\d.-]+(?=-?\d)", values[0])
    begin = found[0] if found else ""
    every = list(values)
    if begin and len(values) == 3 and all(value.startswith(begin) for value in values):
        with contextlib.suppress(ConfigError):
            every[2:2] = [begin + value for value in _between(key, *(value.removeprefix(begin) for value in values))]
    return f"Name every value in place of the dots: {key}={','.join(every)}"


def _width(*values: str) -> int:
    """The digits of values like 08,09,...,12, which are kept; 0 where no value begins with a zero before a digit."""
    numbers = [shape["number"] for shape in map(SHAPE.fullmatch, values) if shape]
    if not any(re.match(r"-?0\d", number) for number in numbers):
        return 0
    widths = {len(number) for number in numbers}
    if len(widths) > 1 or not all(number.isdigit() for number in numbers):
        raise ConfigError(f"expected whole numbers of as many digits after a leading 0, but got {', '.join(values)}")
    return widths.pop()


def _plain(number: Decimal) -> str:
    """As a person writes it: 3, not 3.0; 0.5; 0.0001."""
    return f"{number.normalize():f}"
