"""One training step of the paper's network on a device, in many variants, timed."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.utils.flop_counter import FlopCounterMode

from lungsound.models.cnn7 import CNN7
from lungsound.models.registry import l2_parameters
from lungsound.training.losses import focal_loss

BANDS, FRAMES = 50, 193  # a chunk of the paper's 2x4.5s
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
PRECISIONS = ("float32", "TF32", *AUTOCAST)


@dataclass(frozen=True)
class Variant:
    """A step, by default the one that `trainer=gpu` runs."""

    width: float = 1.0
    table1: str = "inputs"
    batch: int = 32
    precision: str = "float32"
    channels_last: bool = True
    deterministic: bool = True
    fill: bool = True  # deterministic mode fills new tensors, so that what nobody wrote is the same
    benchmark: bool = False  # cuDNN tries its algorithms out
    fused: bool = False
    compiled: str | None = None
    guard: str = "none"  # what training/divergence.py does: "norm" alone, or "wait" for it too


@dataclass(frozen=True)
class Timing:
    milliseconds: float  # the median over blocks of steps
    spread: float  # (slowest - fastest block) / median
    peak_mib: float
    first_seconds: float  # of the first step: compilation, choice of algorithms


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def set_arithmetic(precision: str, deterministic: bool = True) -> None:
    tf32 = precision == "TF32"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = False
    fill_new_tensors(True)


def fill_new_tensors(fill: bool) -> None:
    """Of deterministic mode, whether it writes what nobody else has written."""
    torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


def optimizer_of(network: CNN7, fused: bool) -> torch.optim.Optimizer:
    """As `SnapshotModule.configure_optimizers` makes it."""
    kernels = l2_parameters(network)
    decayed = {id(kernel) for kernel in kernels}
    others = [parameter for parameter in network.parameters() if id(parameter) not in decayed]
    groups: list[dict[str, Any]] = [{"params": kernels, "weight_decay": 0.002}, {"params": others}]
    return torch.optim.Adam(groups, lr=1e-4, eps=1e-7, fused=fused or None)


def training_step(variant: Variant, device: torch.device) -> Callable[[], None]:
    """Forward, backward and Adam on random log-mels, as Lightning does it in that precision."""
    set_arithmetic(variant.precision, variant.deterministic)
    torch.backends.cudnn.benchmark = variant.benchmark
    fill_new_tensors(variant.fill)
    network = CNN7(4, variant.width, variant.table1, bn_momentum=0.99, bn_eps=1e-3, seed=0)
    network.to(device)
    if not variant.channels_last:
        network.to(memory_format=torch.contiguous_format)
    model: nn.Module = network
    if variant.compiled:
        torch._dynamo.reset()
        model = torch.compile(network, mode=variant.compiled)  # type: ignore[assignment]
    optimizer = optimizer_of(network, variant.fused)
    scaler = torch.amp.GradScaler(device.type, enabled=variant.precision == "16-mixed")
    kind = AUTOCAST.get(variant.precision)
    log_mels = torch.randn(variant.batch, 1, BANDS, FRAMES, device=device)
    target = torch.randint(4, (variant.batch,), device=device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=kind, enabled=kind is not None):
            logits = model(log_mels)
        loss = focal_loss(logits.float(), target, 1.0)
        torch.autograd.backward(scaler.scale(loss))
        if variant.guard != "none":
            watch(network, loss.detach(), variant.guard)
        scaler.step(optimizer)
        scaler.update()

    return step


def watch(network: nn.Module, loss: Tensor, guard: str) -> None:
    norm = get_total_norm(p.grad for p in network.parameters() if p.grad is not None)
    finite = torch.stack([loss, norm]).isfinite().all()
    if guard == "wait" and not finite:
        raise AssertionError("diverged")


def timed(
    work: Callable[[], object], device: torch.device, seconds: float, blocks: int = 5
) -> Timing:
    """`work` in blocks of calls, for about `seconds`, after calls that warm it up."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    work()
    synchronize(device)
    first = time.perf_counter() - start
    calls = 1 if device.type == "cpu" else 3
    one = per_call(work, device, calls)
    calls = max(1, min(200, round(seconds / blocks / one)))
    each = [per_call(work, device, calls) for _ in range(blocks)]
    median = statistics.median(each)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else 0.0
    return Timing(1000 * median, (max(each) - min(each)) / median, peak, first)


def per_call(work: Callable[[], object], device: torch.device, calls: int) -> float:
    synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        work()
    synchronize(device)
    return (time.perf_counter() - start) / calls


def step_flop(variant: Variant, device: torch.device) -> float:
    """Floating-point operations of one step's convolutions and products, forward and backward."""
    step = training_step(variant, device)
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def product_rate(precision: str, size: int, device: torch.device, seconds: float) -> float:
    """FLOP per second of a product of two random matrices [size, size]."""
    set_arithmetic(precision)
    kind = AUTOCAST.get(precision, torch.float32)
    left, right = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    timing = timed(lambda: left @ right, device, seconds)
    return 2 * size**3 / timing.milliseconds * 1000


def copy_rate(mebibytes: int, device: torch.device, seconds: float) -> float:
    """Bytes read and written per second by a copy on the device."""
    source = torch.randn(mebibytes * 2**18, device=device)
    target = torch.empty_like(source)
    timing = timed(lambda: target.copy_(source), device, seconds)
    return 2 * source.nbytes / timing.milliseconds * 1000
