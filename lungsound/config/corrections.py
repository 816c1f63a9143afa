"""Corrections of command lines: unknown keys, dashes and spaces, texts that Hydra cannot read."""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from difflib import SequenceMatcher
from typing import Any, get_origin, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Quote, QuotedString

from lungsound.config.schema import CONFIG_DIR, Config
from lungsound.errors import ConfigError
from lungsound.storage.places import SQLITE

FLAGS = {
    *("-h", "--help", "--hydra-help", "--version", "--resolve", "-sc", "--shell-completion"),
    *("-r", "--run", "-m", "--multirun"),
}
VALUE_FLAGS = {
    *("-c", "--cfg", "-p", "--package", "-i", "--info", "-cp", "--config-path"),
    *("-cn", "--config-name", "-cd", "--config-dir", "--experimental-rerun"),
}
DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2212"  # word processors make one of two hyphens


def _schema_types(part: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key below a dataclass, with its type."""
    for name, kind in get_type_hints(part).items():
        if is_dataclass(kind):
            yield from _schema_types(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", kind


KEYS = dict(_schema_types(Config))
TEXT_KEYS = {key for key, kind in KEYS.items() if kind in (str, str | None)}
MORE_DEVICES = ("trainer.devices", "trainer.num_nodes", "trainer.strategy")
LIST_KEYS = {key for key, kind in KEYS.items() if kind == list[str] | None}
TRUE_KEYS = {"plan", *(key for key, kind in KEYS.items() if kind is bool)}  # --key is key=true
# hydra/ has launchers, in Hydra's own group.
GROUPS = sorted({path.name for path in CONFIG_DIR.iterdir() if path.is_dir()} - {"hydra"})


def is_known(key: str) -> bool:
    """Return whether the schema has the key or block, or the key is below one of its dicts."""
    for known, kind in KEYS.items():
        is_below = get_origin(kind) is dict and key.startswith(f"{known}.")
        if key == known or known.startswith(f"{key}.") or is_below:
            return True
    return False


def describe_unknown_key(key: str) -> str:
    """Return what is wrong with a key that the schema lacks, and the nearest one."""
    if key == "plan":
        return "expected a key of a run, but plan=true is for sweep.py"
    if key in MORE_DEVICES:
        return (
            "expected one device per run, as one GPU trains this small network faster than several "
            "that wait for each other (docs/clusters.md): a study's runs use them side by side, "
            "with hydra/launcher=joblib, slurm or ray"
        )
    nearest = max([*KEYS, *GROUPS], key=lambda known: _likeness(key, known))
    return (
        f"expected a key that there is, but got a new one. The nearest is {nearest}; "
        "lungsound train --cfg job shows them all"
    )


def _likeness(key: str, known: str) -> float:
    """Return how alike two keys are, as a whole and without their blocks."""
    pairs = [(key, known), (key.rpartition(".")[2], known.rpartition(".")[2])]
    ratios = [SequenceMatcher(None, one.lower(), other).ratio() for one, other in pairs]
    return sum(ratios) + sum(one in other for one, other in pairs)


def unknown_keys(words: Sequence[str]) -> list[str]:
    """Return the errors of the words whose keys the schema lacks; Hydra's own keys are skipped."""
    errors = []
    for word in words:
        key = word.lstrip("+").partition("=")[0].rpartition("@")[2]  # of group@package the package
        is_other = re.match(r"hydra[./]|[_~]|$", key) or key in GROUPS
        if "=" in word and not is_other and not is_known(key):
            errors.append(f"{word}: {describe_unknown_key(key)}")
    return errors


def check_words(arguments: Sequence[str]) -> list[str]:
    """Return the arguments. Raises ConfigError, with a correction, for dashes and spaces.

    Raises it also for keys that the schema lacks: Hydra's message recommends +key.
    """
    corrected = _correct(arguments)
    errors = []
    if {"-sc", "--shell-completion"}.isdisjoint(corrected):  # its install=bash is no key
        errors = unknown_keys([word for word in corrected if not word.startswith(("-", "plan="))])
    for word in corrected:
        if word.startswith("plan=") and word.lower() not in ("plan=true", "plan=false"):
            errors.append(f"{word}: expected true or false")
    if corrected != list(arguments):
        lines = [f"expected key=value without dashes and spaces, but got: {shlex.join(arguments)}"]
        alone = [
            f"{word}: expected a value, as in {word}=VALUE"
            if word in {*KEYS, *GROUPS}
            else f"{word}: {describe_unknown_key(word)}"
            for before, word in _pairs(corrected)
            if before not in VALUE_FLAGS and not re.search("^[-~]|=", word)
        ]
        if not alone:
            lines.append(f"Right would be: {shlex.join(corrected)}")
        raise ConfigError("\n".join([*lines, *alone, *errors]))
    if errors:
        raise ConfigError("; ".join(errors))
    return corrected


def _correct(arguments: Sequence[str]) -> list[str]:
    words: list[str] = []
    previous = ""
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        is_flag = name in VALUE_FLAGS or argument in FLAGS
        if is_flag or (previous in VALUE_FLAGS and not equals):
            words.append(argument)
        elif name in FLAGS:
            words.append(name)  # such as --help=
        elif words and _goes_on(words[-1], previous, argument):
            separator = "" if "=" in words[-1] + argument else "="
            words[-1] = words[-1].removesuffix(":") + separator + argument
        elif word := argument.lstrip(DASHES):
            words.append(word)
        previous = argument
    pairs = _pairs(words)
    return [word if before in VALUE_FLAGS else _complete(word) for before, word in pairs]


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each word after the word before it."""
    return zip(["", *words], words, strict=False)


def _goes_on(word: str, previous: str, argument: str) -> bool:
    """Return whether the argument is the value of the word: key = 1, --key 1, key: 1."""
    if word in FLAGS or word.startswith("~") or "=" in argument[1:]:
        return False
    if argument.startswith("--") or argument.lstrip(DASHES) in {*KEYS, *GROUPS, *TRUE_KEYS}:
        return False
    if word in TRUE_KEYS and not argument.startswith("="):
        return argument.lower() in ("true", "false")
    name = word.removesuffix(":")
    is_key = previous.startswith(tuple(DASHES)) or name in GROUPS or name in KEYS
    return word.endswith("=") or ("=" not in word and (argument.startswith("=") or is_key))


def _complete(word: str) -> str:
    """Return group=word for the option of a group, an experiment's first, and key=true."""
    if word in TRUE_KEYS:
        return f"{word}=true"
    for group in ("experiment", *GROUPS):
        if (CONFIG_DIR / group / f"{word}.yaml").is_file():
            return f"{group}={word}"
    return word


def quote_text(parser: OverridesParser, word: str, sweeps: bool) -> str:
    """Return the word, quoted for Hydra if it sets a text that Hydra reads otherwise, or not.

    So are the texts of a list. `sweeps`: commas separate values, as on a sweep's command line.
    """
    key, _, text = word.partition("=")
    if key.lstrip("+") in LIST_KEYS and text.lower() != "null" and "],[" not in text:
        return _quote_list(parser, word)
    if key.lstrip("+") not in TEXT_KEYS or text[:1] in ("'", '"') or text.lower() == "null":
        return word
    try:
        (override,) = parser.parse_overrides([word])
        is_escaped = isinstance(override.value(), str) and "\\" in text
        is_same = str(override.value()) == text.strip() or is_escaped
        place = os.path.expanduser(text.removeprefix(SQLITE))
        is_path = os.path.exists(place)  # noqa: PTH110  # Path's raises for a long list
        if (override.is_sweep_override() and sweeps and not is_path) or is_same:
            return word
    except Exception:  # Hydra raises many types
        pass
    return f"{key}={QuotedString(text, Quote.double).with_quotes()}"


def _quote_list(parser: OverridesParser, word: str) -> str:
    key, _, text = word.partition("=")
    with suppress(Exception):  # as above
        (override,) = parser.parse_overrides([word])
        if text.startswith("[") or not isinstance(override.value(), str | ChoiceSweep):
            return word
    items = [item.strip("'\" ") for item in text.strip("[] ").split(",")]
    quoted = [QuotedString(item, Quote.double).with_quotes() for item in items]
    return f"{key}=[{','.join(quoted)}]"
