"""Mutations of bytes, lines and JSON: what the fuzzer makes of valid input."""

import json
import math
import re
from random import Random
from typing import Any

from support.files import flip_bit

NUMBERS = (
    "0", "-1", "1e999", "-1e308", "1e-320", "nan", "NaN", "inf", "-Infinity", "9" * 400, "9" * 5000,
    "0x10", "1_0", "\u0661\u0662", "2147483648", "4294967295", "18446744073709551616", "0.1.2", "+",
    "1e", "00",
)  # fmt: skip
TEXTS = (
    "", " ", "\t", "\0", "a" * 3000, "../../etc/passwd", "/etc/passwd", "\u202e", "💥", "\ud800",
    "'", '"', "\x1b[31m", "${oc.env:HOME}", "!!python/object:os.system", "%s%n", "null", "true",
    "C:\\x", "a\nb", "\x85", "-0",
)  # fmt: skip
# Written into JSON as they are: json.dumps would refuse or mend them.
RAW = (
    "NaN", "-Infinity", "1e999", "9" * 5000, "[" * 3000 + "]" * 3000,
    '{"a":' * 2500 + "1" + "}" * 2500, "'x'", "tru", '"\\ud800"', '"\\x"', "1.", "{}{}", "//",
    '{"a":1,"a":2}',
)  # fmt: skip
EXTREMES = (0, 1, 2**7 - 1, 2**8 - 1, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0")


def mutate_bytes(rng: Random, content: bytes, other: bytes = b"") -> bytes:
    """The bytes after 1 to 4 random changes; a piece of `other` may be spliced in."""
    for _ in range(rng.randint(1, 4)):
        content = _changed(rng, content, other or content)
    return content


def _changed(rng: Random, content: bytes, other: bytes) -> bytes:
    size = len(content)
    start = rng.randint(0, size)
    end = min(size, start + rng.choice((1, 2, 4, 8, 40)))
    head, rest, tail = content[:start], content[start:], content[end:]
    at, width = rng.randint(0, min(size, 64)), rng.choice((1, 2, 4, 8))  # mostly in the header
    extreme = rng.choice(EXTREMES) % 256**width
    number = extreme.to_bytes(width, rng.choice(("little", "big")))
    text = rng.choice(TEXTS).encode(errors="surrogatepass")
    changed: list[bytes] = [
        *(head, head + tail, rest + head, content[:end] + rest, head + text + tail),
        *(head + rng.randbytes(rng.choice((1, 2, 3, 100))) + rest, rng.choice(BOMS) + content),
        head + other[rng.randint(0, len(other)) :],
        content[:at] + number + content[at + width :],
        with_odd_number(rng, content),
    ]
    if size:
        changed.append(flip_bit(content, rng.randrange(size), rng.randrange(8)))
    return rng.choice(changed)


def with_odd_number(rng: Random, content: bytes) -> bytes:
    """One of the decimal numbers in the bytes replaced by an odd one."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content[:100_000]))
    if not found:
        return content
    start, end = rng.choice(found).span()
    return content[:start] + rng.choice(NUMBERS).encode() + content[end:]


def corrupt_lines(rng: Random, text: str, separator: str) -> str:
    """Lines of fields with some line or field left out, doubled, swapped or made odd."""
    lines = [line.split(separator) for line in text.splitlines()]
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(lines))
        line = lines[place]
        start = rng.randint(0, len(line))
        odd = rng.choice(NUMBERS + TEXTS)
        shuffled = rng.sample(line, len(line))
        left_out, replaced = (
            line[:start] + line[start + 1 :],
            [*line[:start], odd, *line[start + 1 :]],
        )
        lines[place : place + 1] = rng.choice(
            ([[]], [line, line], [shuffled], [left_out], [replaced], [[*line, odd]])
        )
    ends = rng.choice(("\n", "\n", "\r\n", "\r", "\n\n", "\x0b"))
    return ends.join(separator.join(line) for line in lines) + rng.choice(("\n", ""))


def encoded(rng: Random, text: str) -> bytes:
    """Text as bytes: mostly UTF-8, sometimes another encoding or with a byte-order mark."""
    others = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1")
    encoding = rng.choice(("utf-8",) * 8 + others)
    return text.encode(encoding, errors="replace" if encoding == "latin-1" else "surrogatepass")


def corrupt_json(rng: Random, value: Any) -> bytes:
    """The value as JSON after 1 to 3 changes of its structure."""
    value = json.loads(json.dumps(value))  # a copy
    for _ in range(rng.randint(1, 3)):
        value = _changed_value(rng, value)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    for number, raw in enumerate(RAW):
        text = text.replace(f'"@{number}@"', raw)
    if rng.random() < 0.2:  # a key twice
        text = re.sub(r'("\w+"): ?([^,{}\[\]]+)', r"\1: \2, \1: null", text, count=1)
    return encoded(rng, text)


def _changed_value(rng: Random, value: Any) -> Any:
    """The value with one place in it changed: itself, or one further down."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return corrupt_value(rng, value)
    key: Any = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
    change = rng.randrange(8)
    if change == 0:
        del value[key]
    elif change == 1 and isinstance(value, list):
        value.append(value[key])
    elif change == 1 and isinstance(value, dict):
        value[rng.choice(TEXTS)] = value.pop(key)
    else:
        value[key] = _changed_value(rng, value[key])
    return value


def corrupt_value(rng: Random, value: Any) -> Any:
    """Something in the place of a value, mostly close to it."""
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.5:
        sized = (2**31, 2**63, 10**400, 1e308, math.pi, -1, 0)
        return rng.choice((-value, value + 1, value * 10**9, repr(value)[:40], *sized))
    if isinstance(value, str) and rng.random() < 0.4:
        changed = (value * 2, value[:-1], value.upper(), value + "\0", value.swapcase())
        return rng.choice((*changed, [value]))
    plain: tuple[Any, ...] = (
        None,
        True,
        False,
        [],
        {},
        [[]],
        {"": None},
        -1,
        0.5,
        10**30,
        [value],
        {"a": value},
    )
    raw = [f"@{number}@" for number in range(len(RAW))]
    return rng.choice((*plain, *NUMBERS, *TEXTS, *raw))
