"""`lungsound study`: rewrite reports of studies; list and remove stored trajectories."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import click

from lungsound.cli.completion import user_path


def folder_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --store and --outputs to `command`."""
    for name, key in (("outputs", "output_dir"), ("store", "store_dir")):
        option = click.option(
            f"--{name}", type=user_path, default=name, metavar="PATH", help=f"{key} of the runs."
        )
        command = option(command)
    return command


@click.group()
def study() -> None:
    """Studies, and the stored trajectories that their runs share."""


@study.command()
@click.argument("folder", metavar="STUDY", type=user_path)
def report(folder: Path) -> None:
    """Write the tables and figures of STUDY again, from its runs' stored predictions."""
    from lungsound.studies.report import rewrite_report

    print(rewrite_report(folder))


@study.command()
@folder_options
def ls(store: Path, outputs: Path) -> None:
    """List the stored trajectories with their sizes, ages and runs.

    The exit code is 1 if a run cannot be read.
    """
    from lungsound.studies.store_admin import list_trajectories

    lines, unreadable = list_trajectories(store, outputs)
    print(lines)
    if unreadable:
        sys.exit("\n".join(unreadable))


@study.command()
@folder_options
def du(store: Path, outputs: Path) -> None:
    """Print the size of each part of the store."""
    from lungsound.studies.store_admin import disk_usage

    print(disk_usage(store, outputs))


@study.command()
@folder_options
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
def rm(store: Path, outputs: Path, keys: tuple[str, ...]) -> None:
    """Remove trajectories: runs that need them train again.

    KEY is a trajectory's name in `lungsound study ls`, or `damaged` for all quarantined files.
    """
    from lungsound.studies.store_admin import remove_trajectories

    print(remove_trajectories(store, outputs, list(keys)))


@study.command(hidden=True)
@click.argument("plan", metavar="PLAN", type=user_path)
@click.argument("trajectory", metavar="KEY")
def work(plan: Path, trajectory: str) -> None:
    """Train a trajectory of PLAN and finish its runs, until stdin is closed: for a launcher."""
    from lungsound.studies.work import train_trajectory

    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # Slurm's warning is for the launcher's worker

    def stop_with_parent() -> None:
        os.read(sys.stdin.fileno(), 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_with_parent, daemon=True).start()
    train_trajectory(plan, trajectory)
