"""Respiratory-sound classification with snapshot ensembles (Nguyen & Pernkopf, 2020)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lungsound.ensemble import Ensemble

try:
    import fcntl  # noqa: F401
except ImportError:
    raise ImportError(
        "lungsound runs on Linux and macOS: this system has no fcntl, which its file locks need. "
        "On Windows use WSL 2: https://learn.microsoft.com/windows/wsl/install"
    ) from None

__version__ = "0.2.0"
__all__ = ["Ensemble"]


def __getattr__(name: str) -> Any:
    """Import `Ensemble` when it is first used: torch takes seconds."""
    if name != "Ensemble":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lungsound.ensemble import Ensemble

    return Ensemble
