"""`lungsound export`: a finished run's ensemble as one file for other programs."""

from pathlib import Path

import click

from lungsound.cli.completion import user_path

SUFFIXES = {"torch": ".pt2", "onnx": ".onnx"}


@click.command()
@click.argument("run", type=user_path)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(list(SUFFIXES)),
    help="torch.export.load's, or ONNX for onnxruntime and others; by default FILE's suffix tells.",
)
@click.option(
    "--to",
    "file",
    type=user_path,
    metavar="FILE",
    help="The new file; one that is there is replaced. By default ensemble.pt2 or ensemble.onnx.",
)
def export(run: Path, file_format: str | None, file: Path | None) -> None:
    """Export a finished run's ensemble, front end included, to a file that needs no lungsound.

    RUN is the run's folder below outputs. The file maps waveforms [B, L] of whole segments at the
    run's rate to probabilities [B, K]. Cycles are cut and padded to segments before; the
    description in the file has L, rate, padding and labels. A model card, FILE.card.md, is written
    beside it: data, protocol, scores and what it must not be used for.
    """
    from lungsound.errors import ConfigError
    from lungsound.results.card import model_card
    from lungsound.results.export import export_onnx, export_torch
    from lungsound.results.folder import RunFolder
    from lungsound.results.members import load_members
    from lungsound.storage.files import write_user_file

    formats = [file_format] if file_format else list(SUFFIXES)
    file = file or Path(f"ensemble{SUFFIXES[formats[0]]}")
    allowed = " or ".join(f"{SUFFIXES[name]} (--format {name})" for name in formats)
    formats = [name for name in formats if SUFFIXES[name] == file.suffix]
    if not formats:
        raise ConfigError(f"--to: expected a name in {allowed}, but got {file}")
    folder = RunFolder(run)
    parts = load_members(folder)
    card = model_card(folder)
    content = export_onnx(parts) if formats == ["onnx"] else export_torch(parts)
    for path, data in ((file, content), (file.with_name(f"{file.name}.card.md"), card.encode())):
        write_user_file(path, data)
        print(path)
