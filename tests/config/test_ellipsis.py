"""Dots on a sweep's command line, against Python's own arithmetic."""

import random
from decimal import Decimal

import pytest

from lungsound.config.ellipsis import expand_ellipses
from lungsound.errors import ConfigError


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("annealing.cycles=2,3,...,10", "annealing.cycles=2,3,4,5,6,7,8,9,10"),
        ("annealing.cycles=2,4,...,10", "annealing.cycles=2,4,6,8,10"),
        ("annealing.cycles=10,9,...,2", "annealing.cycles=10,9,8,7,6,5,4,3,2"),
        ("key=0.1,0.2,...,0.5", "key=0.1,0.2,0.3,0.4,0.5"),
        ("key=-1,0,...,2", "key=-1,0,1,2"),
        ("key=1e-4,2e-4,...,4e-4", "key=1e-4,2e-4,0.0003,4e-4"),
        ("segment=3s,4s,...,9s", "segment=3s,4s,5s,6s,7s,8s,9s"),
        ("segment=2.5s,3s,...,4s", "segment=2.5s,3s,3.5s,4s"),
        ("split=fold1,fold2,...,fold4", "split=fold1,fold2,fold3,fold4"),
        ("key=1,2,...,4,6,...,10", "key=1,2,3,4,6,8,10"),
        ("key=7,1,2,...,3", "key=7,1,2,3"),
        ("key=1, 2, ..., 4", "key=1,2,3,4"),
        ("annealing.cycles='range(2,11)'", "annealing.cycles='range(2,11)'"),
        ("segment=9s,2x4.5s", "segment=9s,2x4.5s"),
        ("segment=2x2s,2x2.5s,...,2x4s", "segment=2x2s,2x2.5s,2x3s,2x3.5s,2x4s"),
        ("segment=2x3s,3x3s,...,5x3s", "segment=2x3s,3x3s,4x3s,5x3s"),
        ("-m", "-m"),
    ],
)
def test_dots_are_written_out(typed: str, written: str) -> None:
    assert expand_ellipses([typed]) == [written]


def test_every_key_of_a_line_is_written_out() -> None:
    typed = ["-m", "padding=zero,sample", "segment=3s,4s,...,6s", "split.seed=0,1,...,3"]
    assert expand_ellipses(typed) == [
        "-m",
        "padding=zero,sample",
        "segment=3s,4s,5s,6s",
        "split.seed=0,1,2,3",
    ]


def test_any_progression_is_pythons() -> None:
    """Start, step and length at random, in whole numbers and decimals, up and down, with prefix and
    suffix.
    """
    draws = random.Random(0)
    for _ in range(500):
        scale = Decimal(10) ** -draws.randint(0, 4)
        start, step = draws.randint(-50, 50), draws.choice([-1, 1]) * draws.randint(1, 9)
        values = [start + place * step for place in range(draws.randint(3, 30))]
        prefix, suffix = draws.choice(["", "split", "v_"]), draws.choice(["", "s", "Hz"])
        named = [f"{prefix}{(value * scale).normalize():f}{suffix}" for value in values]
        (written,) = expand_ellipses([f"key={named[0]},{named[1]},...,{named[-1]}"])
        assert written.removeprefix("key=").split(",") == named


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("key=2,4,...,9", "Right would be key=2,4,...,8 or key=2,4,...,10"),
        ("key=0.1,0.3,...,0.6", "Right would be key=0.1,0.3,...,0.5 or key=0.1,0.3,...,0.7"),
        ("key=2,...,5", "two values before the dots, but got 1. Right would be key=2,3,...,10"),
        ("key=...,5", "two values before the dots, but got 0"),
        (
            "key=2,3,...",
            "a last value after the dots, but got none. Right would be key=2,3,...,LAST",
        ),
        ("key=2,3,...,", "a last value after the dots, but got none"),
        ("key=2,3,...,...,9", "a last value after the dots, but got none"),
        ("segment=2x2s,3x3s,...,4x4s", "Name every value in place of the dots"),
        ("key=2,3,...,3", "come after 3. Right would be key=2,3"),
        ("key=08,09,...,120", "whole numbers of as many digits after a leading 0"),
        ("segment=3s,4s,...,9", "differ in one number alone, but got 3s, 4s, 9"),
        ("padding=zero,sample,...,zero", "differ in one number alone"),
        ("key=2,2,...,2", "differ in one number alone"),
        ("key=5,4,...,9", "the last value to come after 4, but got 9"),
        ("key=0,1,...,1000000", "at most 1000 values"),
    ],
)
def test_dots_that_cannot_be_read_are_refused_with_the_line_that_would_be_right(
    typed: str, told: str
) -> None:
    with pytest.raises(ConfigError) as error:
        expand_ellipses(["padding=zero", typed])
    (line,) = str(error.value).splitlines()[1:]
    assert line.startswith(f"  - {typed}: expected ")
    assert told in line


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        expand_ellipses(["a=2,...,5", "b=1,2,...,4", "c=1,2,..."])
    assert [line.split("=")[0].strip(" -") for line in str(error.value).splitlines()[1:]] == [
        "a",
        "c",
    ]


@pytest.mark.parametrize(
    "last", ["1e99999999999999999999", "1e5000", "9" * 400, "\u0661\u0662", "1e999", "-1e999"]
)
def test_a_number_that_nobody_can_write_out_is_refused(last: str) -> None:
    with pytest.raises(ConfigError, match=r"seed=1,2,\.\.\.,.*: expected"):
        expand_ellipses([f"seed=1,2,...,{last}"])
