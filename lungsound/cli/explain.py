"""`lungsound explain`: where in a recording, in time and frequency, the answer comes from."""

from pathlib import Path

import click

from lungsound.cli.completion import user_path


@click.command()
@click.argument("run", type=user_path)
@click.argument("file", type=user_path)
@click.option(
    "--label", metavar="LABEL", help="One of the run's classes; by default each window's own."
)
@click.option(
    "--window", default=3.0, show_default=True, help="Seconds of a window, about a breath."
)
@click.option(
    "--to", type=user_path, metavar="PNG", help="The figure. By default FILE-explained.png, here."
)
def explain(run: Path, file: Path, label: str | None, window: float, to: Path | None) -> None:
    """Draw which parts of a recording speak for a class and which against it.

    RUN is the run's folder below outputs. The recording is divided into equal windows of about the
    given length. Each value of the log-mel gets its integrated gradient: what it adds to the
    ensemble's probability, compared with the average log-mel. Probabilities are no diagnosis, and
    an explanation shows what the networks use, not what a lung does.
    """
    from lungsound.cli.explain_recording import explain_recording

    explain_recording(run, file, label, window, to or Path(f"{file.stem}-explained.png"))
