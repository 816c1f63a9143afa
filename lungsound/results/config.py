"""config.yaml of a finished run, read without running code."""

from typing import Any

import yaml


def parse_config(content: bytes) -> dict[str, Any]:
    """Return the groups and keys of a configuration.

    Raises ValueError for YAML aliases, tags and interpolations: they could read the environment or
    exhaust memory.
    """
    text = content.decode()
    if any(isinstance(token, yaml.AliasToken | yaml.TagToken) for token in yaml.scan(text)):
        raise ValueError("expected plain values, but got an alias or a tag")
    values = yaml.safe_load(text)
    if "${" in str(values):
        raise ValueError("expected plain values, but got an interpolation")
    if not isinstance(values, dict):
        raise ValueError("expected groups of keys")
    return values
