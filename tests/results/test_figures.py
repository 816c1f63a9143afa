"""The figures show what was measured, without overlap, and can be read in grey."""

from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from support.figures import check_text_layout

from lungsound.results.examples import plot_preprocessing_examples
from lungsound.results.figures import STYLES, plot_annealing, plot_confusion, plot_ensemble_size
from lungsound.signal.features import Features
from lungsound.signal.segments import SegmentSpec
from lungsound.storage.figures import pdf_bytes, png_bytes
from lungsound.training.batches import Augmentation

COPIES = Augmentation(
    stretch="none",
    stretch_rate=(0.9, 1.1),
    vtlp_copies={"normal": 1},
    vtlp_alpha=(0.9, 1.1),
    vtlp_f_hi=(3200.0, 3800.0),
    redraw="once",
    roll=True,
)
SCORE, SYSTEM = "val/score_4", "test set, ensemble of 4"
RATE, LABELS = 22000, ("normal", "crackle", "wheeze", "both")


def history(periods: int, epochs: int) -> pd.DataFrame:
    t = np.arange(1, periods * epochs + 1)
    lr = 1e-4 / 2 * (np.cos(np.pi * ((t - 1) % epochs) / epochs) + 1)
    losses = {"train/loss": 1 / t, "val/loss": 2 / t}
    return pd.DataFrame({"epoch": t, "lr": lr, **losses, "val/score_4": 1 - 1 / t})


def summary(members: int, classes: int = 4) -> dict[str, Any]:
    draws = np.random.default_rng(members)

    def scores() -> dict[str, float]:
        names = ("score_4", "score_2") if classes == 4 else ("score_2",)
        return {name: float(draws.uniform(0.5, 0.9)) for name in names}

    def entry(**number: int) -> dict[str, Any]:
        return {**number, "val": scores(), "test": scores()}

    numbers = range(1, members + 1)
    return {
        "members": [entry(member=m) for m in numbers],
        "ensemble": [entry(members=m) for m in numbers],
        "single": entry(member=1),
    }


def features() -> Features:
    return Features(RATE, 512, 512, 50, 0.0, 7500.0, 1e-11, "segment")


def tones() -> dict[str, np.ndarray]:
    """A tone of 1000 Hz a class, from 0.7 s to longer than the segment of 3 s."""
    lengths = (0.7, 1.5, 3.0, 4.2)
    return {
        label: np.sin(2 * np.pi * 1000 * np.arange(int(seconds * RATE)) / RATE).astype(np.float32)
        for label, seconds in zip(LABELS, lengths, strict=True)
    }


def page(padding: str = "sample", chunks: int = 2) -> Figure:
    segments = SegmentSpec(3 * RATE, padding, 128, chunks)
    return plot_preprocessing_examples(tones(), features(), segments, COPIES, 0, "SYNTHETIC demo")


def log_mel_panels(figure: Figure) -> list[list[tuple[Axes, AxesImage]]]:
    """Rows of panels with their log-mel; the last axes are the color bar's."""
    found = [(panel, panel.images[0]) for panel in figure.axes[:-1]]
    return [found[start : start + 5] for start in range(0, len(found), 5)]


def points(line: Line2D) -> tuple[list[float], list[float]]:
    x, y = np.asarray(line.get_data(), float).tolist()
    return x, y


FIGURES: dict[str, Callable[[], Figure]] = {
    "annealing 1": lambda: plot_annealing(history(1, 30), 30, "SYNTHETIC demo", [12], "val/loss"),
    "annealing 4": lambda: plot_annealing(history(4, 3), 3, "SYNTHETIC demo", [3, 5, 9, 12], SCORE),
    "annealing 10": lambda: plot_annealing(
        history(10, 20), 20, "SYNTHETIC demo", range(20, 201, 20), SCORE
    ),
    "annealing 120": lambda: plot_annealing(
        history(120, 2), 2, "SYNTHETIC demo", range(2, 241, 2), SCORE
    ),
    "members 1": lambda: plot_ensemble_size(summary(1), "SYNTHETIC demo"),
    "members 10": lambda: plot_ensemble_size(summary(10), "SYNTHETIC demo"),
    "members two classes": lambda: plot_ensemble_size(summary(4, 2), "SYNTHETIC demo"),
    "confusion 4": lambda: plot_confusion(
        [[3642, 9, 0, 1]] * 3 + [[0] * 4], LABELS, "SYNTHETIC demo", SYSTEM
    ),
    "confusion 2": lambda: plot_confusion(
        [[728, 12], [3, 4]], ("normal", "abnormal"), "SYNTHETIC demo", SYSTEM
    ),
    "examples": page,
}


@pytest.mark.parametrize("name", FIGURES)
def test_texts_do_not_overlap_and_axes_are_named(name: str) -> None:
    figure = FIGURES[name]()
    assert len(check_text_layout(figure)) > 5
    system = f"\n{SYSTEM}" if name.startswith("confusion") else ""
    assert figure.get_suptitle() == f"SYNTHETIC demo{system}"
    places = [(panel, panel.get_subplotspec()) for panel in figure.axes]
    assert all(panel.get_xlabel() for panel, place in places if place and place.is_last_row())
    assert all(panel.get_ylabel() for panel, place in places if place and place.is_first_col())
    assert any(place for _, place in places)


def test_annealing_curve_draws_the_history() -> None:
    table = history(4, 3)
    shuffled = table.sample(frac=1, random_state=0)
    upper, lower, lowest = plot_annealing(shuffled, 3, "", [2, 6, 9, 10], SCORE).axes
    values, edges, _ = upper.patches[0].get_data()  # type: ignore[attr-defined]
    np.testing.assert_allclose(values, table["lr"] * 1e4)
    assert upper.get_ylabel() == "learning rate ($10^{-4}$)"
    np.testing.assert_allclose(edges, np.arange(13) + 0.5)
    lines = {str(line.get_label()): line for line in lower.lines}
    epochs = table["epoch"].tolist()
    assert points(lines["training"]) == (epochs, table["train/loss"].tolist())
    assert points(lines["validation"]) == (epochs, table["val/loss"].tolist())
    assert points(lines["snapshot"]) == ([2, 6, 9, 10], [2 / 2, 2 / 6, 2 / 9, 2 / 10])
    borders = [points(line)[0][0] for name, line in lines.items() if name.startswith("_")]
    assert borders == [3.5, 6.5, 9.5]
    scores = {str(line.get_label()): line for line in lowest.lines}
    assert lowest.get_ylabel() == "4-class ICBHI score"
    assert points(scores["validation"]) == (epochs, table[SCORE].tolist())
    assert points(scores["snapshot"])[1] == table[SCORE].iloc[[1, 5, 8, 9]].tolist()
    assert len(plot_annealing(shuffled, 3, "", [2], "val/loss").axes) == 2
    (above,) = upper.child_axes
    assert [tick.get_text() for tick in above.get_xticklabels()] == ["1", "2", "3", "4"]
    assert (above.get_xticks().tolist(), above.get_xlabel()) == ([2, 5, 8, 11], "period")


@pytest.mark.parametrize(("classes", "scores"), [(4, ["score_4", "score_2"]), (2, ["score_2"])])
def test_members_curve_draws_every_score(classes: int, scores: list[str]) -> None:
    source = summary(5, classes)
    panels = plot_ensemble_size(source, "").axes
    assert len(panels) == len(scores)
    for panel, score in zip(panels, scores, strict=True):
        lines = {str(line.get_label()): line for line in panel.lines}
        for part, name in (("val", "validation"), ("test", "test")):
            for label, kind in (("first m members", "ensemble"), ("member m alone", "members")):
                scores_of_kind = [entry[part][score] for entry in source[kind]]
                assert points(lines[f"{label}, {name}"]) == ([1, 2, 3, 4, 5], scores_of_kind)


def test_the_best_member_is_marked_for_the_score_that_chooses_it() -> None:
    panels = plot_ensemble_size({**summary(5), "single": {"member": 2}}, "").axes
    label = "best on validation: member 2"
    lines = [[line for line in panel.lines if line.get_label() == label] for panel in panels]
    assert [len(found) for found in lines] == [1, 0]
    assert points(lines[0][0])[0] == [2, 2]


def test_an_undefined_score_is_a_gap() -> None:
    source = summary(3)
    source["ensemble"][1]["test"]["score_4"] = None
    lines = {str(line.get_label()): line for line in plot_ensemble_size(source, "").axes[0].lines}
    assert np.isnan(points(lines["first m members, test"])[1]).tolist() == [False, True, False]


def test_test_and_validation_differ_in_grey() -> None:
    (color, line, marker), (other_color, other_line, other_marker) = STYLES["test"], STYLES["val"]
    grey = [np.dot(to_rgb(value), (0.299, 0.587, 0.114)) for value in (color, other_color)]
    assert abs(grey[0] - grey[1]) > 0.2
    assert line != other_line
    assert marker != other_marker


def test_confusion_figure_shows_counts_and_row_shares() -> None:
    figure = plot_confusion([[6, 2], [0, 0]], ("normal", "abnormal"), "", "")
    panel = figure.axes[0]
    texts = [text.get_text() for text in panel.texts]
    assert texts == ["6\n75.0 %", "2\n25.0 %", "0\nno cycle", "0\nno cycle"]
    assert np.asarray(panel.images[0].get_array()).tolist() == [[0.75, 0.25], [0, 0]]
    rows = [label.get_text() for label in panel.get_yticklabels()]
    assert rows == ["normal\n(n = 8)", "abnormal\n(n = 0)"]


def test_a_tone_lies_at_its_tick() -> None:
    for row in log_mel_panels(page()):
        first = row[0][0]
        labels = [label.get_text() for label in first.get_yticklabels()]
        ticks = dict(zip(labels, first.get_yticks(), strict=True))
        for _, image in row[:2]:
            loudest = np.median(np.asarray(image.get_array()).argmax(axis=0))
            assert abs(loudest - ticks["1000"]) <= 0.5


def test_log_mels_last_as_long_as_their_sound() -> None:
    for waveform, row in zip(tones().values(), log_mel_panels(page()), strict=True):
        seconds = min(len(waveform) / RATE, 3.0)
        frame = 512 / RATE
        assert seconds - frame < row[0][1].get_extent()[1] <= seconds
        assert 3.0 - frame < row[1][1].get_extent()[1] <= 3.0
        assert row[0][0].get_xlim() == (0.0, 3.0)


def test_zero_padding_is_silent_after_the_cycle_and_sample_padding_is_not() -> None:
    floor = -11
    for padding, silent in (("zero", True), ("sample", False)):
        _, padded = log_mel_panels(page(padding))[0][1]
        tail = np.asarray(padded.get_array())[:, int(0.8 * RATE / 512) :]
        assert np.allclose(tail, floor) == silent
        assert (tail.max() < -10) == silent


def test_rolled_is_a_roll_of_the_copy_and_chunks_are_its_parts() -> None:
    for row in log_mel_panels(page(chunks=3)):
        copy, rolled, chunks = (np.asarray(image.get_array()) for _, image in row[2:])
        frames = round(float(row[3][0].get_title().split()[2]) * RATE / 512)
        np.testing.assert_array_equal(rolled, np.roll(copy, frames, axis=1))
        np.testing.assert_array_equal(chunks, rolled[:, : 128 // 3 * 3])
        borders = [points(line)[0][0] for line in row[4][0].lines]
        assert borders == pytest.approx([42 * 512 / RATE, 84 * 512 / RATE])
        assert row[4][0].get_title() == "3 chunks of 42 frames"


def test_the_seams_of_padding_are_explained() -> None:
    assert any("seam of the padding, not a crackle" in text.get_text() for text in page().texts)


def test_all_log_mels_share_one_color_scale() -> None:
    limits = {image.get_clim() for row in log_mel_panels(page()) for _, image in row}
    assert len(limits) == 1
    assert limits.pop()[0] == pytest.approx(-11)


def test_a_cycle_shorter_than_a_frame_is_said_to_be_so() -> None:
    click = {"crackle": np.ones(300, dtype=np.float32)}
    segments = SegmentSpec(3 * RATE, "sample", 128, 2)
    figure = plot_preprocessing_examples(click, features(), segments, COPIES, 0, "")
    assert [text.get_text() for text in figure.axes[0].texts] == ["shorter than one frame"]
    assert not figure.axes[0].images


def test_a_figure_is_laid_out_once_and_drawn_once_per_file(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def count(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def counted(*arguments: Any, **words: Any) -> Any:
            calls.append(name)
            return original(*arguments, **words)

        monkeypatch.setattr(owner, name, counted)

    count(Figure, "draw")
    count(ConstrainedLayoutEngine, "execute")
    figure = plot_confusion([[3, 1], [2, 4]], ("normal", "abnormal"), "a", SYSTEM)
    with matplotlib.rc_context({"figure.autolayout": True}):  # as a user's matplotlibrc may have
        png_bytes(figure)
        pdf_bytes(figure)
    assert calls == ["execute", "draw", "draw"]
