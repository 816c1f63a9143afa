"""The style that all figures share; no display is needed."""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from lungsound.storage.files import write_file

DARK, LIGHT = "#0b3c5d", "#d1701c"


def new_figure(width_inches: float, height_inches: float, title: str) -> Figure:
    """Return an empty figure with a canvas of its own: pyplot's is shared by parallel runs."""
    figure = Figure(figsize=(width_inches, height_inches), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    return figure


def score_panels(scores: Sequence[str], title: str, x_label: str) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure, and a panel per score (such as score_4); their x axis has whole numbers."""
    figure = new_figure(4.8 * len(scores) + 0.4, 4.4, title)
    panels = dict(zip(scores, figure.subplots(1, len(scores), squeeze=False)[0], strict=True))
    for score, panel in panels.items():
        panel.set_xlabel(x_label)
        panel.set_ylabel(f"{score.rpartition('_')[2]}-class ICBHI score")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.grid(axis="y", color="0.9")
    return figure, panels


def use_log_scale(panel: Axes) -> None:
    """Use a log scale: an early epoch's loss may be a hundred times the last one's."""
    panel.set_yscale("log")
    low, high = panel.get_ylim()
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 10 * low else MaxNLocator(6))
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.yaxis.set_minor_locator(NullLocator())


def write_figure(path: Path, figure: Figure) -> None:
    """Write a PNG."""
    write_file(path, png_bytes(figure))


def pdf_bytes(figure: Figure) -> bytes:
    """Return the figure as a PDF, without the time of day: equal figures have equal bytes."""
    buffer = io.BytesIO()
    _arrange(figure)
    figure.savefig(buffer, format="pdf", metadata={"CreationDate": None})
    return buffer.getvalue()


def png_bytes(figure: Figure) -> bytes:
    """Return the figure as a PNG."""
    buffer = io.BytesIO()
    _arrange(figure)
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _arrange(figure: Figure) -> None:
    """Lay the figure out once: each `savefig` would do it, and draw everything once more for it."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        with rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
            figure.set_layout_engine(None)
