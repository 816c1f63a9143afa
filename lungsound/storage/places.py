"""Paths and addresses that a user gives: `~`, defaults of the machine, no passwords."""

import os
import re
from urllib.parse import quote

from lungsound.errors import ConfigError

SQLITE = "sqlite:///"  # what follows is a path, character by character
URI_VARIABLE = "MLFLOW_TRACKING_URI"  # may have a password: it is used, and stored nowhere
SECRETS_HINT = (
    "For MLflow set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or "
    f"MLFLOW_TRACKING_TOKEN), or the whole address as {URI_VARIABLE}"
)
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


def without_secrets(address: str) -> str:
    """Return an address without password and token, and for a server without the user's name."""
    if address.startswith("sqlite:"):
        return address
    scheme, credentials, place = split_address(address)
    is_server = scheme.lower().startswith(("http", "databricks"))
    if credentials and scheme and not is_server:
        scheme += credentials.rstrip("@").partition(":")[0] + "@"
    if scheme.lower().startswith("http"):
        place = re.sub(r"\?.*", "", place, flags=re.DOTALL)
    return scheme + SECRET_PARAMETERS.sub("", place)


def split_address(address: str) -> tuple[str, str, str]:
    """Return scheme://, the credentials up to the last @ that may end them, and the rest.

    A password may have any character; without a colon, @ after the first / belongs to the path.
    """
    match = re.fullmatch(r"([\w+.-]+://)?([^/:]*:.*@|[^/]*@)?(.*)", address, re.DOTALL)
    scheme, credentials, place = match.groups("") if match else ("", "", address)
    return scheme, credentials, place


def quote_credentials(address: str) -> str:
    """Return an address that any library can parse: user and password may have / and @."""
    scheme, credentials, place = split_address(address)
    return scheme + quote(credentials[:-1], safe=":%") + credentials[-1:] + place


def remove_secrets(text: str) -> str:
    """Return a text, such as a file's, with each address as of `without_secrets`."""
    return re.sub(r"\b[a-zA-Z][\w+.-]*://[^\n\"]*", lambda match: without_secrets(match[0]), text)


def reject_secrets(address: str, key: str = "tracking.uri") -> None:
    """Raise ConfigError if the address has a password: it would be stored with every result."""
    public = without_secrets(address)
    if public != address:
        raise ConfigError(
            f"{key}={public}: expected no user, password or token in the address, which is stored "
            f"and printed. {SECRETS_HINT}"
        )
