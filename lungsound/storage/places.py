"""Paths and addresses that a user gives: `~`, defaults of the machine, no passwords."""

import os
import re
from pathlib import Path

from lungsound.errors import ConfigError

SQLITE = "sqlite:///"  # what follows is a path, character by character
URI_VARIABLE = "MLFLOW_TRACKING_URI"  # may have a password: it is used, and stored nowhere
SECRET_PARAMETERS = re.compile(r"[?#].*(pass|pwd|token|secret|key).*", re.IGNORECASE | re.DOTALL)


def environment(name: str, default: str | None) -> str | None:
    """Return an environment variable, an address without its password; `default` if it is empty."""
    value = os.environ.get(name, "").strip()
    if name == URI_VARIABLE:
        value = without_secrets(value)
    return value or default


def expand_user(text: str) -> str:
    """Return a path, or the address of a sqlite file, with the folder that `~` stands for.

    Raises ConfigError if there is no such folder, or no path.
    """
    path = text.removeprefix(SQLITE)
    if not path.strip():
        raise ConfigError("expected a path or an address, but got none")
    expanded = os.path.expanduser(path)  # Path.expanduser raises RuntimeError
    if expanded.startswith("~"):
        user = path.partition("/")[0]
        raise ConfigError(
            f"expected a home folder for {user}, but this machine has none. Name the whole path, "
            f"or ./{user} for a folder of that name"
        )
    return text.removesuffix(path) + expanded


def user_path(text: str) -> Path:
    """Return the path of an argument of the command line; see `expand_user`."""
    return Path(expand_user(text))


def without_secrets(address: str) -> str:
    """Return an address without password and token, and for a server without the user's name."""
    if address.startswith("sqlite:"):
        return address
    credentials, at, address = address.rpartition("@")
    scheme, slashes, user = credentials.partition("://")
    if at and slashes:
        is_server = scheme.lower().startswith(("http", "databricks"))
        name = "" if is_server else user.partition(":")[0] + at
        address = f"{scheme}{slashes}{name}{address}"
    return SECRET_PARAMETERS.sub("", address)


def reject_secrets(address: str) -> None:
    """Raise ConfigError if the address has a password: it would be stored with every result."""
    public = without_secrets(address)
    if public != address:
        raise ConfigError(
            f"tracking.uri={public}: expected no user, password or token in the address, which is "
            "stored and printed. Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or "
            f"MLFLOW_TRACKING_TOKEN), or the whole address as {URI_VARIABLE}"
        )
