"""The parts of benchmarks/gpu.py: each measures one thing and adds its table to the report."""

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gpu_data import (
    bare_loop,
    built,
    configuration,
    epochs,
    front_end,
    loading,
    median_of_later,
    validation_seconds,
)
from gpu_step import (
    PRECISIONS,
    Timing,
    Variant,
    copy_rate,
    product_rate,
    set_arithmetic,
    step_flop,
    timed,
    training_step,
)

from lungsound.training.schedule import Annealing

ROOT = Path(__file__).parents[1]
WIDTHS = {"1": 1.0, "1/4": 0.25, "1/8": 0.125}
PAPER = ("experiment=paper", "data.root=none")
PAPER_ITEMS = 2 * 20_288  # two chunks of each copy (docs/paper.md); few cycles exceed 9 s


class Parts:
    """What is measured, in the order of its worth."""

    def __init__(self, report: Any, device: str, quick: bool, folder: Path) -> None:
        self.report, self.device, self.quick, self.folder = (
            report,
            torch.device(device),
            quick,
            folder,
        )
        self.seconds = 0.2 if quick else 0.3  # of a measurement
        self.accelerator = "gpu" if device == "cuda" else "cpu"
        self.epoch_seconds: dict[str, float] = {}  # by the name of a network

    def all(self) -> Iterator[tuple[str, Callable[[], None], float]]:
        """Name, work, and the seconds it takes on a GPU."""
        yield "ceilings", self.ceilings, 10.0
        yield "features on the device", self.features, 20.0
        yield "cutting waveforms", self.cutting, 20.0
        yield "epochs", self.epochs, 40.0
        yield "the step", self.steps, 60.0
        yield "single choices", self.choices, 30.0
        yield "compiled", self.compiled, 120.0

    def time(self, variant: Variant, share: float = 1.0) -> Timing:
        return timed(training_step(variant, self.device), self.device, share * self.seconds)

    def ceilings(self) -> None:
        size, mebibytes = (8192, 2048) if self.device.type == "cuda" else (512, 64)
        rates = {p: product_rate(p, size, self.device, self.seconds) for p in self.precisions()}
        copied = copy_rate(mebibytes, self.device, self.seconds)
        self.report.add(
            f"## Ceilings: products of two {size} × {size} matrices, and a copy", "", brief=True
        )
        rows = [(name, f"{rate / 1e12:.2f}") for name, rate in rates.items()]
        self.report.table("precision | TFLOP/s", rows, brief=True)
        self.report.add(
            f"A copy on the device: {copied / 1e12:.2f} TB/s, read and written.", "", brief=True
        )
        self.rates = rates

    def precisions(self) -> tuple[str, ...]:
        return ("float32", "bf16-mixed") if self.device.type == "cpu" else PRECISIONS

    def steps(self) -> None:
        widths = {"1/8": 0.125} if self.quick else WIDTHS
        batches = (32,) if self.quick else (32, 128, 512)
        self.report.add(
            "## One training step: network, focal loss, backward, Adam; chunks of 1 × 50 × 193",
            "",
            "Deterministic, channels_last, torch's default Adam. TFLOP/s counts convolutions and "
            "products; its share is of the matrix product's rate in that precision.",
            "",
        )
        rows, brief = [], []
        for table1, (name, width), batch in itertools.product(
            ("inputs", "outputs"), widths.items(), batches
        ):
            flop = step_flop(Variant(width, table1, batch), self.device)
            base = 0.0
            for precision in self.precisions():
                timing = self.time(Variant(width, table1, batch, precision))
                base = base or timing.milliseconds
                rate = flop / timing.milliseconds * 1000
                share = rate / self.rates[precision]
                row = (
                    f"{table1}, width {name}, {precision}", batch, f"{timing.milliseconds:.2f}",
                    f"{batch / timing.milliseconds * 1000:.0f}",
                    f"{base / timing.milliseconds:.2f}",
                    f"{rate / 1e12:.2f}", f"{100 * share:.0f} %", f"{timing.peak_mib:.0f}",
                    f"{100 * timing.spread:.0f} %",
                )  # fmt: skip
                rows.append(row)
                brief += [row] if batch == 32 else []
        head = (
            "network | batch | ms | items/s | times float32 | TFLOP/s | of the product's rate |"
            " peak MiB | spread"
        )
        self.report.table(head, rows)
        self.report.brief += [
            "One step, batch 32: " + head,
            *("; ".join(map(str, r)) for r in brief),
            "",
        ]

    def choices(self) -> None:
        """One choice at a time against the step as it is."""
        changes: dict[str, dict[str, Any]] = {
            "contiguous": {"channels_last": False},
            "fused Adam": {"fused": True},
            "new tensors not filled": {"fill": False},
            "not deterministic": {"deterministic": False},
            "not deterministic, cuDNN benchmark": {"deterministic": False, "benchmark": True},
            "norm of the gradient": {"guard": "norm"},
            "norm, and waiting for it (training/divergence.py)": {"guard": "wait"},
            "all: fused, not filled": {"fused": True, "fill": False},
        }
        networks = [(1.0, "inputs"), (1.0, "outputs"), (0.125, "inputs")]
        precisions = [p for p in ("float32", "TF32", "bf16-mixed") if p in self.precisions()]
        if self.quick:
            networks, precisions = networks[-1:], precisions[:1]
        cases = [(w, t, p) for w, t in networks for p in precisions]
        base = {case: self.time(self.variant(*case)).milliseconds for case in cases}
        again = {case: self.time(self.variant(*case)).milliseconds for case in cases}
        rows = [("as it is, ms", *(f"{base[case]:.2f}" for case in cases))]
        rows.append(("as it is, again", *(f"{base[case] / again[case]:.2f}" for case in cases)))
        for name, change in changes.items():
            times = [self.time(replace(self.variant(*case), **change), 0.5) for case in cases]
            speeds = [base[case] / t.milliseconds for case, t in zip(cases, times, strict=True)]
            rows.append((name, *(f"{speed:.2f}" for speed in speeds)))
        head = " | ".join(["change"] + [f"{t}, width {w:g}, {p}" for w, t, p in cases])
        self.report.add(
            "## One choice at a time: speed, as a multiple of the step as it is (batch 32)",
            "",
            brief=True,
        )
        self.report.table(head, rows, brief=True)

    @staticmethod
    def variant(width: float, table1: str, precision: str) -> Variant:
        return Variant(width=width, table1=table1, precision=precision)

    def compiled(self) -> None:
        """torch.compile of the network, as far as the time goes."""
        narrow, wide = (0.125, "inputs", "float32"), (1.0, "inputs", "bf16-mixed")
        cases = [
            (narrow, "default"),
            (wide, "default"),
            (narrow, "reduce-overhead"),
            (wide, "reduce-overhead"),
        ]
        if self.quick:
            cases = [((0.0625, "inputs", "float32"), "default")]
        rows: list[tuple[object, ...]] = []
        for case, mode in cases:
            if self.report.left() < (0 if self.quick else 140):  # the training comes after it
                break
            base, name = self.variant(*case), f"width {case[0]:g}, {case[2]}, {mode}"
            plain = self.time(base).milliseconds
            try:
                timing = self.time(replace(base, compiled=mode))
            except Exception as error:
                said = (str(error).strip().splitlines() or [""])[0][:120]
                rows.append((name, f"{plain:.2f}", f"{type(error).__name__}: {said}", "", ""))
                continue
            speed = f"{plain / timing.milliseconds:.2f}"
            rows.append(
                (
                    name,
                    f"{plain:.2f}",
                    f"{timing.milliseconds:.2f}",
                    speed,
                    f"{timing.first_seconds:.1f}",
                )
            )
        self.report.add("## torch.compile of the network (batch 32, deterministic)", "", brief=True)
        head = "network, mode | ms without | ms with | times as fast | s of the first step"
        self.report.table(head, rows, brief=True)

    def demo(self, *overrides: str) -> Any:
        """The demo database in the paper's copies and segments, on this device."""
        small = ("augment=light",) if self.quick else ("augment=paper",)
        width = ("model=cnn7_eighth",) if self.quick else ("model=cnn7",)
        place = f"store_dir={self.folder / 'store'}"
        return built(*small, *width, place, f"trainer={self.accelerator}", *overrides)

    def features(self) -> None:
        _, parts = self.demo()
        self.report.add("## Features on the device: 9 s of waveform an item", "", brief=True)
        rows = []
        for items in (8,) if self.quick else (32, 128, 512):
            for name, timing in front_end(parts, self.device, items, self.seconds).items():
                rate = f"{items / timing.milliseconds * 1000:.0f}"
                rows.append(
                    (name, items, f"{timing.milliseconds:.2f}", rate, f"{timing.peak_mib:.0f}")
                )
        self.report.table("work | items | ms | items/s | peak MiB", rows, brief=True)

    def cutting(self) -> None:
        _, parts = self.demo()
        parts.datamodule.training_batches(1)  # which stretches what is stretched once
        self.report.add(
            "## Waveforms from the workers to the device, and nothing else", "", brief=True
        )
        rows = []
        for workers in (0, 2) if self.quick else (0, 4, 8, 16):
            found = loading(parts, self.device, workers, 6 if self.quick else 150)
            rows.append((workers, f"{found.start_seconds:.2f}", f"{found.items_per_second:.0f}"))
        self.report.table("workers | s to the first batch | items/s", rows, brief=True)

    def epochs(self) -> None:
        """Two epochs each through the Trainer, against the same step in a bare loop."""
        cases: list[tuple[str, tuple[str, ...], bool]] = [
            ("float32, as `trainer=gpu` is", (), True),
            ("the same, without the guard's waiting", (), False),
            ("bf16-mixed", ("trainer.precision=bf16-mixed",), True),
            ("float32, log-mels not kept", ("trainer.cache=off",), True),
            ("TF32", ("trainer.matmul_precision=high",), True),
            ("width 1/8, float32", ("model=cnn7_eighth",), True),
        ]
        copies = (
            "augment.vtlp_copies={normal:7,crackle:15,wheeze:19,both:31}"  # four times the paper's
        )
        if self.quick:
            cases = [("width 1/16", ("segment=2x2s", "model.width=0.0625"), True)]
        rows = []
        stretched: dict[int, Any] = {}
        for name, overrides, guarded in cases:
            if self.report.left() < (0 if self.quick else 80):
                break
            settings, parts = self.demo(*(() if self.quick else (copies,)), *overrides)
            parts.datamodule.stretched = stretched or parts.datamodule.stretched
            clock = epochs(settings, parts, self.folder / "epochs", 2, guarded)
            stretched = parts.datamodule.stretched
            bare = bare_loop(settings, parts, self.device, self.seconds)
            rows.append(self.epoch_row(name, settings, parts, clock, bare))
        self.report.add(
            "## An epoch of the demo in four times the paper's copies, through the Trainer",
            "",
            "The second of two epochs. Bare: the same step on batches that are on the device. "
            "The paper: 160 epochs of ICBHI's training items and 1104 validation cycles, at these "
            "rates.",
            "",
            brief=True,
        )
        head = (
            "run | items an epoch | s an epoch | items/s in training | bare items/s | share of "
            "bare | waiting for data | s of validation | the paper, hours"
        )
        self.report.table(head, rows, brief=True)

    def epoch_row(
        self, name: str, settings: Any, parts: Any, clock: Any, bare: Timing
    ) -> tuple[object, ...]:
        training, whole = median_of_later(clock.training), median_of_later(clock.whole)
        waiting = median_of_later(clock.waiting)
        rate = clock.items / training
        bare_rate = parts.datamodule.batch_size / bare.milliseconds * 1000
        if "width" not in name:
            self.epoch_seconds.setdefault("cnn7", whole / 3)  # with a quarter of the items
        paper = configuration(
            *PAPER, f"trainer={self.accelerator}", f"model.width={settings.model.width}"
        )
        epoch = PAPER_ITEMS / rate + 0.16 * 6898 * validation_seconds(clock, parts)
        hours = Annealing(**vars(paper.annealing)).epochs * epoch / 3600
        return (
            name, clock.items, f"{whole:.1f}", f"{rate:.0f}", f"{bare_rate:.0f}",
            f"{100 * rate / bare_rate:.0f} %", f"{100 * waiting / training:.0f} %",
            f"{whole - training:.1f}", f"{hours:.1f}",
        )  # fmt: skip

    def training(self, seconds: float) -> None:
        """`python train.py` on the demo with the paper's network, for the time that is left."""
        set_arithmetic("float32")
        one = self.epoch_seconds.get("cnn7", 20.0)
        each = max(1, int((seconds - 40) / one / 4)) if not self.quick else 1
        words = [
            "model=cnn7",
            "augment=paper",
            "annealing.cycles=4",
            f"annealing.epochs_per_cycle={each}",
        ]
        words += ["annealing.max_lr=1e-3", "model.bn_momentum=0.9"]
        if self.quick:
            words = ["experiment=tiny", "annealing.epochs_per_cycle=1"]
        words.append(f"trainer={self.accelerator}")
        command = [sys.executable, str(ROOT / "train.py"), *words]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with (self.folder / "training.txt").open("wb") as output:
            try:
                subprocess.run(
                    command, cwd=self.folder, env=environment, stdout=output,
                    stderr=subprocess.STDOUT, timeout=max(20.0, seconds + 15), check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                output.write(b"\nstopped: the time is over\n")
        text = (self.folder / "training.txt").read_text(errors="replace")
        text = re.sub(r"\x1b\[[0-9;]*m", "", text)
        lines = [line for line in text.splitlines() if line.strip()]
        told = [
            f"## `python train.py {' '.join(words)}`",
            "",
            "```",
            *lines[:3],
            "...",
            *lines[-40:],
            "```",
            "",
        ]
        self.report.add(*told)
        self.report.brief += [told[0], *lines[:1], *lines[-24:], ""]
