"""What all figures of log-mels share: seconds to the right, hertz upwards."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from numpy.typing import NDArray

COLORMAP = "magma"  # lightness rises with the value, also when printed in grey
TICKS_HZ = (100, 250, 500, 1000, 2000, 4000, 7000)


def draw_log_mel(
    panel: Axes, log_mel: NDArray[np.float32], seconds: float, scale: Normalize
) -> None:
    """Draw a log-mel [n_mels, N] of `seconds`; the vertical axis counts bands."""
    extent = (0.0, seconds, -0.5, len(log_mel) - 0.5)
    panel.imshow(
        log_mel, COLORMAP, scale,
        extent=extent, origin="lower", aspect="auto", interpolation="nearest",
    )  # fmt: skip


def label_hertz(panel: Axes, corner_hz: NDArray[np.float32]) -> None:
    """Label round hertz on the axis of the bands whose corners [n_mels + 2] are given."""
    inside = [tick for tick in TICKS_HZ if corner_hz[1] <= tick <= corner_hz[-2]]
    # Band i peaks at corner i + 1; between two corners the mel scale is nearly linear.
    places = np.interp(inside, corner_hz, np.arange(len(corner_hz)) - 1.0)
    panel.set_ylim(-0.5, len(corner_hz) - 2.5)
    panel.set_yticks(places, [str(tick) for tick in inside])
