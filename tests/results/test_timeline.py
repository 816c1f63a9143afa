"""The figure of one recording: what is drawn, from numbers that are known."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from support.figures import check_text_layout

from lungsound.data.sound import array_sound
from lungsound.results import timeline
from lungsound.results.timeline import (
    Cycle,
    plot_cycles,
    plot_timeline,
    recording_log_mel,
    step_edges,
)
from lungsound.signal.features import Features

RATE = 4000
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 7 * RATE + 99).astype(np.float32)
FEATURES = Features(RATE, 256, 200, 12, 0.0, 2000.0, 1e-11, "segment")
# Two members, three cycles; the last one in time comes first.
MEMBERS = pd.DataFrame({
    "start_seconds": [4.0, 0.0, 1.0] * 2,
    "end_seconds": [6.0, 1.0, 2.0] * 2,
    "member": [1, 1, 1, 2, 2, 2],
    "p_normal": [0.9, 0.2, 0.6, 0.7, 0.4, 0.8],
    "p_ill": [0.1, 0.8, 0.4, 0.3, 0.6, 0.2],
})  # fmt: skip
TABLE = MEMBERS[:3][["start_seconds", "end_seconds"]].assign(abnormal=[False, True, False])
NAN = np.nan


def figure(title: str = "a.wav", table: pd.DataFrame = TABLE) -> Figure:
    log_mel = recording_log_mel(array_sound(NOISE, RATE), FEATURES)
    return plot_timeline(log_mel, 7.0, FEATURES.corner_hz.numpy(), MEMBERS, table, title)


def test_steps_bands_and_winners() -> None:
    panel = figure().axes[1]
    steps = [one.get_data() for one in panel.patches if isinstance(one, StepPatch)]
    for step in steps:
        assert step.edges.tolist() == [0, 1, 2, 4, 6]
    band, mean, best = steps[:3]  # of the first class: normal
    np.testing.assert_allclose(mean.values, [0.3, 0.7, NAN, 0.8])
    np.testing.assert_allclose(band.baseline, [0.2, 0.6, NAN, 0.7])
    np.testing.assert_allclose(band.values, [0.4, 0.8, NAN, 0.9])
    np.testing.assert_allclose(best.values, [NAN, 0.7, NAN, 0.8])
    np.testing.assert_allclose(steps[5].values, [0.7, NAN, NAN, NAN])
    np.testing.assert_allclose(steps[6].values, [1.05, NAN, NAN, NAN])  # above the threshold


def test_the_legend_names_only_what_is_drawn() -> None:
    mark = "abnormal at the run's threshold"
    assert mark in check_text_layout(figure())
    assert mark not in check_text_layout(figure(table=TABLE.assign(abnormal=False)))


@pytest.mark.parametrize("title", ["a.wav", f"{'x$' * 80}.wav: ensemble of 8"])
def test_axes_and_names(title: str) -> None:
    texts = check_text_layout(figure(title))
    assert {"time (s)", "frequency (Hz)", "probability", "normal", "ill", "250"} <= set(texts)
    joined = {"".join(text.split()).replace("\\", "") for text in texts}
    assert "".join(title.split()) in joined


@pytest.mark.parametrize(("columns", "piece"), [(10**6, 10**6), (10**6, 7), (40, 7), (7, 40)])
def test_the_log_mel_of_pieces_is_that_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, columns: int, piece: int
) -> None:
    monkeypatch.setattr(timeline, "MAX_COLUMNS", columns)
    monkeypatch.setattr(timeline, "PIECE_FRAMES", piece)
    whole = FEATURES.log_mel(torch.from_numpy(NOISE)[None])[0].numpy()
    pooled = -(-whole.shape[1] // columns)
    starts = range(0, whole.shape[1], pooled)
    expected = [whole[:, start : start + pooled].mean(axis=1) for start in starts]
    found = recording_log_mel(array_sound(NOISE, RATE), FEATURES)
    np.testing.assert_allclose(found, np.stack(expected, axis=1), rtol=0, atol=1e-5)
    assert found.shape[1] <= columns


def test_a_recording_shorter_than_a_frame_has_a_floor() -> None:
    found = recording_log_mel(array_sound(NOISE[:99], RATE), FEATURES)
    assert found == pytest.approx(np.full((12, 1), -11.0))


def test_annotated_cycles_have_numbers_and_classes() -> None:
    cycles = [Cycle(0, 0.5, 2, "normal"), Cycle(2, 2, 3.5, "wheeze"), Cycle(3, 5, 6, "normal")]
    labels = ("normal", "crackle", "wheeze")
    log_mel, corners = np.zeros((12, 9)), FEATURES.corner_hz.numpy()
    drawn = plot_cycles(log_mel, 7.0, corners, cycles, labels, 2, "a")
    texts = check_text_layout(drawn)
    assert texts.count("normal") == texts.count("wheeze") == 1
    upper, lower = drawn.axes[:2]
    assert [line.get_xdata()[0] for line in upper.lines] == [0.5, 2, 5, 6, 2, 3.5]
    places = {text.get_text(): text.get_position()[0] for text in lower.texts}
    assert places == {"0": 1.25, "2": 2.75, "3": 5.5}
    spans = {(box.get_x(), box.get_width()): box for box in lower.patches}
    assert {place: box.get_alpha() for place, box in spans.items()} == {
        (0.5, 1.5): timeline.FAINT, (5, 1): timeline.FAINT, (2, 1.5): 1
    }  # fmt: skip
    colors = [tuple(box.get_facecolor())[:3] for box in spans.values()]
    expected = [to_rgb(timeline.COLORS[place]) for place in (0, 0, 2)]
    np.testing.assert_allclose(colors, expected)
    assert "no cycle is annotated" in check_text_layout(
        plot_cycles(log_mel, 7.0, corners, [], labels, None, "a")
    )


@pytest.mark.parametrize(
    ("spans", "edges", "rows"),
    [
        ([(0, 3), (1, 4), (1.5, 4.5)], [0, 2, 2.75, 4.5], [0, 1, 2]),  # overlapping windows
        ([(0, 3), (1, 4), (5, 6)], [0, 2, 4, 5, 6], [0, 1, -1, 2]),
        ([(1, 2)], [1, 2], [0]),
        ([(0, 9), (2, 3), (10, 11)], [0, 2.5, 3, 10, 11], [0, 1, -1, 2]),  # one within another
    ],
)
def test_overlapping_windows_meet_in_the_middle(
    spans: list[tuple[float, float]], edges: list[float], rows: list[int]
) -> None:
    assert step_edges(spans) == (edges, rows)
