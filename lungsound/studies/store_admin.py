"""List, measure and remove the content of the store."""

import time
from collections.abc import Sequence
from pathlib import Path

from lungsound.errors import CorruptFileError, LungsoundError
from lungsound.results.folder import RunFolder
from lungsound.storage.files import QUARANTINE_INFIX, remove
from lungsound.training.trajectory_files import RESUME, files_by_epoch, lock

QUARANTINED = "damaged"  # stands for all quarantined files in `lungsound study rm`


def list_trajectories(store_dir: Path, output_dir: Path) -> tuple[str, list[str]]:
    """Return a line per trajectory, and an error per run of `output_dir` that cannot be read.

    A line is the key, epochs, size, age, and the trajectory's runs.
    """
    runs_by_key, unreadable = runs_by_trajectory(output_dir)
    lines = [f"{'trajectory':18}{'epochs':>7}{'size':>11}{'age':>12}  runs"]
    for folder in trajectories(store_dir):
        epochs = max(files_by_epoch(folder, RESUME), default=0)
        size, age = format_size(folder), format_age(folder)
        run_names = ", ".join(runs_by_key.get(folder.name, ["none here"]))
        lines.append(f"{folder.name:18}{epochs:7d}{size:>11}{age:>12}  {run_names}")
    return "\n".join(lines), unreadable


def disk_usage(store_dir: Path, output_dir: Path) -> str:
    """Return a line per subfolder of the store, and per quarantined file."""
    subfolders = sorted(path for path in store_dir.glob("*") if path.is_dir())
    quarantined = find_quarantined(store_dir, output_dir)
    paths = [*subfolders, store_dir, *quarantined]
    lines = [f"{format_size(path):>11}  {path}" for path in paths]
    if quarantined:
        lines.append(f"`lungsound study rm {QUARANTINED}` removes the quarantined files")
    return "\n".join(lines)


def remove_trajectories(store_dir: Path, output_dir: Path, keys: Sequence[str]) -> str:
    """Remove trajectories by key, and with the key `damaged` all quarantined files.

    Raises LungsoundError, before anything is removed, for a key that does not exist.
    """
    existing = {folder.name: folder for folder in trajectories(store_dir)}
    unknown = [key for key in keys if key not in (*existing, QUARANTINED)]
    if unknown:
        raise LungsoundError(
            f"{', '.join(unknown)}: expected keys of trajectories in {store_dir}, but there are no "
            "such ones. `lungsound study ls` lists them"
        )
    lines = []
    for key in dict.fromkeys(keys):
        if key == QUARANTINED:
            lines += [_remove(path, path) for path in find_quarantined(store_dir, output_dir)]
        else:
            with lock(existing[key]):
                lines.append(_remove(existing[key], key))
    return "\n".join(lines)


def _remove(path: Path, name: Path | str) -> str:
    line = f"removed {name}, {format_size(path)}"
    remove(path)
    return line


def find_quarantined(*folders: Path) -> list[Path]:
    """Find all quarantined files and folders."""
    found = {path for folder in folders for path in folder.rglob(f"*{QUARANTINE_INFIX}*")}
    return sorted(path for path in found if found.isdisjoint(path.parents))


def trajectories(store_dir: Path) -> list[Path]:
    """Return the folders of the stored trajectories."""
    return sorted(path for path in (store_dir / "trajectories").glob("*") if path.is_dir())


def runs_by_trajectory(output_dir: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Return trajectory key -> names of the runs that use it, and an error per corrupt run."""
    runs: dict[str, list[str]] = {}
    unreadable = []
    for path in sorted(output_dir.glob("*/")):
        run = RunFolder(path)
        try:
            if run.metadata_path.exists():
                runs.setdefault(run.trajectory_key(), []).append(path.name)
        except CorruptFileError as error:
            unreadable.append(f"not listed: {error}")
    return runs, unreadable


def format_size(path: Path) -> str:
    """Format the size of a file, or of all files in a folder."""
    return f"{sum(file.stat().st_size for file in list_files(path)) / 1e6:.1f} MB"


def format_age(path: Path) -> str:
    """Format the time since the newest file was written."""
    newest = max((file.stat().st_mtime for file in list_files(path)), default=time.time())
    hours = (time.time() - newest) / 3600
    return f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.1f} hours"


def list_files(path: Path) -> list[Path]:
    """List the file itself, or all files in a folder."""
    return [file for file in (path, *path.rglob("*")) if file.is_file()]
