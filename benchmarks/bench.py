"""What one batch of the paper's training costs here, part by part.

python benchmarks/bench.py > benchmarks/results.md

Each part is timed in turn, several rounds, and the fastest is kept: other processes only ever slow
one down. Between machines, and between runs on a shared one, only the ratios mean something. The
data are the demo's, in the paper's segments, copies and log-mels.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from lungsound.models.cnn7 import CNN7
from lungsound.runs.build import build_components
from lungsound.runs.validation import validate_config
from lungsound.signal.chunks import roll_and_chunk
from lungsound.training.losses import focal_loss

ROUNDS = 7
MODELS = {"cnn7": 1.0, "cnn7_quarter": 0.25, "cnn7_eighth": 0.125}


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as store:
        overrides = ["augment=paper", "model=cnn7", f"store_dir={store}"]
        with initialize_config_dir(str(Path(__file__).parents[1] / "conf"), version_base="1.3"):
            parts = build_components(validate_config(compose("config", overrides=overrides)))
        batches = parts.datamodule.training_batches(1)
        batch = {name: tensor.to(device) for name, tensor in batches[0].items()}
        features, chunks = parts.module.features.to(device), parts.module.chunks

        def log_mels() -> torch.Tensor:
            images = features(batch["waveforms"], batch["alpha"], batch["f_hi"])
            return roll_and_chunk(images, batch["roll"], batch["chunk"], chunks).unsqueeze(1)

        images, target = log_mels(), batch["target"]
        work: dict[str, Callable[[], object]] = {
            "cutting the waveforms (in workers)": lambda: batches[1],
            "log-mel, VTLP, z-score, roll, chunks": log_mels,
        }
        for name, width in MODELS.items():
            for table1 in ("inputs", "outputs"):
                for layout in ("", ", contiguous"):
                    work[f"{name}, table1={table1}{layout}"] = training_step(
                        width, table1, bool(layout), images, target
                    )
        report(measure(work), device, tuple(batch["waveforms"].shape), tuple(images.shape))


def training_step(
    width: float, table1: str, contiguous: bool, images: torch.Tensor, target: torch.Tensor
) -> Callable[[], object]:
    """Forward, backward and Adam on one batch; `contiguous`: not the network's channels_last."""
    network = CNN7(4, width, table1, bn_momentum=0.9, bn_eps=1e-5, seed=0).to(images.device)
    if contiguous:
        network.to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(focal_loss(network(images), target, 1.0))
        optimizer.step()

    return step


def measure(work: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The fewest seconds of each, taken in turn so that the machine's moods hit all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS + 1):  # the first round warms up
        for name, function in work.items():
            start = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(times[1:]) for name, times in seconds.items()}


def report(
    seconds: dict[str, float],
    device: torch.device,
    waveforms: tuple[int, ...],
    images: tuple[int, ...],
) -> None:
    step = seconds["cnn7, table1=inputs"]
    print(f"# One batch: waveforms {waveforms}, log-mels {images}\n")
    print(
        f"Made by `make bench`: {device.type}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, ",
        end="",
    )
    print(f"the fastest of {ROUNDS} rounds.\n")
    print("| part | ms | share of the full network's step |\n|---|---:|---:|")
    for name, value in seconds.items():
        print(f"| {name} | {1000 * value:.1f} | {value / step:.4f} |")


if __name__ == "__main__":
    main()
