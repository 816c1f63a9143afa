"""Log-mels against scipy, librosa and arithmetic by hand."""

import math
from typing import Any

import librosa
import numpy as np
import pytest
import scipy.signal
import torch
from torchaudio.functional import melscale_fbanks

from lungsound.signal.features import Features
from lungsound.signal.mel import mel_bank, mel_corners, triangular_filters
from lungsound.signal.spectrum import power_spectral_density

RATE_HZ = 22_000
Floats = np.ndarray[Any, np.dtype[np.float64]]
PAPER: dict[str, Any] = {
    "sample_rate": RATE_HZ, "n_fft": 512, "hop": 512, "n_mels": 50,
    "f_min": 0.0, "f_max": 7500.0, "floor": 1e-11,
}  # fmt: skip


def features(normalization: str = "segment") -> Features:
    return Features(**PAPER, normalization=normalization)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tone(hertz: float, seconds: float = 1.0) -> torch.Tensor:
    seconds_of_samples = torch.arange(round(seconds * RATE_HZ), dtype=torch.float64) / RATE_HZ
    return (0.3 * torch.sin(2 * math.pi * hertz * seconds_of_samples)).float()


def scipy_density(waveforms: torch.Tensor, n_fft: int = 512, hop: int = 512) -> Floats:
    """[B, n_fft // 2 + 1, N] in float64."""
    samples = waveforms.double().numpy()
    overlap = n_fft - hop
    _, _, density = scipy.signal.spectrogram(
        samples, RATE_HZ, "hann", n_fft, overlap, detrend=False, scaling="density"
    )
    return np.asarray(density)


def librosa_bank(n_mels: int, f_min: float, f_max: float, n_fft: int, rate: int) -> Floats:
    return librosa.filters.mel(
        sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max, htk=True, norm=None,
        dtype=np.float64,
    )  # fmt: skip


def reference_log_mel(waveforms: torch.Tensor) -> Floats:
    """[B, 50, N] by scipy and librosa in float64."""
    bank = librosa_bank(50, 0, 7500, 512, RATE_HZ)
    return np.asarray(np.log10(bank @ scipy_density(waveforms) + 1e-11))


@pytest.mark.parametrize(("n_fft", "hop"), [(512, 512), (512, 128), (64, 100), (63, 63)])
def test_density_is_scipys(n_fft: int, hop: int) -> None:
    waveforms = noise(3, 4001) + 0.2  # an offset, so that the bin at 0 Hz counts
    density = power_spectral_density(waveforms, RATE_HZ, n_fft, hop)
    starts = range(0, 4001 - n_fft + 1, hop)
    assert density.shape == (3, n_fft // 2 + 1, len(starts))
    for frame, start in enumerate(starts):
        expected = scipy_density(waveforms[:, start : start + n_fft], n_fft, n_fft)[..., 0]
        np.testing.assert_allclose(density[..., frame], expected, rtol=1e-4, atol=1e-11)


def test_the_density_of_white_noise_adds_up_to_its_power() -> None:
    waveforms = noise(4, 200 * 512)
    total = power_spectral_density(waveforms, RATE_HZ, 512, 512).mean(-1).sum(-1) * RATE_HZ / 512
    np.testing.assert_allclose(total, waveforms.square().mean(-1), rtol=0.02)


@pytest.mark.parametrize("bank", [(50, 0, 7500, 512, 22_000), (20, 50, 1900, 256, 4000)])
def test_the_bank_is_librosas_and_ours(bank: tuple[int, float, float, int, int]) -> None:
    *mels, n_fft, rate = bank
    expected = librosa_bank(*bank)
    np.testing.assert_allclose(mel_bank(*bank), expected, atol=1e-4)
    ours = triangular_filters(mel_corners(*mels), n_fft, rate)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize(("rate", "n_fft"), [(22_000, 512), (4000, 256), (44_100, 2048)])
def test_the_bank_has_the_bits_of_torchaudios(rate: int, n_fft: int) -> None:
    top = min(7500.0, rate / 2)
    theirs = melscale_fbanks(n_fft // 2 + 1, 0.0, top, 50, rate, norm=None, mel_scale="htk")
    assert torch.equal(mel_bank(50, 0, top, n_fft, rate), theirs.T)


def test_log_mel_is_scipys_and_librosas() -> None:
    waveforms = torch.stack([noise(9 * RATE_HZ), 1e-4 * noise(9 * RATE_HZ, seed=1), tone(440, 9)])
    log_mels = features().log_mel(waveforms)
    assert log_mels.shape == (3, 50, 386)
    np.testing.assert_allclose(log_mels, reference_log_mel(waveforms), atol=2e-3)
    np.testing.assert_allclose(log_mels[:2], reference_log_mel(waveforms[:2]), atol=1e-4)


@pytest.mark.parametrize("band", [2, 10, 25, 49])
def test_a_tone_lands_in_its_band(band: int) -> None:
    top = 2595 * math.log10(1 + 7500 / 700)
    peak = 700 * (10 ** ((band + 1) * top / 51 / 2595) - 1)
    assert features().log_mel(tone(peak)[None]).mean(-1).argmax() == band


@pytest.mark.parametrize("alpha", [0.9, 1.1])
def test_a_warped_band_hears_the_warped_tone(alpha: float) -> None:
    peak = float(mel_corners(50, 0, 7500)[31])
    waveforms = torch.stack([tone(peak), tone(alpha * peak)])
    assert peak * alpha < 3200  # below F_hi the warp is a factor
    warps = torch.tensor([1.0, alpha]), torch.tensor([3500.0, 3500.0])
    log_mels = features().log_mel(waveforms, *warps)
    assert log_mels.mean(-1).argmax(-1).tolist() == [30, 30]
    assert features().log_mel(waveforms)[1].mean(-1).argmax() != 30


def test_items_that_are_not_warped_keep_the_plain_bank() -> None:
    waveforms = noise(3, RATE_HZ)
    plain = features()(waveforms)
    warps = torch.tensor([1.0, 0.93, 1.0]), torch.tensor([0.0, 3400.0, torch.nan])
    mixed = features()(waveforms, *warps)
    np.testing.assert_allclose(mixed[[0, 2]], plain[[0, 2]], atol=1e-5)
    assert (mixed[1] - plain[1]).abs().max() > 0.1


def test_the_scope_segment_by_hand() -> None:
    waveforms = torch.stack([noise(RATE_HZ), 1e-3 * noise(RATE_HZ, seed=1) + tone(300)])
    expected = reference_log_mel(waveforms)
    expected -= expected.mean((1, 2), keepdims=True)
    expected /= expected.std((1, 2), keepdims=True)
    np.testing.assert_allclose(features()(waveforms), expected, atol=2e-3)


def test_a_segments_spread_is_that_of_all_its_values() -> None:
    """Divided by their number, as numpy does: with one less, two frames' spread would differ."""
    log_mel = features()(noise(1, 2 * 512))
    assert log_mel.shape == (1, 50, 2)
    np.testing.assert_allclose(log_mel.numpy().std(), 1, atol=1e-5)


@pytest.mark.parametrize(("scope", "axes"), [("band", (0, 2)), ("global", (0, 1, 2))])
def test_the_scopes_with_statistics_by_hand(scope: str, axes: tuple[int, ...]) -> None:
    level = torch.logspace(-3, 0, 7)[:, None]
    training, other = level * noise(7, RATE_HZ), noise(2, RATE_HZ, seed=1)
    fitted = features(scope)
    fitted.fit_statistics([training[:1], training[1:4], training[4:]])
    log_mels = reference_log_mel(training)
    mean, std = log_mels.mean(axes, keepdims=True), log_mels.std(axes, keepdims=True)
    np.testing.assert_allclose(fitted.mean, mean[0], rtol=1e-5)
    np.testing.assert_allclose(fitted.std, std[0], rtol=1e-4)
    np.testing.assert_allclose(fitted(other), (reference_log_mel(other) - mean) / std, atol=1e-3)
    loaded = features(scope)
    loaded.load_state_dict(fitted.state_dict())
    assert torch.equal(loaded(other), fitted(other))


def test_statistics_that_were_not_fitted_cannot_pass() -> None:
    assert features("band")(noise(1, 1024)).isnan().all()
    with pytest.raises(ValueError, match="got none"):
        features("global").fit_statistics([])
    with pytest.raises(ValueError, match="`segment` has no statistics"):
        features("segment").fit_statistics([noise(1, 1024)])


@pytest.mark.parametrize("scope", ["segment", "band", "global"])
def test_silence_becomes_zero(scope: str) -> None:
    silence = torch.zeros(2, 4096)
    module = features(scope)
    if scope != "segment":
        module.fit_statistics([silence])
    assert module(silence).abs().max() < 1e-4


def test_autocast_changes_nothing() -> None:
    inputs = noise(2, 8192), torch.tensor([0.9, 1.0]), torch.tensor([3300.0, 3300.0])
    expected = features()(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(features()(*inputs), expected)


def test_the_same_batch_gives_the_same_bits_and_is_left_as_it_was() -> None:
    waveforms, warps = (
        noise(8, 9 * RATE_HZ),
        (torch.linspace(0.9, 1.1, 8), torch.full((8,), 3500.0)),
    )
    before = waveforms.clone()
    assert torch.equal(features()(waveforms, *warps), features()(waveforms, *warps))
    assert torch.equal(waveforms, before)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 512 samples, but got 511"):
        features()(noise(1, 511))
    with pytest.raises(ValueError, match="got 'clip'"):
        features("clip")
