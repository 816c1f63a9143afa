"""1 000 finished runs in one folder and one MLflow file, against 10.

python benchmarks/many_runs.py

Listing a finished run (its command again), one more run, and a study's report: each in this process
and with MLflow's part, so the imports, which no number of runs changes, make no ratio smaller. The
finished runs are copies of one real run of `experiment=tiny`: its folder under other names and ids
(hard links), and its rows in MLflow's tables under other ids, names and folders.
"""

import io
import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Callable
from contextlib import closing, redirect_stdout
from dataclasses import replace
from itertools import count
from pathlib import Path

from rows import Row, print_section, time_in_turn

from lungsound.config.overrides import compose_run
from lungsound.results.study_folder import STUDY_FILE
from lungsound.runs.run import run
from lungsound.studies.store_admin import list_trajectories
from lungsound.studies.study import rewrite_report, run_study
from lungsound.tracking.client import RUN_TAG
from lungsound.tracking.state import read_state, write_state
from lungsound.tracking.sync import FOLDER_TAG

FEW, MANY, ROUNDS = 10, 1000, 3
ROW_NAMES = ("listing a finished run", "one more run", "a study's report")
LS = "`lungsound study ls`"
TABLES = ("tags", "params", "metrics", "latest_metrics")
SEEDS = count(1)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        work: dict[str, Callable[[], object]] = {}
        for number in (FEW, MANY):
            work |= prepare(Path(folder), number)
        seconds = time_in_turn(work, ROUNDS)
    rows, lines = [], []
    for name in (*ROW_NAMES, LS):
        few, many = seconds[f"{name} {FEW}"], seconds[f"{name} {MANY}"]
        ratios = [more / less for more, less in zip(many, few, strict=True)]
        lines.append(f"| {name} | {min(few):.2f} | {min(many):.2f} |")
        if name != LS:  # its own output grows with the runs
            rows.append(Row(f"{name} among {MANY} finished", f"among {FEW}", ratios, "<= 1.5"))
    print_section(
        "Many finished runs",
        rows,
        f"Seconds, the fastest of {ROUNDS} rounds:\n",
        f"| command | among {FEW} | among {MANY} |\n|---|---:|---:|",
        *lines,
    )


def prepare(folder: Path, number: int) -> dict[str, Callable[[], object]]:
    """Make a place with a study and `number` finished runs; return what is timed there."""
    place, store = folder / str(number), folder / "store"
    place.mkdir()
    database, outputs = place / "mlflow.db", place / "outputs"
    places = (f"output_dir={outputs}", f"store_dir={store}", f"tracking.uri=sqlite:///{database}")
    words = ("experiment=tiny", *places)
    run_study([*words, "annealing.cycles=2,3"])
    (study_file,) = (outputs / "studies").glob(f"*/{STUDY_FILE}")
    finished = run(*compose_run(words))
    add_copies(finished, database, number - 2)
    return {
        f"{ROW_NAMES[0]} {number}": lambda: run(*compose_run(words)),
        f"{ROW_NAMES[1]} {number}": lambda: run(*compose_run([*words, f"seed={next(SEEDS)}"])),
        f"{ROW_NAMES[2]} {number}": lambda: rewrite_report(study_file.parent),
        f"{LS} {number}": lambda: list_trajectories(store, outputs),
    }


def add_copies(finished: Path, database: Path, number: int) -> None:
    """Add copies of a finished run to its folder's neighbours and to MLflow's database."""
    state = read_state(finished)
    assert state is not None
    with closing(sqlite3.connect(database)) as connection, connection:
        query = "SELECT run_uuid FROM tags WHERE key = ? AND value = ?"
        ((source,),) = connection.execute(query, (RUN_TAG, state.id)).fetchall()
        for _ in range(number):
            identity = uuid.uuid4().hex
            copy = finished.with_name(f"{finished.name[:-8]}{identity[:8]}")
            shutil.copytree(finished, copy, copy_function=os.link)
            write_state(copy, replace(state, id=identity))
            copy_rows(connection, source, identity, copy)


def copy_rows(connection: sqlite3.Connection, source: str, identity: str, folder: Path) -> None:
    """Copy the rows of the MLflow run `source` to a run with this id and folder."""
    for table in ("runs", *TABLES):
        info = connection.execute(f"PRAGMA table_info({table})")
        columns = ", ".join(name for _, name, *_ in info if name != "run_uuid")
        connection.execute(
            f"INSERT INTO {table} (run_uuid, {columns}) "
            f"SELECT ?, {columns} FROM {table} WHERE run_uuid = ?",
            (identity, source),
        )
    new = "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ?"
    values = {RUN_TAG: identity, FOLDER_TAG: str(folder), "mlflow.runName": folder.name}
    connection.executemany(new, [(value, identity, key) for key, value in values.items()])
    connection.execute("UPDATE runs SET name = ? WHERE run_uuid = ?", (folder.name, identity))


if __name__ == "__main__":
    main()
