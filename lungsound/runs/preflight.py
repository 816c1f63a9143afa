"""Check, before any work, that results can be written, and files locked."""

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lungsound.config.schema import Config
from lungsound.errors import StorageError
from lungsound.storage.locks import NO_LOCKS_ERRNOS, NO_LOCKS_HINT
from lungsound.storage.places import SQLITE


def ensure_writable(settings: Config) -> None:
    """Raise StorageError if output_dir, store_dir or MLflow's database cannot be used.

    That is if it is not writable, or on a file system without locks.
    """
    for key in ("output_dir", "store_dir"):
        value = getattr(settings, key)
        with translate_write_errors(key, value):
            Path(value).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=value) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    uri = settings.tracking.uri
    database = Path(uri.removeprefix(SQLITE))
    if uri.startswith(SQLITE) and database.parent.is_dir():
        with translate_write_errors("tracking.uri", uri):
            with tempfile.TemporaryFile(dir=database.parent) as file:  # as sqlite's journal is
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # MLflow's own
                fcntl.flock(file, fcntl.LOCK_UN)
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # sqlite's
            if database.exists() and not os.access(database, os.W_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(database))


@contextmanager
def translate_write_errors(key: str, value: str) -> Iterator[None]:
    """Convert OSError in the block to a StorageError that names config key `key`."""
    try:
        yield
    except OSError as error:
        hint = f"Let this user write there, or name another place with {key}=..."
        if error.errno in NO_LOCKS_ERRNOS:
            hint = f"{NO_LOCKS_HINT} with {key}=..."
        raise StorageError(
            f"{key}={value}: expected a place that can be made, written to and locked, but got: "
            f"{error.strerror} ({error.filename or value}). {hint}"
        ) from error
