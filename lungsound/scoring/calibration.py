"""Whether probabilities mean what they say; one temperature that mends them."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

Floats = NDArray[np.float64]
BINS = 10
MIN_PROBABILITY = 1e-12


def calibration_errors(probabilities: Floats, truth: NDArray[np.integer]) -> dict[str, float]:
    """Return NLL, Brier score and ECE of probabilities [n, K] for the classes `truth` [n].

    `nll`: mean of −log p of the true class. `brier`: mean of Σ (p − y)² over the classes (Brier
    1950), 0 to 2. `ece`: expected calibration error, see `reliability_bins`.
    """
    of_truth = probabilities[np.arange(len(truth)), truth]
    target = np.eye(probabilities.shape[1])[truth]
    confidence, accuracy, share = reliability_bins(probabilities, truth)
    return {
        "nll": float(-np.log(np.clip(of_truth, MIN_PROBABILITY, 1)).mean()),
        "brier": float(((probabilities - target) ** 2).sum(1).mean()),
        "ece": float((share * np.abs(confidence - accuracy)).sum()),
    }


def reliability_bins(
    probabilities: Floats, truth: NDArray[np.integer], bins: int = BINS
) -> tuple[Floats, Floats, Floats]:
    """Return mean confidence, accuracy and share of the cycles of each bin, least sure first.

    The confidence is the largest probability. Bins have equally many cycles, so that each of them
    says equally much (Nguyen and O'Connor 2015); their error is Σ share · |confidence − accuracy|.

    >>> p = np.array([[0.6, 0.4], [0.3, 0.7], [0.9, 0.1], [0.1, 0.9]])
    >>> [part.round(2).tolist() for part in reliability_bins(p, np.array([0, 0, 0, 1]), bins=2)]
    [[0.65, 0.9], [0.5, 1.0], [0.5, 0.5]]
    """
    confidence = probabilities.max(1)
    # Cycles of equal confidence are alike, whichever bin they fall into.
    _, tie = np.unique(confidence, return_inverse=True)
    is_right = np.bincount(tie, probabilities.argmax(1) == truth) / np.bincount(tie)
    is_right = is_right[tie]
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    means = [confidence[part].mean() for part in parts]
    accuracies = [is_right[part].mean() for part in parts]
    shares = [len(part) / len(order) for part in parts]
    return np.array(means), np.array(accuracies), np.array(shares)


def scale_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Return probabilities [n, K] with their logarithms divided by a temperature.

    Above 1 they become less sure (Guo et al., ICML 2017); the order of the classes stays.
    """
    logits = np.log(np.clip(probabilities, MIN_PROBABILITY, 1)) / temperature
    powers = np.exp(logits - logits.max(1, keepdims=True))
    scaled: Floats = powers / powers.sum(1, keepdims=True)
    return scaled


def fit_temperature(probabilities: Floats, truth: NDArray[np.integer]) -> float:
    """Return the temperature, from 0.05 to 20, that has the least NLL on these cycles."""

    def nll(log_temperature: float) -> float:
        scaled = scale_temperature(probabilities, float(np.exp(log_temperature)))
        return float(-np.log(np.clip(scaled[np.arange(len(truth)), truth], 1e-300, 1)).mean())

    found = minimize_scalar(nll, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x))
