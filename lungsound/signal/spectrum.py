"""Power spectral density of short frames."""

import torch
from torch import Tensor


def frame_count(samples: int, n_fft: int, hop: int) -> int:
    """Return the number of whole frames of `n_fft` samples, one every `hop` samples, not centred.

    Examples:
        >>> frame_count(9 * 22_000, n_fft=512, hop=512)
        386
    """
    return max(0, (samples - n_fft) // hop + 1)


def power_spectral_density(waveforms: Tensor, sample_rate: int, n_fft: int, hop: int) -> Tensor:
    """Compute one-sided power spectral densities per hertz: [B, L] -> [B, n_fft // 2 + 1, N].

    |X|² · 2 / (sample_rate · Σw²) with a periodic Hann window w; without the 2 at 0 Hz and at half
    the sample rate. Equals `scipy.signal.spectrogram(..., scaling="density", detrend=False)`.
    Raises ValueError for waveforms shorter than one frame.
    """
    if not frame_count(waveforms.shape[-1], n_fft, hop):
        samples = waveforms.shape[-1]
        raise ValueError(f"Expected waveforms of at least {n_fft} samples, but got {samples}")
    window = torch.hann_window(n_fft, dtype=waveforms.dtype, device=waveforms.device)
    # The density's factor, applied here because the window is smaller than the power.
    window *= (2 / (sample_rate * window.square().sum())).sqrt()
    spectrum = torch.fft.rfft(waveforms.unfold(-1, n_fft, hop) * window)  # [B, N, bins]
    power = torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)
    power[..., 0] /= 2
    if n_fft % 2 == 0:
        power[..., -1] /= 2
    return power.transpose(-1, -2)
