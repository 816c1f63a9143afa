"""The machine that trains: its device, its threads and the versions of its libraries."""

import platform
from contextlib import suppress
from importlib import metadata

import torch

from lungsound.config.schema import Config

LIBRARIES = (
    *("lungsound", "torch", "pytorch-lightning", "numpy", "scipy", "librosa"),
    *("soxr", "soundfile", "scikit-learn", "mlflow"),
)


def describe_machine(settings: Config) -> str:
    """Return what may change the last bits of a training: device, threads, torch's version."""
    return f"{device(settings)}, threads: {torch.get_num_threads()}, torch {torch.__version__}"


def device(settings: Config) -> str:
    """Return the GPU's name, or cpu."""
    return torch.cuda.get_device_name() if uses_gpu(settings) else "cpu"


def versions() -> str:
    """Return the versions of Python, this package and the libraries that numbers come from."""
    found = [f"python {platform.python_version()}"]
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):  # on the PYTHONPATH, not installed
            found.append(f"{name} {metadata.version(name)}")
    return ", ".join(found)


def uses_gpu(settings: Config) -> bool:
    """Return whether training runs on a GPU here."""
    return settings.trainer.accelerator != "cpu" and torch.cuda.is_available()
