"""Kills commands, starts them again until they end, and compares with an undisturbed command.

kill_commands.py files --every 1      kill -9 at the steps of the function that writes all files and
                                      where a file is removed; each start dies at the next new step
kill_commands.py moments --number 4   kill -9 of the process group at seeded random moments
kill_commands.py signals --number 4   SIGTERM and SIGINT at such moments: exit code, MLflow's status

A start is the command's own script in a fork of this process, which has imported everything, has
the configurations that Hydra composes, and has run nothing; its figures are not painted. With
--real it is a new interpreter. A redo begins after the command without redo=true has ended. The
last line printed is what was tried and what went wrong, in JSON; the exit code is 1 if something
did.
"""

import argparse
import contextlib
import functools
import gc
import importlib
import json
import os
import pickle
import pkgutil
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

from robustness.reliability import update_row
from support.runs import COMPOSED, cache_composed_configs, skip_rendering

import lungsound
from lungsound.data import store
from lungsound.storage import files

ROOT = Path(__file__).parents[2]
SMALL = ("experiment=tiny", "data.demo_patients=4", "data.demo_cycles=48", "trainer=cpu")
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("train.py", *SMALL, "annealing.cycles=2"),
    "sweep": ("sweep.py", *SMALL, "annealing.cycles=1,2"),
}
REDO = "redo-"  # begins the name of a command that trains again what the one without it has made
COMMANDS |= {f"{REDO}{name}": (*words, "redo=true") for name, words in COMMANDS.items()}
LOG = "log.txt"
Ended = tuple[int, dict[str, str]]  # kills until a command ended; MLflow runs seen, id -> name
MAX_CHAIN = 5  # kills at random moments before a chain may end: most then hit a command at work
STUDY_COUNTS = ("jobs", "jobs_finished", "jobs_failed", "epochs_trained")  # each command adds to
LEFTOVERS = (f".*{files.TEMP_SUFFIX}", f"*{files.QUARANTINE_INFIX}*", "*.half*")
RANDOM = re.compile(r"\.[^./]+(?=\.(part|half[^.]*)$)")  # in the name of a file that is being made
RESULTS = (
    *("store/trajectories/*/*.safetensors", "store/trajectories/*/history.jsonl"),
    *("store/waveforms/*/*.f32", "store/demo/*/*/*", "outputs/studies/*/*.csv"),
    *("outputs/*/split.csv", "outputs/*/history.jsonl", "outputs/*/scores.json"),
    *("outputs/*/predictions.parquet", "outputs/*/members/*"),
)


# --- one start of a command ---


def start(
    folder: Path, command: str, real: bool = False, prepare: Callable[[], None] | None = None
) -> int:
    """Begin a command in `folder`, in its own process group, after `prepare`; its process id."""
    folder.mkdir(parents=True, exist_ok=True)
    script, *words = COMMANDS[command]
    if real:
        with (folder / LOG).open("a") as out:
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
        log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if prepare:
            prepare()
        sys.argv = [script, *words]
        with skip_rendering():
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
    """The exit code, -number after a signal; None if the process works on after `seconds`."""
    last = time.monotonic() + (seconds or 0)
    while True:
        done, status = os.waitpid(process, os.WNOHANG if seconds is not None else 0)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= last:
            return None
        time.sleep(0.005)


def run_to_end(folder: Path, command: str, prepare: Callable[[], None] | None = None) -> float:
    """Run a command undisturbed; return its seconds."""
    begin = time.monotonic()
    check_ended(wait_for_exit(start(folder, command, prepare=prepare)), folder, command)
    return time.monotonic() - begin


def check_ended(code: int | None, folder: Path, what: str) -> None:
    if code:
        sys.exit(f"{what}: code {code}:\n{(folder / LOG).read_text()}")


def note_imports(path: Path) -> None:
    """Write, when this process ends, what it has imported and what Hydra has composed."""
    leave = os._exit

    def noted(code: int) -> None:
        path.write_bytes(pickle.dumps((sorted(sys.modules), COMPOSED)))
        leave(code)

    os._exit = noted  # type: ignore[assignment]


def import_package() -> None:
    """Import all of lungsound, and so the large libraries, before the first fork."""
    for module in pkgutil.walk_packages(lungsound.__path__, "lungsound."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def preload(path: Path) -> None:
    """Import and compose here what `note_imports` has noted. Only after the last command is noted:

    Hydra loads its plugins anew in each process, and what the first ones made cannot be kept.
    """
    modules, composed = pickle.loads(path.read_bytes())
    COMPOSED.update(composed)
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


# --- what a command left ---


def read_results(folder: Path) -> dict[str, bytes]:
    """The files that hold what training came to."""
    paths = [path for pattern in RESULTS for path in folder.glob(pattern) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def mlflow_runs(folder: Path) -> dict[str, tuple[str, str]]:
    """Run id -> (name, status) of each run that is not deleted."""
    query = "select run_uuid, name, status from runs where lifecycle_stage = 'active'"
    return {run: (name, status) for run, name, status in query_mlflow(folder, query)}


def mlflow_points(folder: Path) -> dict[str, Counter[tuple[str, int]]]:
    """Run id -> how often each (metric, step) is stored."""
    points: dict[str, Counter[tuple[str, int]]] = {run: Counter() for run in mlflow_runs(folder)}
    for run, key, step in query_mlflow(folder, "select run_uuid, key, step from metrics"):
        if run in points:
            points[run][key, step] += 1
    return points


def query_mlflow(folder: Path, query: str) -> list[Any]:
    if not (folder / "mlflow.db").exists():
        return []
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError:  # it was killed before its tables were made
            return []


def miscounted_epochs(folder: Path) -> list[str]:
    """A trajectory's epoch is trained by one run: the runs' counts add up to the epochs stored."""
    metadata = [json.loads(path.read_text()) for path in folder.glob("outputs/*/metadata.json")]
    trained, stored = sum(facts["epochs_trained"] for facts in metadata), 0
    for path in folder.glob("store/trajectories/*/history.jsonl"):
        stored += len(files.read_file(path, embedded_checksum=True).splitlines())
    return [] if trained == stored else [f"{trained} trained, {stored} stored"]


def find_differences(
    folder: Path, undisturbed: Path, seen: dict[str, str], redo: bool
) -> list[tuple[str, str]]:
    """(kind of fault, what) a killed and ended command left otherwise than the undisturbed one.

    `seen`: the MLflow runs that were there at a kill, id -> name. A `redo` leaves the earlier runs
    in MLflow beside its own, and its epochs may be those of another start.
    """
    mine, theirs = read_results(folder), read_results(undisturbed)
    runs, points = mlflow_runs(folder), mlflow_points(folder)
    number_of = Counter(name for name, _ in runs.values())
    their_points = mlflow_points(undisturbed)
    expected = {name: set(their_points[run]) for run, (name, _) in mlflow_runs(undisturbed).items()}
    faults: list[tuple[str, str]] = []
    for path in sorted(mine.keys() | theirs.keys()):
        if mine.get(path) != theirs.get(path):
            faults.append(("other bits", path))
    for pattern in LEFTOVERS:
        names = {RANDOM.sub("", path.name) for path in folder.rglob(pattern)}
        faults += [("left over", name) for name in names]
    # Nobody else works there: a lock has outlived a killed start.
    waits = re.findall("waiting for another process.*", (folder / LOG).read_text())
    faults += [("had to wait", line) for line in waits]
    for run, name in seen.items():
        if run not in runs or (number_of[name] > 1 and not redo):
            faults.append(("another run", name))
    faults += [("another run", f"no {name}") for name in expected if name not in number_of]
    for run, (name, status) in runs.items():
        if status != "FINISHED":
            faults.append(("not FINISHED", f"{name} is {status}"))
        doubled = [point for point, count in points[run].items() if count > 1]
        faults += [("steps doubled", f"{name}: {point}") for point in doubled]
        for point in points[run].keys() ^ expected.get(name, set()):
            if point[0] not in STUDY_COUNTS:
                faults.append(("steps missing or new", f"{name}: {point}"))
    if not redo:
        faults += [("epochs miscounted", counts) for counts in miscounted_epochs(folder)]
    return faults


# --- kill -9 at the steps of the writing function ---


def kill_at_step(folder: Path, seen: set[str], passed: int, every: int) -> None:
    """Have this process kill itself at the `every`-th step that is not in `seen`.

    It writes the new steps that it passes to the pipe `passed`. A step's name: the file, what is
    about to be done to it (or "done"), how far the trainings in `folder` are, and the number of
    this start's steps of that name.
    """
    stack: list[str] = []
    times = Counter[str]()
    new = 0

    def step(action: str, path: Any = None) -> None:
        nonlocal new
        where = stack[-1] if stack else RANDOM.sub("", str(path).removeprefix(f"{folder}/"))
        resume_points = folder.glob("store/trajectories/*/resume-*.ckpt")
        name = f"{where} {action} {sum(int(path.stem[-4:]) for path in resume_points)}"
        times[name] += 1
        name += f" {times[name]}"
        if name in seen:
            return
        seen.add(name)
        new += 1
        os.write(passed, f"{name}\n".encode())
        if new == every:
            os.kill(os.getpid(), signal.SIGKILL)

    def traced(owner: Any, name: str) -> Callable[..., Any]:
        original = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            step(name, *arguments[:1])
            return original(*arguments, **options)

        return call

    module: Any = files
    write_stream = files.write_stream

    def write_traced(path: Path, *arguments: Any, **options: Any) -> str:
        stack.append(os.path.relpath(path, folder))
        digest = write_stream(path, *arguments, **options)
        step("done")
        stack.pop()
        return digest

    @contextlib.contextmanager
    def fdopen(handle: int, mode: str) -> Iterator[Any]:
        def write(content: bytes) -> None:
            half = len(content) // 2
            step("write")
            file.write(content[:half])
            file.flush()
            step("write the other half")
            file.write(content[half:])

        with os.fdopen(handle, mode) as file:
            yield SimpleNamespace(write=write, flush=file.flush, fileno=file.fileno)

    def os_with(**changes: Any) -> Any:
        return SimpleNamespace(**{**vars(os), **changes})

    module.write_stream = vars(store)["write_stream"] = write_traced
    module.tempfile = SimpleNamespace(mkstemp=traced(tempfile, "mkstemp"))
    names = ("fsync", "chmod", "replace", "link")
    module.os = os_with(fdopen=fdopen, **{name: traced(os, name) for name in names})
    for name in ("unlink", "chmod", "replace"):
        setattr(Path, name, traced(Path, name))
    removals = {name: traced(os, name) for name in ("unlink", "rmdir")}
    shutil.os = os_with(**removals)  # type: ignore[attr-defined]  # rmtree's


def kill_at_write_steps(folder: Path, command: str, every: int, rng: random.Random) -> Ended:
    """Kill a command again and again, about every `every`-th step, until it passes no new one."""
    steps: set[str] = set()
    runs: dict[str, str] = {}
    kills, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        reader, writer = os.pipe()
        distance = rng.randint(1, 2 * every - 1)
        prepare = functools.partial(kill_at_step, folder, steps, writer, distance)
        process = start(folder, command, prepare=prepare)
        os.close(writer)
        with os.fdopen(reader) as lines:
            steps |= set(lines.read().splitlines())
        code = wait_for_exit(process) or 0
        kills += code != 0
        runs |= {run: name for run, (name, _) in mlflow_runs(folder).items()}
    check_ended(code, folder, f"{command}, after {kills} kills")
    return kills, runs


# --- at random moments ---


def kill_at_random_times(
    folder: Path, command: str, rng: random.Random, seconds: float, most: int,
    numbers: tuple[int, ...], real: bool,
) -> Ended:  # fmt: skip
    """Signal a command up to `most` times within its `seconds`, and let it end."""
    runs: dict[str, str] = {}
    now = command
    for tried in range(most):
        process, number = start(folder, now, real), rng.choice(numbers)
        # What is done already is not done again, but by a redo.
        share = 1 if is_redo(command) else 1 + tried / 2
        code = wait_for_exit(process, rng.uniform(0, seconds / share))
        check_ended(code, folder, f"{now}, started again after {tried} signals")
        if code is None:
            os.killpg(process, number)
            code = wait_for_exit(process)
            # Until the first lines of the script have run, the signals are Python's own.
            fits = code in {0, -number, 128 + number}  # 0: it was just ending
            running = [name for name, status in mlflow_runs(folder).values() if status == "RUNNING"]
            if not fits or (number != signal.SIGKILL and running):
                check_ended(code or 1, folder, f"{now} after signal {number}, RUNNING: {running}")
        runs |= {run: name for run, (name, _) in mlflow_runs(folder).items()}
        if code == 0:
            return tried, runs
        now = rng.choice((command, without_redo(command)))
    run_to_end(folder, now)
    return most, runs


def without_redo(command: str) -> str:
    return command.removeprefix(REDO)


def is_redo(command: str) -> bool:
    return command.startswith(REDO)


def run_kill_chains(
    options: argparse.Namespace, what: str, place: Path, seconds: dict[str, float]
) -> Iterator[tuple[str, int, list[tuple[str, str]]]]:
    """Kill commands as `what` says; yield command, kills and faults of each chain that ended."""
    rng = random.Random(options.seed)
    commands, left = options.commands.split(","), options.number
    folder = place / "killed"
    while commands if what == "files" else left > 0:
        command = commands.pop(0) if what == "files" else rng.choice(commands)
        if is_redo(command):
            run_to_end(folder, without_redo(command))
        if what == "files":
            kills, runs = kill_at_write_steps(folder, command, options.every, rng)
        else:
            numbers = (signal.SIGKILL,) if what == "moments" else (signal.SIGTERM, signal.SIGINT)
            most, time_needed = min(MAX_CHAIN, left), seconds[command]
            kills, runs = kill_at_random_times(
                folder, command, rng, time_needed, most, numbers, options.real
            )
            left -= kills
        undisturbed = place / without_redo(command)
        yield command, kills, find_differences(folder, undisturbed, runs, is_redo(command))
        shutil.rmtree(folder)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("what", nargs="+", choices=["files", "moments", "signals"])
    parser.add_argument("--commands", default="run,sweep", help=", ".join(COMMANDS))
    parser.add_argument(
        "--every", type=int, default=1, help="files: on average one step of so many"
    )
    parser.add_argument("--number", type=int, default=4, help="moments and signals: how many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="moments, signals: new interpreters")
    parser.add_argument("--write", action="store_true", help="figures into docs/reliability.md")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    import_package()
    cache_composed_configs()
    gc.freeze()  # or each fork's collector would visit, and so copy, all that is imported
    begin, wrong, figures = time.monotonic(), [], []
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        place, seconds = Path(temporary), {}
        commands = options.commands.split(",")
        needed = dict.fromkeys([*map(without_redo, commands), *commands])
        for command in needed:
            note = functools.partial(note_imports, place / f"{command}.pickle")
            seconds[command] = run_to_end(place / command, command, note)
        for command in needed:
            preload(place / f"{command}.pickle")
        if options.what != ["files"] and not options.real:
            seconds = {
                command: run_to_end(place / f"again-{command}", command) for command in needed
            }
        print(f"undisturbed, in seconds: {seconds}", flush=True)
        for what in options.what:
            tried, found = Counter[str](), Counter[str]()
            for command, kills, faults in run_kill_chains(options, what, place, seconds):
                tried[command] += kills
                found.update(kind for kind, _ in faults)
                wrong += faults
                print(f"{what}, {command}: {kills} kills", *faults, sep="\n  ", flush=True)
            killed = ", ".join(f"{count} of a {name}" for name, count in sorted(tried.items()))
            bad = ", ".join(f"{kind}: {count}" for kind, count in found.items())
            total = f"{what} {tried.total()} ({killed}; seed {options.seed})"
            figures.append(f"{total}: {bad or 'nothing wrong'}")
    minutes, row = round((time.monotonic() - begin) / 60, 1), "; ".join(figures)
    print(json.dumps({**vars(options), "figures": row, "wrong": wrong, "minutes": minutes}))
    if options.write:
        update_row(f"make kills N={options.number}", f"{row}; {minutes} minutes")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    os.environ.pop("LUNGSOUND_EXPERIMENT", None)
    main()
