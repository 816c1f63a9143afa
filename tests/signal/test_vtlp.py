"""VTLP against its formula in plain Python."""

import math

import numpy as np
import pytest
import torch

from lungsound.signal.mel import mel_bank, mel_corners, triangular_filters
from lungsound.signal.vtlp import warp, warped_mel_banks

NYQUIST = 11_000.0
RNG = np.random.default_rng(0)
DRAWS = [
    *((0.9, 3200.0), (0.9, 3800.0), (1.0, 3300.0), (1.1, 3200.0), (1.1, 3800.0)),
    *((float(RNG.uniform(0.9, 1.1)), float(RNG.uniform(3200, 3800))) for _ in range(40)),
]


def formula(f: float, alpha: float, f_hi: float) -> float:
    """Jaitly & Hinton (2013), section 3, as printed."""
    half = NYQUIST
    if f <= f_hi * min(alpha, 1) / alpha:
        return f * alpha
    return half - (half - f_hi * min(alpha, 1)) / (half - f_hi * min(alpha, 1) / alpha) * (half - f)


def warp_one(frequencies: list[float], alpha: float, f_hi: float) -> torch.Tensor:
    arrays = [np.array(each, dtype=np.float64) for each in (frequencies, alpha, f_hi)]
    return warp(*map(torch.from_numpy, arrays), NYQUIST)


@pytest.mark.parametrize(("alpha", "f_hi"), DRAWS)
def test_warp_is_the_formula_at_the_corner_frequencies(alpha: float, f_hi: float) -> None:
    mels = np.linspace(0, 2595 * math.log10(1 + 7500 / 700), 52)
    corners = [700 * (10 ** (mel / 2595) - 1) for mel in mels] + RNG.uniform(
        0, NYQUIST, 50
    ).tolist()
    expected = [formula(f, alpha, f_hi) for f in corners]
    np.testing.assert_allclose(warp_one(corners, alpha, f_hi), expected, rtol=1e-12, atol=1e-9)
    alphas, limits = torch.tensor([[alpha], [1.0]]), torch.tensor([[f_hi], [3500.0]])
    batch = warp(torch.tensor(corners), alphas, limits, NYQUIST)
    np.testing.assert_allclose(batch, [expected, corners], rtol=1e-6, atol=2e-3)  # float32, in Hz


@pytest.mark.parametrize(("alpha", "f_hi"), DRAWS)
def test_warp_is_continuous_rises_and_ends_at_half_the_sample_rate(
    alpha: float, f_hi: float
) -> None:
    boundary = f_hi * min(alpha, 1) / alpha
    below, above = warp_one([boundary - 1e-6, boundary + 1e-6], alpha, f_hi)
    assert float(below) == pytest.approx(f_hi * min(alpha, 1), abs=1e-5)
    assert float(above) == pytest.approx(float(below), abs=1e-5)
    every = warp_one(np.linspace(0, NYQUIST, 5001).tolist(), alpha, f_hi)
    steepest = max(alpha, (NYQUIST - f_hi * min(alpha, 1)) / (NYQUIST - boundary))
    assert bool((every.diff() > 0).all())
    assert bool((every.diff() <= steepest * NYQUIST / 5000 + 1e-9).all())
    assert float(every[0]) == 0
    assert float(every[-1]) == pytest.approx(NYQUIST)


def test_alpha_one_is_the_identity_bit_for_bit() -> None:
    corners = mel_corners(50, 0, 7500)
    hertz = torch.cat(
        [corners, NYQUIST * torch.rand(2000, generator=torch.Generator().manual_seed(0))]
    )
    for f_hi in (3200.0, 3333.3, 3800.0):
        assert torch.equal(warp(hertz, torch.tensor(1.0), torch.tensor(f_hi), NYQUIST), hertz)
    banks = warped_mel_banks(corners, torch.ones(2), torch.tensor([3200.0, 3800.0]), 512, 22_000)
    assert torch.equal(banks, triangular_filters(corners, 512, 22_000).expand(2, -1, -1))
    np.testing.assert_allclose(banks[0], mel_bank(50, 0, 7500, 512, 22_000), atol=1e-4)


def test_warped_banks_are_triangles_over_the_warped_corners() -> None:
    alpha, f_hi = torch.tensor(DRAWS).unbind(1)
    banks = warped_mel_banks(mel_corners(50, 0, 7500), alpha, f_hi, 512, 22_000)
    assert banks.shape == (len(DRAWS), 50, 257)
    bins = np.arange(257) * 22_000 / 512
    for bank, draw in zip(banks, DRAWS, strict=True):
        corners = [formula(float(f), *draw) for f in mel_corners(50, 0, 7500).double()]
        expected = [np.interp(bins, corners[band : band + 3], [0, 1, 0]) for band in range(50)]
        np.testing.assert_allclose(bank, expected, atol=1e-4)
