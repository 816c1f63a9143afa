"""`lungsound export`: a finished run's ensemble as one file for other programs."""

from pathlib import Path

import click

from lungsound.storage.places import user_path


@click.command()
@click.argument("run", type=user_path)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["torch", "onnx"]),
    default="torch",
    show_default=True,
    help="For torch.export.load, or for onnxruntime and others.",
)
@click.option(
    "--to",
    "file",
    type=user_path,
    metavar="FILE",
    help="The new file; one that is there is replaced. By default ensemble.pt2 or ensemble.onnx.",
)
def export(run: Path, file_format: str, file: Path | None) -> None:
    """Export a finished run's ensemble, front end included, to a file that needs no lungsound.

    RUN is the run's folder below outputs. The file maps waveforms [B, L] of whole segments at the
    run's rate to probabilities [B, K]. Cycles are cut and padded to segments before; the
    description in the file has L, rate, padding and labels. A model card, card.md, is written
    beside it: data, protocol, scores and what it must not be used for.
    """
    from lungsound.errors import StorageError
    from lungsound.results.card import model_card
    from lungsound.results.export import export_onnx, export_torch
    from lungsound.results.folder import RunFolder
    from lungsound.results.members import load_members
    from lungsound.storage.files import write_file

    folder = RunFolder(run)
    parts = load_members(folder)
    card = model_card(folder)
    content = export_onnx(parts) if file_format == "onnx" else export_torch(parts)
    file = file or Path("ensemble.onnx" if file_format == "onnx" else "ensemble.pt2")
    for path, data in ((file, content), (file.with_name("card.md"), card.encode())):
        try:
            write_file(path, data)
        except StorageError as error:
            raise StorageError(f"{path} cannot be written: {error.__cause__} (--to)") from error
        print(path)
