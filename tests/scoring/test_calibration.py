"""Calibration: by hand, against torchmetrics and scikit-learn, and where the answer is known."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from lungsound.scoring.calibration import (
    calibration_errors,
    fit_temperature,
    reliability_bins,
    scale_temperature,
)

RNG = np.random.default_rng(0)


def drawn(cycles: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are true, and classes drawn from them; the first are then sharpened."""
    true = RNG.dirichlet(np.ones(4), cycles)
    truth = np.array([RNG.choice(4, p=row) for row in true])
    return scale_temperature(true, temperature), truth


def test_errors_by_hand() -> None:
    probabilities = np.array([[0.5, 0.5, 0.0], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.0, 1.0, 0.0]])
    truth = np.array([0, 1, 1, 1])
    found = calibration_errors(probabilities, truth)
    assert found["nll"] == pytest.approx(-np.log([0.5, 0.7, 0.1, 1.0]).mean())
    brier = [0.25 + 0.25, 0.04 + 0.09 + 0.01, 0.01 + 0.81 + 0.64, 0.0]
    assert found["brier"] == pytest.approx(np.mean(brier))
    # Four bins of one cycle: confidences 0.5, 0.7, 0.8, 1.0; the third is wrong.
    assert found["ece"] == pytest.approx((0.5 + 0.3 + 0.8 + 0.0) / 4)
    confidence, accuracy, share = reliability_bins(probabilities, truth, bins=2)
    assert confidence == pytest.approx([0.6, 0.9])
    assert accuracy.tolist() == [1.0, 0.5]
    assert share.tolist() == [0.5, 0.5]


def test_equal_bins_give_torchmetrics_error() -> None:
    """Confidences spread evenly over [0.5, 1]: bins of equal mass are bins of equal width."""
    confidence = 0.5 + (np.arange(1000) + 0.5) / 2000
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    truth = (RNG.uniform(size=1000) > 0.8).astype(np.int64)
    expected = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(truth), 2, n_bins=20
    )
    assert calibration_errors(probabilities, truth)["ece"] == pytest.approx(float(expected))


def test_the_temperature_that_spoiled_them_is_found() -> None:
    for temperature in (0.4, 1.0, 2.5):
        probabilities, truth = drawn(6000, temperature)
        found = fit_temperature(probabilities, truth)
        assert found == pytest.approx(1 / temperature, rel=0.1)
        mended = scale_temperature(probabilities, found)
        assert (mended.argmax(1) == probabilities.argmax(1)).all()
        after = calibration_errors(mended, truth)
        assert after["ece"] < 0.03
        assert after["nll"] == pytest.approx(log_loss(truth, mended, labels=range(4)))
        for other in (0.9 * found, 1.1 * found):
            worse = calibration_errors(scale_temperature(probabilities, other), truth)
            assert worse["nll"] > after["nll"]


def test_equal_confidences_do_not_depend_on_their_order() -> None:
    """100 cycles of p = 0.8, 80 of them right, the wrong ones last: calibrated."""
    probabilities, truth = np.tile([0.8, 0.2], (100, 1)), (np.arange(100) >= 80).astype(int)
    assert calibration_errors(probabilities, truth)["ece"] == pytest.approx(0, abs=1e-12)


def test_a_certain_mistake_is_finite() -> None:
    probabilities, truth = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1, 1])
    assert np.isfinite(list(calibration_errors(probabilities, truth).values())).all()
    assert fit_temperature(probabilities, truth) > 1
