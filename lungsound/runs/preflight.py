"""Check, before any work, that results can be written."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lungsound.config.schema import Config
from lungsound.errors import StorageError
from lungsound.storage.places import SQLITE


def ensure_writable(settings: Config) -> None:
    """Raise StorageError if output_dir, store_dir or MLflow's database is not writable."""
    for key in ("output_dir", "store_dir"):
        value = getattr(settings, key)
        with translate_write_errors(key, value):
            Path(value).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=value).close()
    uri = settings.tracking.uri
    database = Path(uri.removeprefix(SQLITE))
    if uri.startswith(SQLITE) and database.parent.is_dir():
        with translate_write_errors("tracking.uri", uri):
            tempfile.TemporaryFile(dir=database.parent).close()  # sqlite puts its journal there
            if database.exists() and not os.access(database, os.W_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(database))


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
