"""SpecAugment's masks against a loop over numpy, and their draws against the paper's ranges."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lungsound.signal.specaugment import draw_masks, mask_bands, mask_frames

BOUNDS = np.array([[0, 0], [0, 3], [2, 6], [5, 6]])


@pytest.mark.parametrize(("mask", "axis"), [(mask_bands, 0), (mask_frames, 1)])
def test_what_lies_between_the_bounds_is_0_and_nothing_else(
    mask: Callable[[Tensor, Tensor], Tensor], axis: int
) -> None:
    values = np.random.default_rng(0).normal(size=(4, 6, 6)).astype(np.float32)
    expected = values.copy()
    for item, (start, end) in zip(expected, BOUNDS, strict=True):
        for place in range(start, end):
            if axis == 0:
                item[place, :] = 0
            else:
                item[:, place] = 0
    given = torch.from_numpy(values)
    np.testing.assert_array_equal(mask(given, torch.from_numpy(BOUNDS)), expected)
    np.testing.assert_array_equal(given, values)  # log-mels may be kept for the next epoch


def test_widths_and_starts_are_uniform_up_to_the_ends() -> None:
    bounds = draw_masks(0, "band_mask", 1, 0, 20_000, widest=3, size=5)
    widths = bounds[:, 1] - bounds[:, 0]
    np.testing.assert_allclose(np.bincount(widths) / 20_000, [0.25] * 4, atol=0.02)
    for width in range(4):
        starts = np.bincount(bounds[widths == width, 0]) / np.sum(widths == width)
        np.testing.assert_allclose(starts, [1 / (6 - width)] * (6 - width), atol=0.03)


def test_a_mask_may_cover_all_but_no_more() -> None:
    assert draw_masks(0, "band_mask", 1, 0, 100, widest=4, size=4).max() == 4
    with pytest.raises(ValueError, match="high < 0"):
        draw_masks(0, "band_mask", 1, 0, 100, widest=9, size=4)


def test_draws_are_those_of_seed_purpose_epoch_and_batch() -> None:
    places = [(0, "a", 1, 2), (1, "a", 1, 2), (0, "b", 1, 2), (0, "a", 2, 2), (0, "a", 1, 3)]
    drawn = [draw_masks(*place, 8, 9, 20).tolist() for place in places]
    assert drawn == [draw_masks(*place, 8, 9, 20).tolist() for place in places]
    assert all(drawn.count(bounds) == 1 for bounds in drawn)
