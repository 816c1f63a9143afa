"""What a figure shows."""

from itertools import combinations
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def check_text_layout(figure: Figure) -> list[str]:
    """Every text that the figure shows; fails if two overlap or one leaves the figure."""
    drawn: list[tuple[str, Bbox]] = []
    draw = Text.draw

    def note(text: Text, renderer: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            drawn.append((text.get_text(), text.get_window_extent(renderer)))
        draw(text, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", note)
        figure.draw_without_rendering()
    for (one, box), (other, other_box) in combinations(drawn, 2):
        width = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
        height = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
        assert min(width, height) <= 0.5, f"{one!r} and {other!r} overlap"
    for text, box in drawn:
        right, top = figure.bbox.x1 + 1, figure.bbox.y1 + 1  # 1: rounding
        is_inside = min(box.x0, box.y0) >= -1 and box.x1 <= right and box.y1 <= top
        assert is_inside, f"{text!r} leaves the figure"
    return [text for text, _ in drawn]
