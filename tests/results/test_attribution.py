"""Integrated gradients: they sum to the change of the probability, and lie where they belong."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lungsound import Ensemble
from lungsound.results import attribution
from lungsound.results.attribution import attribute_chunks, frame_numbers, gather_frames
from lungsound.signal.segments import SegmentSpec

N_FFT, HOP = 4, 2


@pytest.fixture(scope="module")
def ensemble(finished_run: Path) -> Ensemble:
    return Ensemble.load(finished_run)


@pytest.fixture(scope="module")
def chunks(ensemble: Ensemble) -> torch.Tensor:
    samples = np.random.default_rng(0).normal(0, 0.1, (2, ensemble.segments.length))
    return ensemble.chunks(list(samples.astype(np.float32)))


@pytest.mark.slow
def test_values_sum_to_the_change_of_the_probability(
    ensemble: Ensemble, chunks: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribution, "STEPS", 300)  # the sum is equal in the limit
    for label in range(len(ensemble.labels)):
        values = attribute_chunks(ensemble.members, chunks, label).sum((1, 2))
        changes = torch.zeros(len(chunks))
        for member in ensemble.members:
            with torch.no_grad():
                change = member(chunks).softmax(-1) - member(torch.zeros_like(chunks)).softmax(-1)
            changes += change[:, label] / len(ensemble.members)
        assert changes.abs().max() > 0.005
        torch.testing.assert_close(values, changes, rtol=0.01, atol=2e-4)


def test_other_weights_give_another_map(finished_run: Path, chunks: torch.Tensor) -> None:
    """Adebayo et al., "Sanity checks for saliency maps", 2018."""
    trained = Ensemble.load(finished_run).members
    randomized = Ensemble.load(finished_run).members
    torch.manual_seed(0)
    for member in randomized:
        for parameter in member.parameters():
            parameter.data = parameter.data[torch.randperm(len(parameter))]
    maps = [attribute_chunks(one, chunks, 0).flatten().numpy() for one in (trained, randomized)]
    again = attribute_chunks(trained, chunks, 0).flatten().numpy()
    np.testing.assert_allclose(again, maps[0], atol=1e-6)
    assert abs(np.corrcoef(maps)[0, 1]) < 0.5


@pytest.mark.parametrize(
    ("samples", "padding", "expected"),
    [
        # Segments of 8 samples: frames of samples 0-3, 2-5 and 4-7, the chunk has all three.
        (8, "sample", [[0, 1, 2]]),
        (12, "sample", [[0, 1, 2], [4, 0, 0]]),  # then samples 8-11, 10-11 and 0-1, 0-3
        (4, "sample", [[0, 0, 0]]),  # 0-3, 2-3 and 0-1, 0-3
        (4, "zero", [[0, -1, -1]]),
        (6, "zero", [[0, 1, -1]]),
        (4, "tile", [[0, -1, -1]]),
    ],
)
def test_frames_of_padded_segments(samples: int, padding: str, expected: list[list[int]]) -> None:
    segments = SegmentSpec(length=8, padding=padding, frames=3, chunks=1)
    assert frame_numbers(samples, segments, N_FFT, HOP).tolist() == expected


def test_chunks_divide_the_frames() -> None:
    segments = SegmentSpec(length=12, padding="sample", frames=5, chunks=2)
    assert frame_numbers(12, segments, N_FFT, HOP).tolist() == [[0, 1], [2, 3]]


def test_values_of_the_same_frame_are_added() -> None:
    values = torch.tensor([[[1.0, 2, 4]], [[8, 16, 32]]])  # two chunks of one band
    numbers = torch.tensor([[0, 1, 2], [0, 0, -1]])
    assert gather_frames(values, numbers, 3).tolist() == [[12.5, 1, 2]]
