"""Respiratory-sound classification with snapshot ensembles (Nguyen & Pernkopf, 2020)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lungsound.ensemble import Ensemble
    from lungsound.runs.run import train_run
    from lungsound.runs.scores import validation_score

try:
    import fcntl  # noqa: F401
except ImportError:
    raise ImportError(
        "lungsound runs on Linux and macOS: this system has no fcntl, which its file locks need. "
        "On Windows use WSL 2: https://learn.microsoft.com/windows/wsl/install"
    ) from None

__version__ = "0.2.0"
__all__ = ["Ensemble", "train_run", "validation_score"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch takes seconds."""
    if name == "Ensemble":
        from lungsound.ensemble import Ensemble

        return Ensemble
    if name == "train_run":
        from lungsound.runs.run import train_run

        return train_run
    if name == "validation_score":
        from lungsound.runs.scores import validation_score

        return validation_score
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
