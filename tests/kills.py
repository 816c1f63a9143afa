"""Kills commands, starts them again until they end, and compares what they leave with what an undisturbed one leaves.

python tests/kills.py files --every 1      kill -9 at the steps of the function that writes all files: one long chain of
                                           starts, each killed at the next step that no start before it was killed at
python tests/kills.py moments --number 4   kill -9 of the whole process group at seeded random moments
python tests/kills.py signals --number 4   SIGTERM and SIGINT at such moments: exit code, and what MLflow shows

A start is the command's own script, in a child that is forked from this process, which has imported everything but has
run nothing. The measurement for the first printed line is left out. (--real: a new interpreter, as a user has it.)
The last line is what was tried and what went wrong, in JSON; the exit code is 1 where something did. With --write the
figures go into docs/reliability.md.
"""

import argparse
import contextlib
import fcntl
import functools
import hashlib
import importlib
import json
import os
import random
import runpy
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from conftest import configured
from reliability import write_by_hand

from lungsound import files
from lungsound.errors import told

ROOT = Path(__file__).parents[1]
SMALL = ("experiment=tiny", "data.demo_patients=4", "data.demo_cycles=48", "annealing.cycles=2", "trainer=cpu")
COMMANDS = {
    "run": ("train.py", *SMALL),
    "sweep": ("sweep.py", *SMALL[:-2], "trainer=cpu", "annealing.cycles=1,2"),
}
IMPORTS_SECONDS = 7  # of a new interpreter
CHAIN = 5  # kills at random moments before a chain is let to its end, so that most of them hit a command that works
FAULTS = ("other bits", "left over", "still locked", "not FINISHED", "another run", "steps doubled",
          "steps missing or new")  # fmt: skip
COUNTS = ("jobs", "jobs_finished", "jobs_failed", "epochs_trained")  # a study's, which each of its commands adds to
LEFTOVERS = (f".*{files.UNFINISHED}", f"*{files.ASIDE}*", "*.half*")
TRUTH = (
    *("store/trajectories/*/epoch-*.pt", "store/trajectories/*/history.jsonl", "store/waveforms/*/*.f32"),
    *(f"outputs/*/{name}" for name in ("split.csv", "history.jsonl", "predictions.parquet", "scores.json")),
    *("outputs/studies/*/*.csv", "store/demo/*/*/*"),
)


# --- one start of a command ---


def start(
    folder: Path,
    command: str,
    real: bool = False,
    prepare: Callable[[], None] | None = None,
    composed: tuple[Any, dict[str, str]] | None = None,
) -> int:
    """Begin a command in `folder`, in a process group of its own; its process id.

    `prepare` is called in the new process before all else. `composed`: a run's configuration and choices, for a start
    that spends no second on Hydra.
    """
    folder.mkdir(parents=True, exist_ok=True)
    script, *words = COMMANDS[command]
    if real:
        with (folder / "told.txt").open("a") as out:
            words = [sys.executable, str(ROOT / script), *words]
            return subprocess.Popen(words, cwd=folder, stdout=out, stderr=out, process_group=0).pid
    if process := os.fork():
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(process, process)
        return process
    code = 1
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        handle = os.open("told.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        if prepare:
            prepare()
        if composed:
            told(sys.modules["lungsound.run"].run)(*composed)
        else:
            sys.argv = [script, *words]
            runpy.run_path(str(ROOT / script), run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code == 1:
            print(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(process: int, seconds: float | None = None) -> int | None:
    """The exit code of a process, -number where a signal ended it; None where it works on after `seconds`."""
    last = time.monotonic() + (seconds or 0)
    while True:
        done, status = os.waitpid(process, os.WNOHANG if seconds is not None else 0)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= last:
            return None
        time.sleep(0.005)


def warm(folder: Path, command: str, again: bool) -> float:
    """Run a command undisturbed, and import here all that it has imported; its seconds, or those of a run `again`."""

    def note_modules() -> None:
        leave = os._exit

        def noted(code: int) -> None:
            (folder / "modules.json").write_text(json.dumps(sorted(sys.modules)))
            leave(code)

        os._exit = noted  # type: ignore[assignment]

    begun = time.monotonic()
    if code := ended(start(folder, command, prepare=note_modules)):
        failed(folder, f"{command}, undisturbed: code {code}")
    seconds = time.monotonic() - begun
    for name in json.loads((folder / "modules.json").read_text()):
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    sys.modules["lungsound.cost"].step_seconds = lambda *_: 0.001  # type: ignore[attr-defined]
    sys.modules["lungsound.run"].announcement = lambda *_: "(the first line is left out)"  # type: ignore[attr-defined]
    if again:
        begun = time.monotonic()
        assert ended(start(folder.with_name(f"{folder.name}-again"), command)) == 0
        seconds = time.monotonic() - begun
    return seconds


# --- what a command left ---


def bits(folder: Path) -> dict[str, str]:
    """A hash of each file that holds what training came to."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in TRUTH
        for path in folder.glob(pattern)
        if path.is_file()
    }


def mlflow_runs(folder: Path) -> dict[str, tuple[str, str]]:
    """id -> (name, status) of each run that is not deleted."""
    return {row[0]: (row[1], row[2]) for row in asked(
        folder, "select run_uuid, name, status from runs where lifecycle_stage = 'active'")}  # fmt: skip


def mlflow_points(folder: Path) -> Counter[tuple[str, str, int]]:
    """How often each (run's name, metric, step) is stored."""
    return Counter(asked(
        folder, "select runs.name, key, step from metrics join runs using (run_uuid) where lifecycle_stage = 'active'"
    ))  # fmt: skip


def asked(folder: Path, query: str) -> list[Any]:
    if not (folder / "mlflow.db").exists():
        return []
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError:  # it was killed before its tables were made
            return []


def held_locks(folder: Path) -> list[str]:
    """The lock files that someone still holds."""
    held = []
    for path in folder.rglob("*.lock"):
        with path.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(path.name)
    return held


def faults(folder: Path, undisturbed: Path, known: dict[str, str]) -> list[tuple[str, str]]:
    """What a command that was killed and has ended left otherwise than the undisturbed one: (kind of FAULTS, what).

    `known`: the MLflow runs that were there at a kill, id -> name.
    """
    mine, theirs = bits(folder), bits(undisturbed)
    runs, points, expected = mlflow_runs(folder), mlflow_points(folder), mlflow_points(undisturbed)
    shown = Counter(name for name, _ in runs.values())
    found = {
        "other bits": [name for name in sorted(mine.keys() | theirs.keys()) if mine.get(name) != theirs.get(name)],
        "left over": [path.name for pattern in LEFTOVERS for path in folder.rglob(pattern)],
        "still locked": held_locks(folder),
        "not FINISHED": [f"{name} is {status}" for name, status in runs.values() if status != "FINISHED"],
        "another run": [name for run, name in known.items() if run not in runs or shown[name] > 1],
        "steps doubled": [str(point) for point, count in points.items() if count > 1],
        "steps missing or new": [str(point) for point in expected.keys() ^ points.keys() if point[1] not in COUNTS],
    }
    return [(kind, what) for kind in FAULTS for what in found[kind]]


# --- kill -9 at the steps of the writing function ---


def die_at_a_step(folder: Path, seen: set[str], passed: int, every: int) -> None:
    """Have this process kill itself at the `every`-th step that is not in `seen`; it writes what it passes to `passed`.

    A step's name: the file, what is about to be done to it (or "done"), and how far the trainings in `folder` are.
    """
    stack: list[str] = []
    counted = 0

    def moment(step: str, path: Any = None) -> None:
        nonlocal counted
        where = stack[-1] if stack else str(path).removeprefix(f"{folder}/")
        epochs = sum(int(path.stem[-4:]) for path in folder.glob("store/trajectories/*/resume-*.ckpt"))
        name = f"{where} {step} {epochs}"
        if name in seen:
            return
        seen.add(name)
        counted += 1
        os.write(passed, f"{name}\n".encode())
        if counted == every:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(step: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def traced(*arguments: Any, **options: Any) -> Any:
            moment(step, *arguments[:1])
            return do(*arguments, **options)

        return traced

    def whole(path: Path, pieces: Any, *more: Any, **options: Any) -> str:
        stack.append(os.path.relpath(path, folder))
        digest = written(path, pieces, *more, **options)
        moment("done")
        stack.pop()
        return digest

    def fdopen(handle: int, mode: str) -> Any:
        file = os.fdopen(handle, mode)

        @contextlib.contextmanager
        def opened() -> Iterator[Any]:
            with file:
                yield SimpleNamespace(write=write, flush=file.flush, fileno=file.fileno)

        def write(content: bytes) -> None:
            moment("write")
            file.write(content[: len(content) // 2])
            file.flush()
            moment("write the other half")
            file.write(content[len(content) // 2 :])

        return opened()

    written = files._replace
    files._replace = whole
    files.tempfile = SimpleNamespace(mkstemp=before("mkstemp", tempfile.mkstemp))  # type: ignore[assignment]
    traced = {name: before(name, getattr(os, name)) for name in ("fsync", "chmod", "replace")}
    files.os = SimpleNamespace(**{**vars(os), **traced, "fdopen": fdopen})  # type: ignore[assignment]
    unlink = Path.unlink
    Path.unlink = before("unlink", unlink)  # type: ignore[method-assign]


def at_steps(folder: Path, command: str, every: int, seed: int) -> tuple[int, dict[str, str]]:
    """Kill a command again and again, about every `every`-th step; how often, and the MLflow runs that were there."""
    rng = random.Random(seed)
    seen: set[str] = set()
    known: dict[str, str] = {}
    kills = 0
    with configured(*COMMANDS["run"][1:]) as found:
        composed = found if command == "run" else None
    while True:
        stride = rng.randint(1, 2 * every - 1)
        reader, writer = os.pipe()
        prepare = functools.partial(die_at_a_step, folder, seen, writer, stride)
        process = start(folder, command, prepare=prepare, composed=composed)
        os.close(writer)
        with os.fdopen(reader) as lines:
            seen |= set(lines.read().splitlines())
        code = ended(process)
        if code != -signal.SIGKILL:
            if code:
                failed(folder, f"{command}, after {kills} kills: code {code}")
            return kills, known
        kills += 1
        known |= {run: name for run, (name, _) in mlflow_runs(folder).items()}


# --- at random moments ---


def at_moments(
    folder: Path, command: str, rng: random.Random, seconds: float, kills: int, numbers: tuple[int, ...], real: bool
) -> tuple[int, dict[str, str]]:
    """Send a command one of the signals `numbers` at up to `kills` moments of the `seconds` it takes, and let it end.

    How often, and the MLflow runs that were there.
    """
    known: dict[str, str] = {}
    for tried in range(kills):
        process, number = start(folder, command, real), rng.choice(numbers)
        code = ended(process, rng.uniform(0, seconds / (1 + tried / 2)))  # what is done already is not done again
        if code is None:
            os.killpg(process, number)
            code = ended(process)
            # Until the first lines of the script have run, the signals are Python's own.
            fits = {0, -number, 128 + number}  # 0: it was just ending
            running = [name for name, status in mlflow_runs(folder).values() if status == "RUNNING"]
            if code not in fits or (number != signal.SIGKILL and running):
                failed(folder, f"{command} after signal {number}: code {code}, RUNNING: {running}")
        elif code:
            failed(folder, f"{command}, started again after {tried} signals: code {code}")
        known |= {run: name for run, (name, _) in mlflow_runs(folder).items()}
        if code == 0:
            return tried, known
    if code := ended(start(folder, command)):
        failed(folder, f"{command}, started again after {kills} signals: code {code}")
    return kills, known


def failed(folder: Path, what: str) -> None:
    sys.exit(f"{what}:\n{(folder / 'told.txt').read_text()}")


def chains(chosen: argparse.Namespace, what: str, place: Path, seconds: dict[str, float]) -> Iterator[Any]:
    """Kill commands as `what` says: after each chain that was let to its end, its command, kills, and faults."""
    rng = random.Random(chosen.seed)
    commands, left = list(seconds), chosen.number
    folder = place / "killed"
    while commands if what == "files" else left > 0:
        if what == "files":
            command = commands.pop(0)
            kills, known = at_steps(folder, command, chosen.every, chosen.seed)
        else:
            command = rng.choice(commands)
            numbers = (signal.SIGKILL,) if what == "moments" else (signal.SIGTERM, signal.SIGINT)
            kills, known = at_moments(folder, command, rng, seconds[command], min(CHAIN, left), numbers, chosen.real)
            left -= kills
        yield command, kills, faults(folder, place / f"undisturbed-{command}", known)
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=["files", "moments", "signals"])
    parser.add_argument("--commands", default="run,sweep")
    parser.add_argument("--every", type=int, default=1, help="files: on average, one step of so many")
    parser.add_argument("--number", type=int, default=4, help="moments and signals: how many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="not files: a new interpreter for each start but the last")
    parser.add_argument("--write", action="store_true", help="moments: the figures into docs/reliability.md")
    chosen = parser.parse_args()
    begun, wrong, figures = time.monotonic(), [], []
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        place, forked = Path(temporary), chosen.what != ["files"] and not chosen.real
        seconds = {
            command: warm(place / f"undisturbed-{command}", command, forked) for command in chosen.commands.split(",")
        }
        print(f"undisturbed, in seconds: {seconds}", flush=True)
        for what in chosen.what:
            tried, found = Counter[str](), Counter[str]()
            for command, kills, at_fault in chains(chosen, what, place, seconds):
                tried[command] += kills
                found.update(kind for kind, _ in at_fault)
                wrong += at_fault
                print(f"{what}, {command}: {kills} kills", *map(str, at_fault), sep="\n  ", flush=True)
            faulty = ", ".join(f"{kind}: {count}" for kind, count in found.items()) or "nothing wrong"
            killed = ", ".join(f"{count} of a {command}" for command, count in sorted(tried.items()))
            figures.append(f"{what} {tried.total()} ({killed}; seed {chosen.seed}): {faulty}")
    minutes = round((time.monotonic() - begun) / 60, 1)
    print(json.dumps({**vars(chosen), "figures": "; ".join(figures), "wrong": wrong, "minutes": minutes}))
    if chosen.write:
        write_by_hand(f"make kills N={chosen.number}", f"{'; '.join(figures)}; {minutes} minutes")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    os.environ.pop("LUNGSOUND_EXPERIMENT", None)
    main()
