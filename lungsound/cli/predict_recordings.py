"""What `lungsound predict` does: find recordings, classify each, write a table and figures."""

import errno
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import track

from lungsound.data.readers.cycle_times import parse_path, read_cycle_times
from lungsound.data.readers.files import is_folder, read_tree
from lungsound.data.registry import DATABASES
from lungsound.data.sound import SUFFIXES, open_sound
from lungsound.ensemble import Ensemble, check_seconds
from lungsound.errors import DataError, StorageError
from lungsound.results.timeline import plot_timeline, recording_log_mel
from lungsound.storage.figures import png_bytes
from lungsound.storage.files import write_file

TABLE = "predictions.csv"
Cycles = dict[str, list[tuple[float, float]]]


def predict_recordings(
    run: Path, paths: Sequence[Path], table: Path | None, out: Path, window: float, hop: float
) -> bool:
    """Classify all recordings; return whether all could be used.

    `table` names known cycles. Writes predictions.csv, also if it is interrupted, and a figure per
    recording to `out`.
    """
    cycles = None if table is None else read_cycle_times(table)
    ensemble = Ensemble.load(run)
    for name, seconds in (("window", window), ("hop", hop)):
        check_seconds(name, seconds, ensemble.features.sample_rate)
    recordings, problems = find_recordings(paths)
    _print_problems(problems)
    print(_description(ensemble), flush=True)
    matched = None if cycles is None else match_cycles(cycles, recordings, table)
    rows = []
    try:
        for name, path in _track(recordings):
            try:
                times = None if matched is None else _find_cycles(matched, name, table)
                rows.append(_predict(ensemble, name, path, out, times, window, hop))
            except DataError as error:
                _print_problems([str(error)])
    finally:
        total = len(recordings) + len(problems)
        if rows:
            content = pd.concat(rows).to_csv(index=False).encode()
            _write(out / TABLE, content)
            print(f"{len(rows)} of {total} recordings: {out / TABLE}")
        else:
            print(f"0 of {total} recordings: {out / TABLE} is not written")
    return len(rows) == total


def find_recordings(paths: Iterable[Path]) -> tuple[dict[str, Path], list[str]]:
    """Return name -> file, and a problem per folder without audio.

    A name is the path below the folder that all files share.
    """
    files, problems = dict[Path, None](), []
    for path in paths:
        if not is_folder(path):
            files[absolute(path)] = None
            continue
        tree = read_tree(path, *SUFFIXES)
        problems += tree.unusable
        found = [absolute(file) for folder in tree.folders.values() for file in folder]
        files |= dict.fromkeys(found)
        if not found:
            suffixes = ", ".join(SUFFIXES)
            problems.append(f"{path}: expected audio files in it ({suffixes}), but there are none")
    if not files:
        return {}, problems
    base = os.path.commonpath([file.parent for file in files])
    recordings = {}
    for file in files:
        name = os.fsencode(file.relative_to(base)).decode(errors="backslashreplace")
        recordings[name] = file
    return recordings, problems


def absolute(path: Path) -> Path:
    """Return an absolute path without `..`, which would lead a figure out of its folder."""
    return Path(os.path.normpath(path.absolute()))  # not resolve(): a link keeps its name


def _description(ensemble: Ensemble) -> str:
    name = ensemble.config["data"]["name"]
    title = DATABASES[name].title if name in DATABASES else name
    return f"ensemble of {len(ensemble.members)}, trained on {title}"


def _track(recordings: dict[str, Path]) -> Iterable[tuple[str, Path]]:
    """Show a progress bar for several recordings."""
    console = Console(stderr=True)
    hidden = len(recordings) < 2 or not console.is_terminal
    return track(list(recordings.items()), "Recordings", console=console, disable=hidden)


def match_cycles(cycles: Cycles, recordings: Iterable[str], table: Path | None) -> Cycles:
    """Return each recording's cycles: `table` has its path or its file's name, or without suffix.

    Prints a note on rows whose recording is not there. Raises DataError if there are two.
    """
    matched: Cycles = {}
    unused = []
    for key, times in cycles.items():
        names = [name for name in recordings if key in _spellings(name)]
        if len(names) > 1:
            raise DataError(f"{table}: expected one recording {key!r}, but got {', '.join(names)}")
        if names:
            matched[names[0]] = matched.get(names[0], []) + times
        else:
            unused.append(key)
    if unused:
        missing = f"{len(unused)} of {len(cycles)} recordings have no file"
        first = ", ".join(unused[:5]) + ", ..." * (len(unused) > 5)
        print(f"note: {table}: {missing}: {first}", file=sys.stderr)
    return matched


def _spellings(name: str) -> list[str]:
    path = parse_path(name)
    return [str(path), str(path.with_suffix("")), path.name, path.stem]


def _find_cycles(cycles: Cycles, name: str, table: Path | None) -> list[tuple[float, float]]:
    if name not in cycles:
        stem = Path(name).stem
        raise DataError(f"{name}: expected its cycles in {table}, but no line names {stem!r}")
    return cycles[name]


def _predict(
    ensemble: Ensemble,
    name: str,
    path: Path,
    out: Path,
    cycles: list[tuple[float, float]] | None,
    window: float,
    hop: float,
) -> pd.DataFrame:
    """Classify one recording, write its figure and return its rows of the table."""
    sound = open_sound(path)
    members = ensemble.predict_members(sound, cycles=cycles, window=window, hop=hop)
    table = ensemble.average(members)
    title = f"{name}: {_description(ensemble)}"
    log_mel = recording_log_mel(sound, ensemble.features)
    corner_hz = ensemble.features.corner_hz.cpu().numpy()
    figure = plot_timeline(log_mel, sound.seconds, corner_hz, members, table, title)
    _write(out / f"{name}.png", png_bytes(figure))
    counts = ", ".join(f"{label} {count}" for label, count in table["label"].value_counts().items())
    unit = ("window" if cycles is None else "cycle") + "s" * (len(table) != 1)
    note = f" ({sound.note})" if sound.note else ""
    print(f"{name}: {sound.seconds:.1f} s, {len(table)} {unit}: {counts}{note}", flush=True)
    table.insert(0, "recording", name)
    return table


def _write(path: Path, content: bytes) -> None:
    try:
        write_file(path, content)
    except StorageError as error:
        cause = error.__cause__
        is_name = isinstance(cause, OSError) and cause.errno == errno.ENAMETOOLONG
        kind = DataError if is_name else StorageError  # the next recording has another name
        raise kind(f"{path} cannot be written: {cause} (--out)") from error


def _print_problems(problems: Iterable[str]) -> None:
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr, flush=True)
