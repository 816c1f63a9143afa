"""The figures of a study: the given numbers are what is drawn, nothing overlaps, and they can be
read in grey.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from support.figures import check_text_layout

from lungsound.signal.segments import PADDING_MODES
from lungsound.studies.figures import (
    COLORS,
    PADDING_STYLES,
    PAPER_COLOR,
    PAPER_LABEL,
    SPREAD_LABEL,
    learning_curves,
    score_against_length,
    score_against_members,
)

WHOLE = [f"{seconds}s" for seconds in range(3, 10)]
SPLIT = ["2x2s", "2x2.5s", "2x3s", "3x2s", "2x3.5s", "2x4s", "4x2s", "2x4.5s", "3x3s"]


def scored(rows: list[dict[str, Any]], std: float = 0.01) -> pd.DataFrame:
    """The rows with scores of their own; a standard deviation of NaN is what a single split has."""
    draws = np.random.default_rng(len(rows))
    table = pd.DataFrame(rows)
    for score, base in (("score_4", 0.6), ("score_2", 0.7)):
        table[score] = base + draws.uniform(0, 0.1, len(rows))
        table[f"{score}_std"] = std * (1 + np.arange(len(rows)) / 10)
    return table


def by_members(*keys: dict[str, str], most: int = 10, std: float = 0.01) -> pd.DataFrame:
    numbers = range(2, most + 1)
    return scored([{**key, "annealing.cycles": m} for key in keys or ({},) for m in numbers], std)


def by_length(std: float = 0.01) -> pd.DataFrame:
    segments = {"zero": WHOLE, "sample": WHOLE + SPLIT}
    rows = [{"padding": name, "segment": one} for name in segments for one in segments[name]]
    return scored(rows, std)


def without_four_classes(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=["score_4", "score_4_std"])


def paper_members() -> pd.DataFrame:
    m = np.arange(2, 11)
    return pd.DataFrame({"cycles": m, "score_2": 0.83 + m / 1000, "score_4": 0.77 + m / 1000})


def paper_length() -> pd.DataFrame:
    table = by_length()[["segment", "padding", "score_2", "score_4"]]
    split = np.where(table["segment"].str.contains("x"), "_split", "")
    return table.assign(arrangement=table.pop("padding") + split)


def history(epochs: int, seed: int = 0, score: str = "score_4", loss: float = 10.0) -> pd.DataFrame:
    t = np.arange(1, epochs + 1)
    values = np.random.default_rng(seed).uniform(0.5, 0.7, epochs)
    return pd.DataFrame(
        {"epoch": t, "val/loss": (1 + seed / 50) * loss / t, f"val/{score}": values}
    )


def histories(runs: int, epochs: int = 12) -> dict[str, pd.DataFrame]:
    return {f"padding=sample, split.seed={seed}": history(epochs, seed) for seed in range(runs)}


def lines(panel: Axes) -> dict[str, Line2D]:
    found = {str(line.get_label()): line for line in panel.lines}
    found |= {str(one.get_label()): one.lines[0] for one in panel.containers}  # type: ignore[attr-defined]
    return {label: line for label, line in found.items() if not label.startswith("_")}


def points(line: Line2D) -> tuple[list[float], list[float]]:
    x, y = np.asarray(line.get_data(), float).tolist()
    return x, y


def bars(panel: Axes, label: str = "this study") -> list[tuple[float, float, float]]:
    """(x, lower end, upper end) of every error bar of a series."""
    (series,) = [one for one in panel.containers if one.get_label() == label]
    segments = [bar for group in series.lines[2] for bar in group.get_segments()]  # type: ignore[attr-defined]
    return [
        (bar[0][0], bar[0][1], bar[1][1]) for bar in segments if np.isfinite(bar).all() and len(bar)
    ]


def legend(figure: Figure) -> list[str]:
    """The entries of the legend, its title first if it has one."""
    (one,) = figure.legends
    texts = [one.get_title(), *one.get_texts()]
    return [text.get_text() for text in texts if text.get_text() not in ("", "None")]


KEYS = [{"padding": name, "segment": one} for name in ("sample", "zero") for one in WHOLE[:6]]
LONG = [{"name": "a key with a value of many words " * 4}, {"name": "another one"}]
EVERY_PADDING = [
    {"padding": name, "segment": one} for name in (*PADDING_MODES, "mine") for one in WHOLE + SPLIT
]
MEMBERS = {
    "one line": (by_members(), [], paper_members()),
    "two lines": (by_members(*KEYS[::6]), ["padding"], None),
    "12 lines": (by_members(*KEYS), ["padding", "segment"], paper_members()),
    "one point": (by_members(most=2), [], None),
    "100 members": (by_members(most=100, std=np.nan), [], None),
    "two classes": (without_four_classes(by_members()), [], paper_members()),
    "long names": (by_members(*LONG), ["name"], None),
}
LENGTHS = {
    "lengths": (by_length(), paper_length()),
    "lengths of one split": (by_length(np.nan), None),
    "lengths of two classes": (without_four_classes(by_length()), paper_length()),
    "lengths of every padding": (scored(EVERY_PADDING), None),  # and one that a user adds
}
CURVES = {
    f"{n} curves": histories(n, epochs) for n, epochs in ((1, 1), (12, 200), (13, 12), (90, 12))
}


def draw(name: str) -> Figure:
    if name in MEMBERS:
        table, keys, paper = MEMBERS[name]
        return score_against_members(table, keys, "SYNTHETIC demo", paper)
    if name in LENGTHS:
        table, paper = LENGTHS[name]
        return score_against_length(table, "SYNTHETIC demo", paper)
    return learning_curves(CURVES[name], "SYNTHETIC demo")


@pytest.mark.parametrize("name", [*MEMBERS, *LENGTHS, *CURVES])
def test_figure_is_legible(name: str) -> None:
    figure = draw(name)
    assert len(check_text_layout(figure)) > 5  # and no text overlaps or leaves the figure
    assert figure.get_suptitle() == "SYNTHETIC demo"
    for panel in (panel for panel in figure.axes if panel.lines):
        assert panel.get_ylabel()
        assert panel.get_xlabel() or not panel.get_subplotspec().is_last_row()  # type: ignore[union-attr]
        (left, right), (low, high) = panel.get_xlim(), panel.get_ylim()
        assert len([tick for tick in panel.get_yticks() if low <= tick <= high]) >= 2
        ticks = [tick for tick in panel.get_xticks() if left <= tick <= right]
        assert ticks == [round(tick) for tick in ticks] != []
        series = lines(panel)
        for label, line in series.items():
            x, y = points(line)
            assert left < min(x) <= max(x) < right
            assert low < min(y) <= max(y) < high
            for _, lower, upper in bars(panel, label) if panel.containers else ():
                assert low < lower < upper < high
        if name in ("13 curves", "90 curves"):  # their colours are numbered by a colour bar
            continue
        looks = set()  # in grey, a series is known by its line or marker
        for line in series.values():
            hollow = line.get_markerfacecolor() == "white"
            looks.add((line.get_linestyle(), line.get_marker(), hollow))
        assert len(looks) == len(series)


def test_every_padding_has_a_style() -> None:
    assert set(PADDING_STYLES) == set(PADDING_MODES)


def test_neighbouring_lines_differ_in_lightness() -> None:
    grey = [np.dot(to_rgb(color), (0.299, 0.587, 0.114)) for color in (*COLORS, COLORS[0])]
    assert all(abs(one - other) > 0.14 for one, other in pairwise(grey))


def test_members_are_the_tables_scores_with_their_spread() -> None:
    table = by_members()
    figure = score_against_members(table.sample(frac=1, random_state=0), [], "", paper_members())
    assert legend(figure) == [SPREAD_LABEL, "this study", PAPER_LABEL]
    for panel, score in zip(figure.axes, ("score_4", "score_2"), strict=True):
        assert panel.get_ylabel().startswith(f"{score[-1]}-class")
        numbers = list(range(2, 11))
        assert points(lines(panel)["this study"]) == (numbers, table[score].tolist())
        assert points(lines(panel)[PAPER_LABEL]) == (numbers, paper_members()[score].tolist())
        assert lines(panel)[PAPER_LABEL].get_color() == PAPER_COLOR
        m, mean, std = table[["annealing.cycles", score, f"{score}_std"]].to_numpy().T
        np.testing.assert_allclose(bars(panel), np.transpose([m, mean - std, mean + std]))
        assert not bars(panel, PAPER_LABEL)


def test_one_line_for_each_combination_of_keys_in_the_tables_order() -> None:
    table = by_members(*KEYS, most=4)
    figure = score_against_members(table, ["padding", "segment"], "")
    names = [f"padding={key['padding']}, segment={key['segment']}" for key in KEYS]
    assert legend(figure) == [SPREAD_LABEL, *names]
    for key, name in zip(KEYS, names, strict=True):
        rows = table[(table["padding"] == key["padding"]) & (table["segment"] == key["segment"])]
        assert points(lines(figure.axes[1])[name]) == ([2, 3, 4], rows["score_2"].tolist())


@pytest.mark.parametrize(
    "table", [by_members(std=np.nan), by_members().drop(columns=["score_4_std", "score_2_std"])]
)
def test_a_single_split_has_no_spread(table: pd.DataFrame) -> None:
    figure = score_against_members(table, [], "")
    assert legend(figure) == ["this study"]
    assert not any(panel.collections for panel in figure.axes)


def test_missing_scores_are_gaps_without_bars() -> None:
    table = by_members(most=7)
    table.loc[[1, 3], ["score_4", "score_4_std"]] = np.nan
    panel = score_against_members(table, [], "").axes[0]
    _, y = points(lines(panel)["this study"])
    assert np.isnan(y).tolist() == [False, True, False, True, False, False]
    assert [x for x, _, _ in bars(panel)] == [2, 4, 6, 7]


def test_two_class_studies_have_one_panel() -> None:
    table = by_members()
    for one in (without_four_classes(table), table.assign(score_4=np.nan)):
        (panel,) = score_against_members(one, [], "", paper_members()).axes
        assert panel.get_ylabel() == "2-class ICBHI score"
        assert points(lines(panel)["this study"])[1] == table["score_2"].tolist()
    (panel,) = score_against_length(by_length().drop(columns="score_4"), "", paper_length()).axes
    assert panel.get_ylabel() == "2-class ICBHI score"


def test_own_labels_have_a_panel_and_a_curve_of_their_classes() -> None:
    table = by_members().rename(columns=lambda name: name.replace("_4", "_12"))
    panels = score_against_members(table, [], "").axes
    sizes = ["12-class ICBHI score", "2-class ICBHI score"]
    assert [panel.get_ylabel() for panel in panels] == sizes
    curves = history(4, score="score_12").assign(**{"val/score_2": 0.5})
    upper = learning_curves({"one": curves}, "").axes[0]
    assert upper.get_ylabel() == f"validation: {sizes[0]}"
    assert points(lines(upper)["one"])[1] == curves["val/score_12"].tolist()


def test_two_rows_for_one_point_are_refused() -> None:
    with pytest.raises(ValueError, match=r"this study: several rows at one annealing\.cycles"):
        score_against_members(by_members(*KEYS[:2]), [], "")


def test_length_draws_paddings_as_lines_and_chunks_as_points() -> None:
    table = by_length()
    figure = score_against_length(table.sample(frac=1, random_state=0), "", paper_length())
    chunks_2, chunks_3 = [one for one in SPLIT if one[0] == "2"], ["3x2s", "3x3s"]
    expected = {
        "sample padding": ("sample", WHOLE, [3, 4, 5, 6, 7, 8, 9]),
        "zero padding": ("zero", WHOLE, [3, 4, 5, 6, 7, 8, 9]),
        "sample, 2 chunks": ("sample", chunks_2, [4, 5, 6, 7, 8, 9]),
        "sample, 3 chunks": ("sample", chunks_3, [6, 9]),
        "sample, 4 chunks": ("sample", ["4x2s"], [8]),
    }
    papers = [f"{PAPER_LABEL}: {name}" for name in expected]
    assert legend(figure) == [SPREAD_LABEL, *expected, *papers]
    for panel, score in zip(figure.axes, ("score_4", "score_2"), strict=True):
        for name, (padding, segments, seconds) in expected.items():
            rows = table[table["padding"] == padding].set_index("segment").loc[segments]
            ours, theirs = lines(panel)[name], lines(panel)[f"{PAPER_LABEL}: {name}"]
            assert points(ours) == points(theirs) == (seconds, rows[score].tolist())
            ends = [rows[score] - rows[f"{score}_std"], rows[score] + rows[f"{score}_std"]]
            np.testing.assert_allclose([bar[1:] for bar in bars(panel, name)], np.transpose(ends))
            assert (ours.get_linestyle() == "None") == ("chunks" in name)
            assert theirs.get_marker() == ours.get_marker()
            assert theirs.get_linestyle() == ours.get_linestyle()
            assert theirs.get_color() == PAPER_COLOR


def test_bars_at_one_length_stand_beside_each_other() -> None:
    figure = score_against_length(by_length(), "")
    figure.draw_without_rendering()
    panel = figure.axes[0]
    (middle, _), (next_second, _) = panel.transData.transform([(6, 0.7), (7, 0.7)])
    places = []
    for chunks in (2, 3, 4):
        line = lines(panel)[f"sample, {chunks} chunks"]
        places.append(line.get_transform().transform((6, 0.7))[0])
    assert all(after - before > 5 for before, after in pairwise(places))
    assert places[-1] - middle < 0.4 * (next_second - middle)


def test_length_without_padding_and_a_name_that_tells_no_length() -> None:
    table = by_length(np.nan)
    figure = score_against_length(table[table["padding"] == "sample"].drop(columns="padding"), "")
    assert legend(figure) == ["not split", "2 chunks", "3 chunks", "4 chunks"]
    figure = score_against_length(table.replace({"segment": {"4x2s": "long", "5s": "5"}}), "")
    assert "sample, 4 chunks" not in legend(figure)
    assert points(lines(figure.axes[0])["sample padding"])[0] == [3, 4, 6, 7, 8, 9]
    with pytest.raises(ValueError, match="sample padding: several rows at one seconds"):
        score_against_length(pd.concat([table, table]), "")


def test_curves_draw_every_history() -> None:
    source = {f"annealing.cycles={m}": history(m * 3, m) for m in (2, 3, 4)}
    figure = learning_curves({name: table[::-1] for name, table in source.items()}, "")
    upper, lower = figure.axes
    assert (upper.get_ylabel()[:19], lower.get_yscale()) == ("validation: 4-class", "log")
    assert legend(figure) == list(source)
    for name, table in source.items():
        epochs = table["epoch"].tolist()
        assert points(lines(upper)[name]) == (epochs, table["val/score_4"].tolist())
        assert points(lines(lower)[name]) == (epochs, table["val/loss"].tolist())
        assert lines(lower)[name].get_markevery()[-1] == len(epochs) - 1  # type: ignore[index]
    heights = [lines(lower)[name].get_zorder() for name in source]
    assert heights == sorted(heights, reverse=True)


def test_runs_of_one_training_path_are_one_curve() -> None:
    table = history(12)
    source = {f"annealing.cycles={m}": table[: m * 3] for m in (2, 3, 4)}
    source |= {"annealing.cycles=4, select=last": table, "other": history(6, 1)}
    upper, lower = learning_curves(source, "").axes
    path = "annealing.cycles=4 (a marker ends each run)"
    assert list(lines(upper)) == list(lines(lower)) == [path, "other"]
    assert points(lines(upper)[path])[1] == table["val/score_4"].tolist()
    assert lines(upper)[path].get_markevery() == [5, 8, 11]


def test_curves_of_one_score_are_compared() -> None:
    both = history(4)
    both["val/score_2"] = pd.Series([0.7, None, 0.8, 0.9], dtype=object)  # as a history file has it
    runs = {"four": both, "two": history(4, 1, "score_2"), "none": pd.DataFrame()}
    upper = learning_curves(runs, "").axes[0]
    assert upper.get_ylabel() == "validation: 2-class ICBHI score"
    assert list(lines(upper)) == ["four", "two"]
    assert np.isnan(points(lines(upper)["four"])[1]).tolist() == [False, True, False, False]


@pytest.mark.parametrize("loss", [0.7, 10.0, 1000.0])
def test_the_loss_axis_has_readable_ticks(loss: float) -> None:
    figure = learning_curves({"one": history(3, loss=loss), "two": history(200, loss=loss)}, "")
    flat = history(3).assign(**{"val/loss": [loss, loss, loss * 1.01]})
    alone = learning_curves({"one": flat}, "")
    for one in (figure, alone):
        one.draw_without_rendering()
        panel = one.axes[1]
        low, high = panel.get_ylim()
        labels = panel.get_yticklabels()
        ticks = [one.get_text() for one in labels if low <= one.get_position()[1] <= high]
        assert 2 <= len(ticks) <= 12
        assert len(set(ticks)) == len(ticks)


@pytest.mark.parametrize(("runs", "ticks"), [(13, 7), (20, 7), (90, 9)])
def test_many_runs_have_numbers_in_place_of_names(runs: int, ticks: int) -> None:
    figure = learning_curves(histories(runs), "")
    upper, lower, bar = figure.axes
    assert not figure.legends
    assert len(upper.lines) == len(lower.lines) == runs
    assert len({str(line.get_color()) for line in upper.lines}) == runs
    assert bar.get_ylabel() == f"{runs} trainings, in the study's order"
    assert bar.get_yticks()[0] == 1
    assert len(bar.get_yticks()) == ticks
    grey = [np.dot(to_rgb(str(line.get_color())), (0.299, 0.587, 0.114)) for line in upper.lines]
    assert grey == sorted(grey)


def test_a_study_without_a_finished_run_draws_empty_axes() -> None:
    empty = by_members().iloc[:0]
    figures = (score_against_members(empty, [], "nothing"), learning_curves({}, "nothing"))
    for figure in (*figures, score_against_length(by_length().iloc[:0], "nothing")):
        figure.draw_without_rendering()
        assert figure.get_suptitle() == "nothing"
