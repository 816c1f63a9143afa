"""Check, before any work, that results can be written, and MLflow's file locked."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lungsound.config.schema import Config
from lungsound.errors import StorageError
from lungsound.storage.locks import flock_error
from lungsound.storage.places import SQLITE


def ensure_writable(settings: Config) -> None:
    """Raise StorageError if output_dir, store_dir or MLflow's database cannot be used.

    That is if it is not writable, or if MLflow's database is on a file system without locks.
    """
    for key in ("output_dir", "store_dir"):
        value = getattr(settings, key)
        with translate_write_errors(key, value):
            Path(value).mkdir(parents=True, exist_ok=True)
            flock_error(Path(value))  # makes a file; without flock there is another lock
    uri = settings.tracking.uri
    database = Path(uri.removeprefix(SQLITE))
    if uri.startswith(SQLITE) and database.parent.is_dir():
        with translate_write_errors("tracking.uri", uri):
            # MLflow's own lock, and sqlite's.
            error = flock_error(database.parent) or flock_error(database.parent, posix=True)
            if database.exists() and not os.access(database, os.W_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(database))
        if error is not None:
            raise StorageError(
                f"tracking.uri={uri}: expected a place where files can be locked, but got: "
                f"{error.strerror}. Its file system has no locks: name a file on another disk, or "
                "a server, with tracking.uri=..."
            )


@contextmanager
def translate_write_errors(key: str, value: str) -> Iterator[None]:
    """Convert OSError in the block to a StorageError that names config key `key`."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{key}={value}: expected a place that can be made and written to, but got: "
            f"{error.strerror} ({error.filename or value}). Let this user write there, or name "
            f"another place with {key}=..."
        ) from error
