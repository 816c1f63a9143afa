"""Respiratory-sound classification with snapshot ensembles (Nguyen & Pernkopf, 2020)."""

try:
    import fcntl  # noqa: F401
except ImportError:
    raise ImportError(
        "lungsound runs on Linux and macOS: this system has no fcntl, which its file locks need. "
        "On Windows use WSL 2: https://learn.microsoft.com/windows/wsl/install"
    ) from None

__version__ = "0.2.0"
