"""Mixup against numpy's arithmetic, and its draws against the distribution of their share."""

import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest

from lungsound.signal.mixup import draw_mixup, mix


@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 5, 7)])
def test_each_item_is_mixed_with_its_partner(shape: tuple[int, ...]) -> None:
    draws = np.random.default_rng(0)
    values, partner = draws.normal(size=shape).astype(np.float32), draws.permutation(6)
    expected = np.array([0.3 * values[n] + 0.7 * values[partner[n]] for n in range(6)])
    mixed = mix(torch.from_numpy(values), torch.from_numpy(partner), torch.tensor(0.3))
    np.testing.assert_allclose(mixed, expected, rtol=0, atol=1e-6)


def test_a_share_of_1_changes_no_bit() -> None:
    values = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(mix(values, torch.arange(6).flip(0), torch.tensor(1.0)), values)


def test_partners_are_permutations_and_shares_of_the_beta_distribution() -> None:
    pairs = [draw_mixup(0, 1, batch, 8, 0.4) for batch in range(500)]
    assert all(sorted(partner) == list(range(8)) for partner, _ in pairs)
    first = np.bincount([partner[0] for partner, _ in pairs], minlength=8)
    assert first.min() > 30  # of 62 on average
    assert kstest([share for _, share in pairs], beta(0.4, 0.4).cdf).pvalue > 0.01


def test_draws_are_those_of_seed_epoch_and_batch() -> None:
    places = [(0, 1, 2), (1, 1, 2), (0, 2, 2), (0, 1, 3)]
    shares = [draw_mixup(*place, 8, 0.4)[1] for place in places]
    assert shares == [draw_mixup(*place, 8, 0.4)[1] for place in places]
    assert len(set(shares)) == 4
