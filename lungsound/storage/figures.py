"""The style that all figures share; no display is needed."""

import io
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lungsound.storage.files import write_file

DARK, LIGHT = "#0b3c5d", "#d1701c"


def new_figure(width_inches: float, height_inches: float, title: str) -> Figure:
    """Return an empty figure with a canvas of its own: pyplot's is shared by parallel runs."""
    figure = Figure(figsize=(width_inches, height_inches), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    return figure


def write_figure(path: Path, figure: Figure) -> None:
    """Write a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_file(path, buffer.getvalue())
