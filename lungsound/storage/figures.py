"""Figures of one style, without a display."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DARK, LIGHT = "#0b3c5d", "#d1701c"


def new_figure(width_inches: float, height_inches: float, title: str) -> Figure:
    """Return an empty figure with its own canvas, not pyplot's, which parallel runs would share."""
    figure = Figure(figsize=(width_inches, height_inches), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    return figure
