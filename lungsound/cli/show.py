"""`lungsound show`: an annotated recording of a database, to look at and to listen to."""

from pathlib import Path
from typing import Any

import click

from lungsound.cli.completion import user_path
from lungsound.cli.data import database_argument


@click.command()
@database_argument
@click.argument("recording")
@click.argument("cycle", type=int, required=False)
@click.option("--to", "folder", type=user_path, default=".", metavar="FOLDER")
def show(spec: Any, path: Path, recording: str, cycle: int | None, folder: Path) -> None:
    """Plot a recording's spectrogram with its cycles; write a CYCLE as a wav.

    PATH is the database's folder (data.root). RECORDING is a name such as
    101_1b1_Al_sc_Meditron, CYCLE a number from 0 as in a run's predictions. FOLDER gets
    RECORDING.png, and RECORDING-CYCLE.wav: by default this folder.
    """
    from lungsound.cli.show_recording import show_recording

    for file in show_recording(spec, path, recording, cycle, folder):
        print(file)
