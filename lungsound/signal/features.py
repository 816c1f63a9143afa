"""Waveforms to z-scored log-mels, batched, on the device of the module."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from lungsound.signal.mel import mel_bank, mel_corners
from lungsound.signal.spectrum import power_spectral_density
from lungsound.signal.vtlp import warped_mel_banks

# Normalization -> axes of log-mels [B, F, N] that its mean and standard deviation are taken over.
NORMALIZATION_AXES = {"segment": (1, 2), "band": (0, 2), "global": (0, 1, 2)}
ROLL_KEYS = ("roll", "test_rolls")
# A standard deviation below this, in decades of power, is rounding of a constant, e.g. silence.
MIN_STD = 1e-4


class Features(nn.Module):
    """Z-scored log-mels of segments.

    log10(mel bank · power density + floor), frames of `n_fft` samples every `hop`, `n_mels` bands
    from `f_min` to `f_max` in Hz (Nguyen & Pernkopf 2020, section III.A.3-4). `normalization` is
    the scope of mean and standard deviation. `segment`: each log-mel's own. `band` or `global`: one
    per band, or one for all, from `fit_statistics`, in the buffers `mean` and `std`; they are NaN
    before the fit, so that a forgotten fit is noticed. Computes in float32, also under autocast.
    Raises ValueError for an unknown normalization.
    """

    corner_hz: Tensor  # [n_mels + 2] Hz
    mel_fbank: Tensor  # [n_mels, bins]
    mean: Tensor  # [n_mels, 1] for `band`, [1, 1] for `global`
    std: Tensor

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build the front end from the block `features`, of which rolls are not its part."""
        return cls(**{name: x for name, x in settings.items() if name not in ROLL_KEYS})

    def __init__(
        self,
        sample_rate: int,
        n_fft: int,
        hop: int,
        n_mels: int,
        f_min: float,
        f_max: float,
        floor: float,
        normalization: str,
    ) -> None:
        super().__init__()
        if normalization not in NORMALIZATION_AXES:
            known = tuple(NORMALIZATION_AXES)
            raise ValueError(f"Expected a normalization of {known}, but got {normalization!r}")
        self.sample_rate, self.n_fft, self.hop = sample_rate, n_fft, hop
        self.floor, self.normalization = floor, normalization
        corners, bank = (
            mel_corners(n_mels, f_min, f_max),
            mel_bank(n_mels, f_min, f_max, n_fft, sample_rate),
        )
        self.register_buffer("corner_hz", corners, persistent=False)
        self.register_buffer("mel_fbank", bank, persistent=False)
        if normalization != "segment":
            shape = (n_mels if normalization == "band" else 1, 1)
            self.register_buffer("mean", torch.full(shape, torch.nan))
            self.register_buffer("std", torch.full(shape, torch.nan))

    def forward(
        self, waveforms: Tensor, alpha: Tensor | None = None, f_hi: Tensor | None = None
    ) -> Tensor:
        """Compute z-scored log-mels [B, n_mels, N] of waveforms [B, L]; the rest as `log_mel`."""
        log_mels = self.log_mel(waveforms, alpha, f_hi)
        if self.normalization == "segment":
            axes = NORMALIZATION_AXES["segment"]
            variance, mean = torch.var_mean(log_mels, axes, correction=0, keepdim=True)
            return log_mels.sub_(mean).div_(_safe_std(variance))
        return log_mels.sub_(self.mean).div_(self.std)

    def log_mel(
        self, waveforms: Tensor, alpha: Tensor | None = None, f_hi: Tensor | None = None
    ) -> Tensor:
        """Compute log-mels before the z-score, log10 of power per hertz: [B, L] -> [B, n_mels, N].

        `alpha` [B] and `f_hi` [B] in Hz warp each item's mel bank (VTLP); an item whose `alpha` is
        1 keeps the plain bank, whatever its `f_hi`. Give both or neither. Raises ValueError
        for waveforms shorter than one frame.
        """
        with torch.autocast(waveforms.device.type, enabled=False):
            rate, n_fft = self.sample_rate, self.n_fft
            density = power_spectral_density(waveforms.float(), rate, n_fft, self.hop)
            banks = self.mel_fbank
            if alpha is not None and f_hi is not None:
                warped = warped_mel_banks(self.corner_hz, alpha, f_hi, n_fft, rate)
                banks = torch.where((alpha == 1)[:, None, None], self.mel_fbank, warped)
            return torch.matmul(banks, density).add_(self.floor).log10_()

    def fit_statistics(self, batches: Iterable[Tensor]) -> None:
        """Fit mean and standard deviation to the log-mels of waveforms [B, L], without VTLP.

        `batches` must hold training cycles alone. Raises ValueError for normalization `segment`,
        which has no statistics, and if there are no batches.
        """
        if self.normalization == "segment":
            raise ValueError("Expected `band` or `global`: `segment` has no statistics to fit")
        axes = NORMALIZATION_AXES[self.normalization]
        count = 0
        mean = sum_of_squares = torch.zeros_like(self.mean, dtype=torch.float64)
        for waveforms in batches:
            log_mels = self.log_mel(waveforms)
            moments = torch.var_mean(log_mels, axes, correction=0, keepdim=True)
            variance, batch_mean = (part[0].double() for part in moments)
            # Merge two sets' means and sums of squares without cancellation (Chan et al. 1979).
            new = log_mels.numel() // self.mean.numel()
            delta = batch_mean - mean
            between = delta.square() * (count * new / (count + new))
            sum_of_squares = sum_of_squares + variance * new + between
            mean = mean + delta * (new / (count + new))
            count += new
        if not count:
            raise ValueError("Expected waveforms to fit the normalization on, but got none")
        self.mean.copy_(mean)
        self.std.copy_(_safe_std(sum_of_squares / count))


def _safe_std(variance: Tensor) -> Tensor:
    """Return the standard deviation to divide by: 1 for constant input, whose z-score is then 0."""
    std = variance.sqrt()
    return torch.where(std > MIN_STD, std, 1.0)
