"""Kills commands, starts them again until they end, and compares what they leave with what an
undisturbed one leaves.

kill_commands.py files --every 1      kill -9 at the steps of the function that writes all files,
and where one is
                                           removed: a long chain of starts, each killed at the next
                                           step that is new
kill_commands.py moments --number 4   kill -9 of the whole process group at seeded random moments
kill_commands.py signals --number 4   SIGTERM and SIGINT at such moments: exit code, and what MLflow
shows

A start is the command's own script, in a child that is forked from this process, which has imported
everything, has the configurations that Hydra composes for the command, and has run nothing. The
measurement for the first printed line is left out. (--real: a new interpreter, as a user has it.) A
redo is begun where the command without redo=true has ended; after a kill at a step it begins again,
after one at a random moment either of the two goes on. The last line is what was tried and what
went wrong, in JSON; the exit code is 1 where something did. With --write the figures go into
docs/reliability.md.
"""

import argparse
import contextlib
import copy
import functools
import hashlib
import importlib
import json
import os
import pickle
import random
import re
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

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from robustness.reliability import update_row

from lungsound.data import store
from lungsound.storage import files

ROOT = Path(__file__).parents[2]
SMALL = (
    "experiment=tiny",
    "data.demo_patients=4",
    "data.demo_cycles=48",
    "annealing.cycles=2",
    "trainer=cpu",
)
COMMANDS = {
    "run": ("train.py", *SMALL),
    "sweep": ("sweep.py", *SMALL[:-2], "trainer=cpu", "annealing.cycles=1,2"),
}
REDO = "redo-"  # begins the name of a command that trains again what the one without it has made
COMMANDS |= {f"{REDO}{name}": (*words, "redo=true") for name, words in COMMANDS.items()}
COMPOSED: dict[str, Any] = {}  # what Hydra has composed: of what
Ended = tuple[
    int, dict[str, str]
]  # how often a command was killed until it ended; the MLflow runs seen, id -> name
# Kills at random moments before a chain may end, so that most of them hit a command that works.
CHAIN = 5
FAULTS = ("other bits", "left over", "had to wait", "not FINISHED", "another run", "steps doubled",
          "steps missing or new", "epochs miscounted")  # fmt: skip
COUNTS = (
    "jobs",
    "jobs_finished",
    "jobs_failed",
    "epochs_trained",
)  # a study's, which each of its commands adds to
LEFTOVERS = (f".*{files.TEMP_SUFFIX}", f"*{files.QUARANTINE_INFIX}*", "*.half*")
RANDOM = re.compile(r"\.[^./]+(?=\.(part|half[^.]*)$)")  # in the name of a file that is being made
RESULT_PATTERNS = (
    *(
        "store/trajectories/*/*.safetensors",
        "store/trajectories/*/history.jsonl",
        "store/waveforms/*/*.f32",
    ),
    *(
        f"outputs/*/{name}"
        for name in (
            "split.csv",
            "history.jsonl",
            "predictions.parquet",
            "scores.json",
            "members/*",
        )
    ),
    *("outputs/studies/*/*.csv", "store/demo/*/*/*"),
)


# --- one start of a command ---


def start(
    folder: Path, command: str, real: bool = False, prepare: Callable[[], None] | None = None
) -> int:
    """Begin a command in `folder`, in a process group of its own; its process id.

    `prepare` is called in the new process before all else.
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


def wait_for_exit(process: int, seconds: float | None = None) -> int | None:
    """The exit code of a process, -number where a signal ended it; None where it works on after
    `seconds`.
    """
    last = time.monotonic() + (seconds or 0)
    while True:
        done, status = os.waitpid(process, os.WNOHANG if seconds is not None else 0)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= last:
            return None
        time.sleep(0.005)


def run_reference(folder: Path, command: str, keep: bool = False) -> float:
    """Run a command to its end; its seconds. What it has imported and composed is kept for
    `preload_modules`.
    """

    def note() -> None:
        leave = os._exit

        def noted(code: int) -> None:
            (folder / "warm.pickle").write_bytes(pickle.dumps((sorted(sys.modules), COMPOSED)))
            leave(code)

        os._exit = noted  # type: ignore[assignment]

    begun = time.monotonic()
    if code := wait_for_exit(start(folder, command, prepare=note if keep else None)):
        failed(folder, f"{command}, undisturbed: code {code}")
    return time.monotonic() - begun


def preload_modules(folder: Path) -> None:
    """Have here all that an undisturbed command has imported and composed. After all of these:
    Hydra loads its plugins anew in each process, and what is made of the first ones cannot be kept.
    """
    modules, composed = pickle.loads((folder / "warm.pickle").read_bytes())
    COMPOSED.update(composed)
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def cache_composed_configs() -> None:
    """Have Hydra compose each configuration once: that is two thirds of the time of a start."""
    compose = ConfigLoaderImpl.load_configuration

    def load(loader: ConfigLoaderImpl, *what: Any, **options: Any) -> Any:
        key = repr((what, options))
        if key not in COMPOSED:
            COMPOSED[key] = compose(loader, *what, **options)
        found = copy.deepcopy(COMPOSED[key])
        found.hydra.runtime.cwd = os.getcwd()
        return found

    ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]


# --- what a command left ---


def hash_results(folder: Path) -> dict[str, str]:
    """A hash of each file that holds what training came to."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in RESULT_PATTERNS
        for path in folder.glob(pattern)
        if path.is_file()
    }


def mlflow_runs(folder: Path) -> dict[str, tuple[str, str]]:
    """id -> (name, status) of each run that is not deleted."""
    return {row[0]: (row[1], row[2]) for row in query_mlflow_db(
        folder, "select run_uuid, name, status from runs where lifecycle_stage = 'active'")}  # fmt: skip


def mlflow_points(folder: Path) -> dict[str, Counter[tuple[str, int]]]:
    """id of a run -> how often each (metric, step) is stored."""
    points: dict[str, Counter[tuple[str, int]]] = {run: Counter() for run in mlflow_runs(folder)}
    for run, *point in query_mlflow_db(folder, "select run_uuid, key, step from metrics"):
        if run in points:
            points[run][tuple(point)] += 1
    return points


def query_mlflow_db(folder: Path, query: str) -> list[Any]:
    if not (folder / "mlflow.db").exists():
        return []
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError:  # it was killed before its tables were made
            return []


def miscounted(folder: Path) -> list[str]:
    """Each epoch of a path is trained by one run, so all that they have trained are all that there
    are.
    """
    trained = sum(
        json.loads(path.read_text())["epochs_trained"]
        for path in folder.glob("outputs/*/metadata.json")
    )
    there = sum(
        len(files.read_file(path, embedded_checksum=True).splitlines())
        for path in folder.glob("store/trajectories/*/history.jsonl")
    )
    return [] if trained == there else [f"{trained} trained, {there} there"]


def find_differences(
    folder: Path, undisturbed: Path, known: dict[str, str], redo: bool
) -> list[tuple[str, str]]:
    """What a command that was killed and has ended left otherwise than the undisturbed one: (kind
    of FAULTS, what).

    `known`: the MLflow runs that were there at a kill, id -> name. A `redo` leaves the earlier
    MLflow runs beside its own, and its epochs may be those of a start that another one has emptied
    the folder after.
    """
    mine, theirs = hash_results(folder), hash_results(undisturbed)
    runs, points = mlflow_runs(folder), mlflow_points(folder)
    shown = Counter(name for name, _ in runs.values())
    names = {run: name for run, (name, _) in mlflow_runs(undisturbed).items()}
    expected = {names[run]: stored.keys() for run, stored in mlflow_points(undisturbed).items()}
    found = {
        "other bits": [
            name
            for name in sorted(mine.keys() | theirs.keys())
            if mine.get(name) != theirs.get(name)
        ],
        "left over": {
            RANDOM.sub("", path.name) for pattern in LEFTOVERS for path in folder.rglob(pattern)
        },
        # Nobody else works there: a lock that outlived a start that was killed.
        "had to wait": re.findall(
            "waiting for another process.*", (folder / "told.txt").read_text()
        ),
        "not FINISHED": [
            f"{name} is {status}" for name, status in runs.values() if status != "FINISHED"
        ],
        "another run": [
            *(
                name
                for run, name in known.items()
                if run not in runs or (shown[name] > 1 and not redo)
            ),
            *(f"no {name}" for name in expected if name not in shown),
        ],
        "steps doubled": [
            f"{runs[run]}: {at}" for run in points for at, count in points[run].items() if count > 1
        ],
        "steps missing or new": [
            f"{name}: {at}"
            for run, (name, _) in runs.items()
            for at in points[run].keys() ^ expected.get(name, set())
            if at[0] not in COUNTS
        ],
        "epochs miscounted": [] if redo else miscounted(folder),
    }
    return [(kind, what) for kind in FAULTS for what in found[kind]]


# --- kill -9 at the steps of the writing function ---


def kill_at_step(folder: Path, seen: set[str], passed: int, every: int) -> None:
    """Have this process kill itself at the `every`-th step that is not in `seen`; it writes what it
    passes to `passed`.

    A step's name: the file, what is about to be done to it (or "done"), how far the trainings in
    `folder` are, and which of this start's steps of that name it is.
    """
    stack: list[str] = []
    times = Counter[str]()
    counted = 0

    def moment(step: str, path: Any = None) -> None:
        nonlocal counted
        where = stack[-1] if stack else RANDOM.sub("", str(path).removeprefix(f"{folder}/"))
        epochs = sum(
            int(path.stem[-4:]) for path in folder.glob("store/trajectories/*/resume-*.ckpt")
        )
        name = f"{where} {step} {epochs}"
        times[name] += 1
        name += f" {times[name]}"
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

    written = files.write_stream
    files.write_stream = store.write_stream = whole
    files.tempfile = SimpleNamespace(mkstemp=before("mkstemp", tempfile.mkstemp))  # type: ignore[assignment]
    traced = {
        name: before(name, getattr(os, name)) for name in ("fsync", "chmod", "replace", "link")
    }
    files.os = SimpleNamespace(**{**vars(os), **traced, "fdopen": fdopen})  # type: ignore[assignment]
    Path.unlink = before("unlink", Path.unlink)  # type: ignore[method-assign]
    removals = {name: before(name, getattr(os, name)) for name in ("unlink", "rmdir")}
    shutil.os = SimpleNamespace(**{**vars(os), **removals})  # type: ignore[attr-defined]  # rmtree's


def kill_at_write_steps(folder: Path, command: str, every: int, rng: random.Random) -> Ended:
    """Kill a command again and again, about every `every`-th step, until it passes no new one."""
    seen: set[str] = set()
    known: dict[str, str] = {}
    kills, code = 0, -signal.SIGKILL
    begin_redo(folder, command)
    while code == -signal.SIGKILL:
        reader, writer = os.pipe()
        prepare = functools.partial(
            kill_at_step, folder, seen, writer, rng.randint(1, 2 * every - 1)
        )
        process = start(folder, command, prepare=prepare)
        os.close(writer)
        with os.fdopen(reader) as lines:
            seen |= set(lines.read().splitlines())
        code = wait_for_exit(process)
        kills += code != 0
        known |= {run: name for run, (name, _) in mlflow_runs(folder).items()}
    if code:
        failed(folder, f"{command}, after {kills} kills: code {code}")
    return kills, known


# --- at random moments ---


def kill_at_random_times(
    folder: Path,
    command: str,
    rng: random.Random,
    seconds: float,
    kills: int,
    numbers: tuple[int, ...],
    real: bool,
) -> Ended:
    """Send a command one of the signals `numbers` at up to `kills` moments of the `seconds` it
    takes; let it end.
    """
    known: dict[str, str] = {}
    redo = begin_redo(folder, command)
    now = command
    for tried in range(kills):
        process, number = start(folder, now, real), rng.choice(numbers)
        # What is done already is not done again, but by a redo.
        code = wait_for_exit(process, rng.uniform(0, seconds / (1 if redo else 1 + tried / 2)))
        if code is None:
            os.killpg(process, number)
            code = wait_for_exit(process)
            # Until the first lines of the script have run, the signals are Python's own.
            fits = {0, -number, 128 + number}  # 0: it was just ending
            running = [name for name, status in mlflow_runs(folder).values() if status == "RUNNING"]
            if code not in fits or (number != signal.SIGKILL and running):
                failed(folder, f"{now} after signal {number}: code {code}, RUNNING: {running}")
        elif code:
            failed(folder, f"{now}, started again after {tried} signals: code {code}")
        known |= {run: name for run, (name, _) in mlflow_runs(folder).items()}
        if code == 0:
            return tried, known
        now = rng.choice((command, without_redo(command)))
    if code := wait_for_exit(start(folder, now)):
        failed(folder, f"{now}, started again after {kills} signals: code {code}")
    return kills, known


def without_redo(command: str) -> str:
    """The command without redo=true."""
    return command.removeprefix(REDO)


def begin_redo(folder: Path, command: str) -> bool:
    """Whether it is one; then what it trains again is there."""
    redo = command != without_redo(command)
    if redo:
        run_reference(folder, without_redo(command))
    return redo


def failed(folder: Path, what: str) -> None:
    sys.exit(f"{what}:\n{(folder / 'told.txt').read_text()}")


def run_kill_chains(
    chosen: argparse.Namespace, what: str, place: Path, seconds: dict[str, float]
) -> Iterator[Any]:
    """Kill commands as `what` says: after each chain that was let to its end, its command, kills,
    and faults.
    """
    rng = random.Random(chosen.seed)
    commands, left = chosen.commands.split(","), chosen.number
    folder = place / "killed"
    while commands if what == "files" else left > 0:
        if what == "files":
            command = commands.pop(0)
            kills, known = kill_at_write_steps(folder, command, chosen.every, rng)
        else:
            command = rng.choice(commands)
            numbers = (signal.SIGKILL,) if what == "moments" else (signal.SIGTERM, signal.SIGINT)
            most = min(CHAIN, left)
            kills, known = kill_at_random_times(
                folder, command, rng, seconds[command], most, numbers, chosen.real
            )
            left -= kills
        at_fault = find_differences(
            folder,
            place / f"undisturbed-{without_redo(command)}",
            known,
            command != without_redo(command),
        )
        yield command, kills, at_fault
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", choices=["files", "moments", "signals"])
    parser.add_argument("--commands", default="run,sweep", help=", ".join(COMMANDS))
    parser.add_argument(
        "--every", type=int, default=1, help="files: on average, one step of so many"
    )
    parser.add_argument("--number", type=int, default=4, help="moments and signals: how many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--real",
        action="store_true",
        help="not files: a new interpreter for each start but the last",
    )
    parser.add_argument(
        "--write", action="store_true", help="moments: the figures into docs/reliability.md"
    )
    chosen = parser.parse_args()
    cache_composed_configs()
    begun, wrong, figures = time.monotonic(), [], []
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        place, forked = Path(temporary), chosen.what != ["files"] and not chosen.real
        commands = chosen.commands.split(",")
        needed = dict.fromkeys([*map(without_redo, commands), *commands])
        folders = {command: place / f"undisturbed-{command}" for command in needed}
        seconds = {
            command: run_reference(folder, command, keep=True)
            for command, folder in folders.items()
        }
        for folder in folders.values():
            preload_modules(folder)
        if forked:
            seconds = {
                command: run_reference(place / f"again-{command}", command) for command in needed
            }
        print(f"undisturbed, in seconds: {seconds}", flush=True)
        for what in chosen.what:
            tried, found = Counter[str](), Counter[str]()
            for command, kills, at_fault in run_kill_chains(chosen, what, place, seconds):
                tried[command] += kills
                found.update(kind for kind, _ in at_fault)
                wrong += at_fault
                print(
                    f"{what}, {command}: {kills} kills", *map(str, at_fault), sep="\n  ", flush=True
                )
            faulty = (
                ", ".join(f"{kind}: {count}" for kind, count in found.items()) or "nothing wrong"
            )
            killed = ", ".join(
                f"{count} of a {command}" for command, count in sorted(tried.items())
            )
            figures.append(f"{what} {tried.total()} ({killed}; seed {chosen.seed}): {faulty}")
    minutes = round((time.monotonic() - begun) / 60, 1)
    print(
        json.dumps(
            {**vars(chosen), "figures": "; ".join(figures), "wrong": wrong, "minutes": minutes}
        )
    )
    if chosen.write:
        update_row(f"make kills N={chosen.number}", f"{'; '.join(figures)}; {minutes} minutes")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    os.environ.pop("LUNGSOUND_EXPERIMENT", None)
    main()
