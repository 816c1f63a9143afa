"""`lungsound predict`: a finished run's answers for recordings of one's own."""

import sys
from pathlib import Path

import click

from lungsound.cli.completion import user_path


@click.command()
@click.argument("run", type=user_path)
@click.argument("paths", metavar="FILE|FOLDER...", nargs=-1, required=True, type=user_path)
@click.option(
    "--cycles",
    type=user_path,
    metavar="FILE",
    help="Known cycles in place of windows: a table (csv) with the columns recording (the file's "
    "name, with or without its suffix), start_seconds and end_seconds.",
)
@click.option(
    "--out",
    type=user_path,
    default="predictions",
    show_default=True,
    metavar="DIR",
    help="The folder of the results; files that are there are replaced.",
)
@click.option(
    "--window", default=3.0, show_default=True, help="Seconds of a window, about a breath."
)
@click.option("--hop", default=1.0, show_default=True, help="Seconds from one window to the next.")
def predict(
    run: Path, paths: tuple[Path, ...], cycles: Path | None, out: Path, window: float, hop: float
) -> None:
    """Classify recordings of your own with a finished run.

    RUN is the run's folder below outputs. A FILE may be wav, flac, ogg, mp3 or aiff, mono or
    stereo, of any rate from 1 kHz and any length; of a FOLDER all such files in and below it are
    taken. DIR gets predictions.csv and a figure per recording. Probabilities are no diagnosis.

    A file that cannot be used is named, and the others go on: the exit code is then 1.
    """
    from lungsound.cli.predict_recordings import predict_recordings

    if not predict_recordings(run, paths, cycles, out, window, hop):
        sys.exit(1)
