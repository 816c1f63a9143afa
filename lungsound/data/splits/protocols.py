"""The registry of split protocols. The protocols: random.py, patient.py, official.py, table.py."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from lungsound.data.splits.patient import patient_split
from lungsound.data.splits.random import random_split
from lungsound.data.splits.table import file_split

# A protocol takes the table of cycles and, as keyword arguments, those keys of the config group
# `split` that its signature names (and `root`, the database's folder). It returns the set of every
# cycle, "" for none, with the index of the table, and notes for the user.
Protocol = Callable[..., tuple[pd.Series, tuple[str, ...]]]

# Protocols for any database; those for one database are in its `DatabaseSpec`.
PROTOCOLS: dict[str, Protocol] = {
    "random": random_split,
    "patient": patient_split,
    "file": file_split,
}


def register_protocol(name: str, protocol: Protocol) -> None:
    """Make a protocol available as `split.protocol=NAME` for every database."""
    PROTOCOLS[name] = protocol


def protocol_keys(protocol: Protocol) -> dict[str, bool]:
    """Return keyword argument -> whether it is required, of a protocol."""
    parameters = list(inspect.signature(protocol).parameters.values())[1:]
    return {one.name: one.default is inspect.Parameter.empty for one in parameters}


def run_protocol(
    protocol: Protocol, cycles: pd.DataFrame, settings: Mapping[str, Any]
) -> tuple[pd.Series, tuple[str, ...]]:
    """Return the sets of `cycles`, and notes. The protocol gets only the `settings` it takes."""
    keys = protocol_keys(protocol)
    return protocol(cycles, **{key: settings[key] for key in keys if key in settings})
