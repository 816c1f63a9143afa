"""What the store holds, with sizes and ages: the trajectories, and the folders that are made once
and shared.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from lungsound.errors import LungsoundError
from lungsound.results.folder import RunFolder
from lungsound.storage.files import QUARANTINE_INFIX
from lungsound.training.trajectory import files_by_epoch, lock

QUARANTINED = "damaged"  # what was put aside, in the words of rm


def list_trajectories(store_dir: Path, output_dir: Path) -> str:
    """One line a trajectory: key, epochs, size, age, and the runs below `output_dir` that took
    members from it.
    """
    runs_by_key = runs_by_trajectory(output_dir)
    lines = [f"{'trajectory':18}{'epochs':>7}{'size':>11}{'age':>12}  runs"]
    for folder in trajectories(store_dir):
        epochs = max(files_by_epoch(folder, "resume-*.ckpt"), default=0)
        run_names = ", ".join(runs_by_key.get(folder.name, ["none here"]))
        lines.append(
            f"{folder.name:18}{epochs:7d}{format_size(folder):>11}{format_age(folder):>12}  {run_names}"
        )
    return "\n".join(lines)


def disk_usage(store_dir: Path, output_dir: Path) -> str:
    """One line for each kind of thing that is stored, and for each that was found damaged and put
    aside.
    """
    subfolders = sorted(path for path in store_dir.glob("*") if path.is_dir())
    lines = [f"{format_size(path):>11}  {path}" for path in (*subfolders, store_dir)]
    aside = find_quarantined(store_dir, output_dir)
    lines += [f"{format_size(path):>11}  {path}" for path in aside]
    return "\n".join(
        [*lines, "rm damaged removes what was put aside as damaged"] if aside else lines
    )


def remove_trajectories(store_dir: Path, output_dir: Path, keys: list[str]) -> str:
    """Remove trajectories by key, and with the key `damaged` all that was put aside.

    Raises LungsoundError, with nothing removed, for a key that is not there.
    """
    existing = {folder.name: folder for folder in trajectories(store_dir)}
    unknown = [key for key in keys if key not in (*existing, QUARANTINED)]
    if unknown:
        raise LungsoundError(
            f"{', '.join(unknown)}: expected keys of trajectories in {store_dir}, but they are not there. "
            "python -m lungsound.study ls lists them"
        )
    lines = []
    for path in find_quarantined(store_dir, output_dir) if QUARANTINED in keys else []:
        lines.append(f"removed {path}, {format_size(path)}")
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for key in dict.fromkeys(key for key in keys if key != QUARANTINED):
        with lock(existing[key]):
            lines.append(f"removed {key}, {format_size(existing[key])}")
            shutil.rmtree(existing[key])
    return "\n".join(lines)


def find_quarantined(*folders: Path) -> list[Path]:
    """The files and folders that were found damaged."""
    found = {path for folder in folders for path in folder.rglob(f"*{QUARANTINE_INFIX}*")}
    return sorted(path for path in found if found.isdisjoint(path.parents))


def trajectories(store_dir: Path) -> list[Path]:
    return sorted(path for path in (store_dir / "trajectories").glob("*") if path.is_dir())


def runs_by_trajectory(output_dir: Path) -> dict[str, list[str]]:
    users: dict[str, list[str]] = {}
    for path in sorted(output_dir.iterdir()) if output_dir.is_dir() else ():
        run = RunFolder(path)
        if run.metadata_path.exists():
            users.setdefault(run.trajectory_key(), []).append(path.name)
    return users


def format_size(path: Path) -> str:
    files = [path] if path.is_file() else iter_files(path)
    return f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB"


def format_age(path: Path) -> str:
    """Since the last file was written."""
    newest = max((file.stat().st_mtime for file in iter_files(path)), default=time.time())
    hours = (time.time() - newest) / 3600
    return f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.1f} hours"


def iter_files(path: Path) -> Iterator[Path]:
    return (file for file in path.rglob("*") if file.is_file())
