"""The network's step against this machine's float32 matrix product: python benchmarks/network.py.

A step: forward, backward and Adam on 32 chunks of 50 × 193, with `keep_freed_memory` as training
has it. Its FLOP are those of convolutions and products. The product: two matrices of 2048 × 2048,
into memory that is there. Then the step's variants, and what the data take beside it.
"""

import tempfile
from collections.abc import Callable
from typing import NamedTuple

import torch
from gpu_step import Variant, step_flop, training_step
from rows import Row, print_section, time_in_turn

from lungsound.config.overrides import compose_run
from lungsound.runs.build import build_components
from lungsound.runs.validation import validate_config
from lungsound.training.memory import keep_freed_memory

CPU = torch.device("cpu")
SIZE = 2048
PRODUCT_FLOP = 2 * SIZE**3


class Case(NamedTuple):
    name: str
    width: float
    goal: str
    rounds: int


CASES = (
    Case("full", 1.0, ">= 0.9", 9),
    Case("a quarter", 0.25, ">= 0.75", 25),
    Case("an eighth", 0.125, ">= 0.5", 25),
)


def main() -> None:
    keep_freed_memory()
    rows, rates = zip(*map(measure, CASES), strict=True)
    print_section(
        "The network's step",
        rows,
        f"{torch.get_num_threads()} threads, torch {torch.__version__}; the fastest of each:\n",
        "| width | ms | GFLOP/s | GFLOP/s of the product |\n|---|---:|---:|---:|",
        *rates,
        "\nOne batch, the fastest of two. Not `contiguous`: channels_last, as the network is.\n",
        "| part | ms | share of the full network's step |\n|---|---:|---:|",
        *part_lines(),
    )


def measure(case: Case) -> tuple[Row, str]:
    """Return the row of a width, and a line of its rates."""
    variant = Variant(width=case.width)
    work = {"product": product(), "step": training_step(variant, CPU)}
    seconds = time_in_turn(work, case.rounds)
    flop = step_flop(variant, CPU)
    pairs = zip(seconds["step"], seconds["product"], strict=True)
    ratios = [flop / step / (PRODUCT_FLOP / product) for step, product in pairs]
    row = Row(f"the network's step, {case.name} width", "matrix product", ratios, case.goal)
    step, reference = min(seconds["step"]), min(seconds["product"])
    rates = f"{flop / step / 1e9:.0f} | {PRODUCT_FLOP / reference / 1e9:.0f}"
    return row, f"| {case.width:g} | {1000 * step:.1f} | {rates} |"


def product() -> Callable[[], object]:
    left, right, result = (torch.randn(SIZE, SIZE) for _ in range(3))
    return lambda: torch.mm(left, right, out=result)


def part_lines() -> list[str]:
    """Return a line for each variant of the step, and for what the data take beside it."""
    work: dict[str, Callable[[], object]] = {}
    for case in CASES:
        for table1 in ("inputs", "outputs"):
            for layout in ("", ", contiguous"):
                variant = Variant(case.width, table1, channels_last=not layout)
                work[f"width {case.width:g}, table1={table1}{layout}"] = training_step(variant, CPU)
    with tempfile.TemporaryDirectory() as store:
        seconds = time_in_turn({**work, **data_parts(store)}, rounds=2)
    fastest = {name: min(times) for name, times in seconds.items()}
    full = fastest["width 1, table1=inputs"]
    return [f"| {name} | {1000 * s:.1f} | {s / full:.4f} |" for name, s in fastest.items()]


def data_parts(store: str) -> dict[str, Callable[[], object]]:
    """Return what a batch costs before the network: of the demo, in the paper's copies."""
    cfg, _ = compose_run(["augment=paper", f"store_dir={store}"])
    parts = build_components(validate_config(cfg))
    batches = parts.datamodule.training_batches(1)
    batch = batches[0]
    return {
        "cutting the waveforms": lambda: batches[1],
        "log-mel, VTLP, z-score, roll, chunk": lambda: parts.module.train_inputs(batch),
    }


if __name__ == "__main__":
    main()
