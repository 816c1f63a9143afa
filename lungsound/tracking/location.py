"""MLflow stores absolute paths of its files; correct them if the project has moved."""

import sqlite3
from contextlib import closing
from pathlib import Path

from mlflow.utils.file_utils import get_local_path_or_none

from lungsound.errors import StorageError

FILES_FOLDER = "mlruns"  # beside the database
# Table -> the columns of its key and of its files' address.
ADDRESSES = {
    "experiments": ("experiment_id", "artifact_location"),
    "runs": ("run_uuid", "artifact_uri"),
}


def files_root(location: str) -> Path | None:
    """Return the folder `mlruns` of an address; None if it is none of this machine's."""
    path = Path(get_local_path_or_none(location) or "")  # type: ignore[no-untyped-call,unused-ignore]
    return next((one for one in (path, *path.parents) if one.name == FILES_FOLDER), None)


def require_folder(location: str, experiment: str) -> None:
    """Raise StorageError if an experiment's own place is gone: MLflow would make it again."""
    path = get_local_path_or_none(location)  # type: ignore[no-untyped-call,unused-ignore]
    if path and not Path(path).parent.is_dir():
        raise StorageError(
            f"its experiment {experiment} keeps its files in {path}, but {Path(path).parent} does "
            "not exist. Bring it back, or name another with tracking.experiment=NAME"
        )


def has_moved(root: Path, database: Path) -> bool:
    """Return whether the files of `database` are no longer in `root`, its folder of before.

    If that has a database of its own, this one is a copy. What may not be read is not there.
    """
    here, original = database.parent / FILES_FOLDER, root.parent / database.name
    try:
        if root.resolve() == here.resolve():
            return False
        return not root.exists() or (original.exists() and not original.samefile(database))
    except OSError:
        return True


def correct_addresses(database: Path, root: Path) -> None:
    """Replace `root` by the folder beside the database.

    Runs whose files are not there keep their address.
    """
    here = database.parent / FILES_FOLDER
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, (key, column) in ADDRESSES.items():
            for name, location in connection.execute(f"SELECT {key}, {column} FROM {table}"):
                path = get_local_path_or_none(location)  # type: ignore[no-untyped-call,unused-ignore]
                if path is None or not Path(path).is_relative_to(root):
                    continue
                new = here / Path(path).relative_to(root)
                if table == "experiments" or new.exists():
                    update = f"UPDATE {table} SET {column} = ? WHERE {key} = ?"
                    connection.execute(update, (new.as_uri(), name))
    print(f"{root} is no longer where MLflow's files are: they are in {here} now", flush=True)
