"""Mutations of bytes, lines and JSON: what the fuzzer makes of valid input."""

import json
import math
import re
from random import Random
from typing import Any

NUMBERS = (
    "0", "-1", "1e999", "-1e308", "1e-320", "nan", "NaN", "inf", "-Infinity", "9" * 400, "9" * 5000, "0x10", "1_0",
    "\u0661\u0662", "2147483648", "4294967295", "18446744073709551616", "0.1.2", "+", "1e", "00",
)  # fmt: skip
TEXTS = (
    "", " ", "\t", "\0", "a" * 3000, "../../etc/passwd", "/etc/passwd", "\u202e", "💥", "\ud800", "'", '"', "\x1b[31m",
    "${oc.env:HOME}", "!!python/object:os.system", "%s%n", "null", "true", "C:\\x", "a\nb", "\x85", "-0",
)  # fmt: skip
# Written into JSON as they are: json.dumps would refuse or mend them.
RAW = (
    "NaN", "-Infinity", "1e999", "9" * 5000, "[" * 3000 + "]" * 3000, '{"a":' * 2500 + "1" + "}" * 2500, "'x'", "tru",
    '"\\ud800"', '"\\x"', "1.", "{}{}", "//", '{"a":1,"a":2}',
)  # fmt: skip
EXTREMES = (
    0,
    1,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
    2**64 - 1,
)
BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0")


def mutate_bytes(rng: Random, content: bytes, other: bytes = b"", steps: int = 4) -> bytes:
    """The bytes after 1 to `steps` random changes; `other` is what is spliced in."""
    for _ in range(rng.randint(1, steps)):
        content = _changed(rng, content, other)
    return content


def _changed(rng: Random, content: bytes, other: bytes) -> bytes:
    size = len(content)
    at, to = sorted((rng.randint(0, size), rng.randint(0, size)))
    near = min(size, at + rng.choice((1, 2, 4, 8, 40)))
    match rng.randrange(11):
        case 0 if size:  # one bit
            place = rng.randrange(size)
            return (
                content[:place]
                + bytes([content[place] ^ (1 << rng.randrange(8))])
                + content[place + 1 :]
            )
        case 1:
            return content[:at]
        case 2:
            return content[:at] + rng.randbytes(rng.choice((1, 2, 3, 100))) + content[at:]
        case 3:
            return content[:at] + content[near:]
        case 4:  # a piece twice
            return content[:near] + content[at:]
        case 5:  # two halves swapped
            return content[at:to] + content[:at] + content[to:]
        case 6:
            return content[:at] + (other or content)[rng.randint(0, len(other or content)) :]
        case 7:  # an extreme binary number, over what is there: mostly in the first bytes, where headers are
            at = rng.randint(0, min(size, rng.choice((64, size))))
            width = rng.choice((1, 2, 4, 8))
            value = rng.choice(EXTREMES) % 256**width
            return (
                content[:at]
                + value.to_bytes(width, rng.choice(("little", "big")))
                + content[at + width :]
            )
        case 8:
            return with_odd_number(rng, content)
        case 9:
            return content[:at] + rng.choice(TEXTS).encode(errors="surrogatepass") + content[near:]
        case _:
            return rng.choice(BOMS) + content


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
        if not lines:
            break
        line = rng.choice(lines)
        field = rng.randrange(len(line)) if line else 0
        match rng.randrange(7):
            case 0:
                lines.remove(line)
            case 1:
                lines.insert(rng.randint(0, len(lines)), list(line))
            case 2:
                rng.shuffle(line)
            case 3 if line:
                line[field] = rng.choice(NUMBERS)
            case 4 if line:
                line[field] = rng.choice(TEXTS)
            case 5 if line:
                del line[field]
            case _:
                line.append(rng.choice(NUMBERS + TEXTS))
    ends = rng.choice(("\n", "\n", "\r\n", "\r", "\n\n", "\x0b"))
    return ends.join(separator.join(line) for line in lines) + rng.choice(("\n", ""))


def encoded(rng: Random, text: str) -> bytes:
    """Text as bytes: mostly UTF-8, sometimes another encoding or with a byte-order mark."""
    encoding = rng.choice(
        ("utf-8",) * 8 + ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1")
    )
    return text.encode(encoding, errors="replace" if encoding == "latin-1" else "surrogatepass")


def corrupt_json(rng: Random, value: Any, changes: int = 3) -> bytes:
    """The value as JSON after some changes of its structure."""
    value = json.loads(json.dumps(value))  # a copy
    for _ in range(rng.randint(1, changes) if changes else 0):
        value = _odd_place(rng, value)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    for raw in RAW:
        text = text.replace(f'"@{RAW.index(raw)}@"', raw)
    if rng.random() < 0.2:  # a key twice
        text = re.sub(r'("\w+"): ?([^,{}\[\]]+)', r"\1: \2, \1: null", text, count=1)
    return encoded(rng, text)


def _odd_place(rng: Random, value: Any) -> Any:
    """The value with one place in it changed: itself, or one further down."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return corrupt_value(rng, value)
    key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
    match rng.randrange(8):
        case 0:
            del value[key]
        case 1 if isinstance(value, list):
            value.append(value[key])
        case 1:
            value[rng.choice(TEXTS)] = value.pop(key)
        case _:
            value[key] = _odd_place(rng, value[key])
    return value


def corrupt_value(rng: Random, value: Any) -> Any:
    """Something in the place of a value, mostly close to it."""
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.5:
        sized = (2**31, 2**63, 10**400, 1e308, math.pi, -1, 0)
        return rng.choice((-value, value + 1, value * 10**9, repr(value)[:40], *sized))
    if isinstance(value, str) and rng.random() < 0.4:
        return rng.choice(
            (value * 2, value[:-1], value.upper(), value + "\0", [value], value.swapcase())
        )
    plain = (None, True, False, [], {}, [[]], {"": None}, -1, 0.5, 10**30, [value], {"a": value})
    return rng.choice((*plain, *NUMBERS, *TEXTS, *(f"@{number}@" for number in range(len(RAW)))))
