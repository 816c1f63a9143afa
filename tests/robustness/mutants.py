"""Changes the package one constant or wire at a time and runs the tests that ought to notice.

mutants.py [--write] [--only WORD]   each mutant of mutants.txt in a fresh copy of the package;
                                     survivors are listed, `--write` puts the figures into
                                     docs/reliability.md
"""

import argparse
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
COPIED = ("lungsound", "conf", "tests", "pyproject.toml")
TIMEOUT_S = 600
LIBRARIES = (
    *("hydra", "librosa", "matplotlib.figure", "mlflow", "pytorch_lightning", "scipy.signal"),
    *("sklearn.metrics", "torchaudio", "torchmetrics"),
)


class Mutant(NamedTuple):
    """`old`, which occurs once in `file`, becomes `new`; `tests` are pytest's arguments."""

    file: str
    old: str
    new: str
    tests: str


def read_mutants() -> list[Mutant]:
    """The changes that mutants.txt lists."""
    mutants: list[Mutant] = []
    file = tests = ""
    for line in Path(__file__).with_suffix(".txt").read_text().splitlines():
        if " | " in line:
            file, tests = line.strip("[]").split(" | ")
        elif not line.startswith("#"):
            old, new = line.split("  =>  ")
            mutants.append(Mutant(file, old, new, f"tests/{tests}"))
    return mutants


def apply(mutant: Mutant, folder: Path) -> str:
    """The mutant's file in `folder`, changed. Raises ValueError unless it has `old` once."""
    text = (folder / mutant.file).read_text()
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.file}: expected {mutant.old!r} once: mend mutants.txt")
    return text.replace(mutant.old, mutant.new)


def tests_fail(tests: str, mutant: Mutant | None) -> bool:
    """Whether a test fails in a copy, changed by the mutant. Raises ValueError if none can run."""
    with tempfile.TemporaryDirectory(prefix="mutant") as name:
        folder = Path(name)
        for part in COPIED:
            if (ROOT / part).is_dir():  # lungsound/conf is a link to conf
                shutil.copytree(ROOT / part, folder / part, symlinks=True)
            else:
                shutil.copy(ROOT / part, folder / part)
        if mutant:
            (folder / mutant.file).write_text(apply(mutant, folder))
        code = run_tests(folder, tests)
    if code not in (0, 1):
        raise ValueError(f"{tests}, {mutant}: pytest ended with {code}")
    return code == 1


def run_tests(folder: Path, tests: str) -> int:
    """pytest's exit code in `folder`; a test that never ends has noticed, too."""
    process = multiprocessing.get_context("fork").Process(target=_run_pytest, args=(folder, tests))
    process.start()
    process.join(TIMEOUT_S)
    if process.is_alive():
        process.kill()
        process.join()
        return 1
    return process.exitcode if process.exitcode is not None else 3


def _run_pytest(folder: Path, tests: str) -> None:
    import pytest

    os.chdir(folder)
    sys.path[:] = [str(folder), str(folder / "tests"), *sys.path[2:]]
    with (folder / "log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests.split(maxsplit=2)])
    os._exit(int(code))


def preload() -> None:
    """Import the large libraries once, and none of ours: each mutant's process is a fork."""
    for name in LIBRARIES:
        importlib.import_module(name)
    assert "lungsound" not in sys.modules


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="", help="mutants whose file or text has this word")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    preload()
    begin, survivors = time.monotonic(), []
    chosen = [mutant for mutant in read_mutants() if arguments.only in " ".join(mutant)]
    for tests in dict.fromkeys(mutant.tests for mutant in chosen):
        if tests_fail(tests, None):
            raise ValueError(f"{tests}: fails without a mutant")
    for mutant in chosen:
        start, noticed = time.monotonic(), tests_fail(mutant.tests, mutant)
        state = "noticed" if noticed else "SURVIVED"
        print(f"{state} {time.monotonic() - start:4.0f} s  {mutant.file}: {mutant.new}", flush=True)
        if not noticed:
            survivors.append(f"{mutant.file}: `{mutant.new}`")
    minutes = (time.monotonic() - begin) / 60
    figures = f"{len(chosen)} mutants in {minutes:.0f} minutes, survived: {len(survivors)}"
    print(figures, *survivors, sep="\n")
    if arguments.write:
        from robustness.reliability import update_row

        update_row("make mutants", "; ".join([figures, *survivors]))
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
