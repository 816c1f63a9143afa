"""`lungsound export`: a finished run's ensemble as one file for other programs."""

from pathlib import Path

import click

from lungsound.storage.places import user_path


@click.command()
@click.argument("run", type=user_path)
@click.option(
    "--to",
    "file",
    type=user_path,
    default="ensemble.pt2",
    show_default=True,
    metavar="FILE",
    help="The new file; one that is there is replaced.",
)
def export(run: Path, file: Path) -> None:
    """Export a finished run's ensemble, front end included, to a file that needs torch alone.

    RUN is the run's folder below outputs. In Python, torch.export.load(FILE).module() maps
    waveforms [B, L] of whole segments at the run's rate to probabilities [B, K]. Cycles are cut and
    padded to segments before; the file's lungsound.json has L, rate, padding and labels.
    """
    from lungsound.errors import StorageError
    from lungsound.results.export import export_torch
    from lungsound.results.folder import RunFolder
    from lungsound.results.members import load_members
    from lungsound.storage.files import write_file

    content = export_torch(load_members(RunFolder(run)))
    try:
        write_file(file, content)
    except StorageError as error:
        raise StorageError(f"{file} cannot be written: {error.__cause__} (--to)") from error
    print(file)
