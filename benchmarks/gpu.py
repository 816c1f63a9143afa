"""What training costs on a GPU: tests, the rate of every part, a training in the time that is left.

    python benchmarks/gpu.py --wheels DIR --minutes 8 --output benchmarks/gpu.md
    python benchmarks/gpu.py --device cpu --quick            # the same on a CPU, in two minutes

The report is written anew after every part: what is measured is not lost if the time runs out. All
data are the SYNTHETIC demo's, in the paper's segments, copies and log-mels.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LIBRARIES = (
    "torch",
    "triton",
    "pytorch-lightning",
    "torchmetrics",
    "numpy",
    "mlflow",
)
TRAINING_SECONDS = 60.0  # the least that is worth a start
RESERVE_SECONDS = 20.0  # for what cannot be stopped when the time is over


class Report:
    """One Markdown file that grows part by part; `left` is the time that is left for more."""

    def __init__(self, path: Path, minutes: float) -> None:
        self.path, self.start, self.minutes = path, time.monotonic(), minutes
        self.lines: list[str] = []
        self.brief: list[str] = []  # what is printed last

    def left(self) -> float:
        return 60 * self.minutes - (time.monotonic() - self.start)

    def add(self, *lines: str, brief: bool = False) -> None:
        self.lines += lines
        if brief:
            self.brief += lines
        self.path.write_text("\n".join(self.lines) + "\n")

    def table(self, head: str, rows: Iterable[Iterable[object]], brief: bool = False) -> None:
        columns = head.split("|")
        line = "|".join(["---"] + ["---:"] * (len(columns) - 1))
        body = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
        self.add(f"| {' | '.join(map(str.strip, columns))} |", f"|{line}|", *body, "", brief=brief)

    def part(self, name: str, work: Callable[[], None], needs_seconds: float) -> None:
        """One part, unless the time is short; one that fails does not stop the others."""
        print(f"[{time.monotonic() - self.start:5.0f} s] {name}", flush=True)
        if self.left() < needs_seconds + RESERVE_SECONDS:
            self.add(f"*{name}: left out, the time is over.*", "", brief=True)
            return
        try:
            work()
        except Exception as error:
            traceback.print_exc()
            said = str(error).strip().splitlines() or [""]
            self.add(f"*{name} failed: {type(error).__name__}: {said[0][:300]}*", "", brief=True)


def main() -> None:
    arguments = parsed()
    report = Report(arguments.output, arguments.minutes)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if arguments.wheels:
        install(arguments.wheels)
    sys.path.insert(0, str(ROOT))
    from gpu_parts import Parts  # torch, and what the wheels brought

    with tempfile.TemporaryDirectory() as folder:
        parts = Parts(report, arguments.device, arguments.quick, Path(folder))
        heading(report, arguments)
        limit = 150.0
        report.part("tests", lambda: tests(report, arguments.device, limit), 0.0)
        for name, work, seconds in parts.all():
            report.part(name, work, 0.0 if arguments.quick else seconds)
        report.part(
            "training", lambda: parts.training(report.left() - RESERVE_SECONDS), TRAINING_SECONDS
        )
    report.add(f"The whole took {time.monotonic() - report.start:.0f} s.", brief=True)
    print("\n".join(report.brief))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="few variants, short measurements")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all of it")
    parser.add_argument("--wheels", type=Path, help="folder of wheels of what is not installed")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "gpu.md")
    parser.add_argument("--commit", default=None, help="of the code, where there is no git")
    return parser.parse_args()


def install(wheels: Path) -> None:
    """Into a folder of its own, which this process and those that it starts look into."""
    site = Path(tempfile.mkdtemp(prefix="lungsound-site-"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    files = sorted(str(path) for path in wheels.glob("*.whl"))
    subprocess.run(
        [*pip, "--no-compile", "--no-cache-dir", "--target", str(site), *files], check=True
    )
    sys.path.insert(0, str(site))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(site), *([before] if before else [])])


def heading(report: Report, arguments: argparse.Namespace) -> None:
    import torch

    on_gpu = arguments.device == "cuda"
    device = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    commit = arguments.commit or git("rev-parse", "--short", "HEAD")
    words = " ".join(["python", "benchmarks/gpu.py", *sys.argv[1:]])
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    cudnn: Any = torch.backends.cudnn
    driver = f", CUDA {torch.version.cuda}, cuDNN {cudnn.version()}" if on_gpu else ""
    report.add(
        f"# One {device}",
        "",
        f"{time.strftime('%Y-%m-%d')}, commit {commit}, {os.cpu_count()} CPU cores{driver}, "
        f"Python {sys.version.split()[0]}, {versions}.",
        "",
        f"Made by `{words}`. Times are medians of five blocks of calls after a warm-up, with the "
        "device synchronized at both ends of a block. Data: SYNTHETIC.",
        "",
        brief=True,
    )


def version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def git(*words: str) -> str:
    result = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    return result.stdout.strip() or "unknown"


def tests(report: Report, device: str, seconds: float) -> None:
    """`pytest -m gpu` in a process of its own; a row for each test."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "tests.xml"
        chosen = ["-m", "gpu", "tests/gpu", f"--junitxml={results}", "-p", "no:cacheprovider"]
        chosen += ["-v", "--tb=short", *several_at_once(device)]
        environment = {**os.environ, "LUNGSOUND_GPU_TESTS_DEVICE": device, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", *chosen]
        last = f"Stopped after {seconds:.0f} s."
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, timeout=seconds, capture_output=True
            )
            text = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
            last = text.strip().splitlines()[-1].strip("= ")
        except subprocess.TimeoutExpired as error:
            text = (error.stdout or b"").decode(errors="replace")
        print(text, flush=True)
        report.add("## Tests marked `gpu`", "", last, "", brief=True)
        if results.exists():
            report.table("test | outcome | s | measured", test_rows(results), brief=True)
        else:
            report.add("```", *text.splitlines()[-40:], "```", "", brief=True)


def several_at_once(device: str) -> list[str]:
    """Processes beside each other, which a GPU has room for."""
    if device == "cpu" or version("pytest-xdist") == "none":
        return []
    return ["--numprocesses", "4", "--dist", "worksteal"]


def test_rows(results: Path) -> Iterable[tuple[Any, ...]]:
    for case in ET.parse(results).getroot().iter("testcase"):
        outcomes = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        properties = [f"{kind.get('name')}: {kind.get('value')}" for kind in case.iter("property")]
        name = str(case.get("name")).replace("|", " ")
        outcome = outcomes[0] if outcomes else "passed"
        yield name, outcome, f"{float(case.get('time', 0)):.1f}", "; ".join(properties)


if __name__ == "__main__":
    main()
