"""Make a study's tables, figures and report from the folders of its runs."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lungsound.errors import LungsoundError
from lungsound.results.folder import RunFolder, folder_lock_path
from lungsound.results.study_folder import read_failure, read_study
from lungsound.scoring.scores import score_names
from lungsound.storage.figures import pdf_bytes, png_bytes
from lungsound.storage.files import corrupt_file_on_error, write_file
from lungsound.storage.keys import canonical_json
from lungsound.storage.locks import file_lock
from lungsound.studies import figures as study_figures
from lungsound.studies import tables as study_tables
from lungsound.studies.controls import (
    control_rows,
    control_table,
    draw_controls,
    has_controls,
)
from lungsound.studies.jobs import format_values
from lungsound.studies.leakage import LEAKAGE_COUNTS, leakage_line
from lungsound.studies.statistics import (
    SPLIT_KEYS,
    aggregate_over_splits,
    exclude,
    paired_differences,
)

PAPER_SETTINGS = {"table2": study_tables.PAPER_TABLE2, "table3": study_tables.PAPER_TABLE3}
# What a run's metadata must have, so that the paper's scores are shown beside it.
PAPER_DATA = {"data": "icbhi", "data.recordings": 920, "data.cycles": 6898}
NO_PAPER_SCORES = "The paper's scores are not shown beside these:"
PAPER_DATA_NOTE = f"{NO_PAPER_SCORES} they are of all 920 recordings (6898 cycles) of ICBHI 2017."


class StudyRuns(NamedTuple):
    """The finished runs of a study."""

    table: pd.DataFrame  # one row per run: `run_row` and the values of the swept keys
    histories: list[tuple[str, pd.DataFrame]]  # a name and the history per row
    keys: list[str]  # the swept keys
    missing: list[str]  # one line per unfinished run


def rewrite_report(folder: Path) -> str:
    """Write a study's tables and figures again; return its main table.

    Raises LungsoundError if `folder` is not a study's, or none of its runs is finished.
    """
    folder = folder.resolve()  # "." has no name for its lock file
    read_study(folder)  # validate first: create no lock file beside an arbitrary folder
    with file_lock(folder_lock_path(folder), folder):
        return write_report(folder)


def write_report(folder: Path) -> str:
    """Write a study's tables, figures and report; return the main table for the console.

    Runs of different protocols never share a table or figure: with several protocols, file names
    end with the protocol. Raises LungsoundError if `folder` is not a study's or no run is finished.
    """
    runs = read_runs(folder)
    files: dict[str, bytes] = {}
    main_tables = []
    several = runs.table["protocol"].nunique() > 1
    for protocol, group in runs.table.groupby("protocol", sort=False):
        main_table, rendered = render_protocol(group, runs, f"_{protocol}" if several else "")
        main_tables.append(main_table)
        files |= rendered
    texts = [content.decode() for name, content in files.items() if name.endswith(".md")]
    images = [f"![{Path(name).stem}]({name})" for name in files if name.endswith(".png")]
    report = "\n\n".join([*texts, "\n".join(images), ""])
    write_report_files(folder, {**files, "report.md": report.encode()})
    return "\n\n".join(main_tables)


def read_runs(folder: Path) -> StudyRuns:
    """Read a study's finished runs. Raises LungsoundError as `write_report` does."""
    study = read_study(folder)
    outputs = folder.resolve().parents[1]  # the paths in study.json may be outdated
    rows, histories, missing = [], [], []
    for job in study["jobs"]:
        name, run = format_values(job["values"]), RunFolder(outputs / Path(job["run"]).name)
        if run.is_complete:
            rows.append({**run_row(run), **job["values"], "folder": str(run.path)})
            histories.append((name, pd.DataFrame(run.read_history())))
        else:
            failure = read_failure(folder, job["run"])
            lines = failure["error"].splitlines() if failure else []
            missing.append(": ".join(["missing", name, *lines[:1]]))
    if not rows:
        raise LungsoundError(f"{folder}: none of the study's {len(study['jobs'])} runs is finished")
    keys = [key for key in sorted(study["swept"]) if key != "split"]  # each protocol has a table
    return StudyRuns(pd.DataFrame(rows), histories, keys, missing)


def render_protocol(
    table: pd.DataFrame, runs: StudyRuns, suffix: str
) -> tuple[str, dict[str, bytes]]:
    """Return one protocol's main table for the console, and file name -> content of all files.

    `table`: the rows of `runs.table` with that protocol.
    """
    title = "; ".join(table["heading"].unique())
    leakage = leakage_line(table["leaks"].tolist(), table["leak"].tolist())
    paper = bool(table["paper_data"].all())
    notes = list(runs.missing)
    if not paper and "icbhi" in table["database"].to_numpy():
        notes.append(PAPER_DATA_NOTE)
    main_table = ""
    files: dict[str, bytes] = {}
    tables = build_tables(table, runs.keys, paper)
    controls = None
    if "annealing" in runs.keys and has_controls(table):
        controls = control_rows(table, runs.keys)
        tables = {"controls": control_table(controls, runs.keys), **tables}
    for name, rows in tables.items():
        comparison = []
        if paper and name in PAPER_SETTINGS:
            comparison = [paper_comparison_note(table, rows, PAPER_SETTINGS[name])]
        heading = f"{name}{suffix}: {title}. {leakage}"
        text = study_tables.markdown(rows, heading, [*comparison, *notes])
        if not main_table:
            more = f"Sp, Se and intervals: {name}{suffix}.md"
            protocol = f"split={table['protocol'].iloc[0]}"
            main_table = study_tables.console(
                rows, f"{name}{suffix}: {protocol}; {title}. {leakage}", [*comparison, *notes, more]
            )
        files[f"{name}{suffix}.csv"] = _csv(rows, title, leakage)
        files[f"{name}{suffix}.md"] = text.encode()
        latex = study_tables.latex(rows, heading, [*comparison, *notes])
        files[f"{name}{suffix}.tex"] = latex.encode()
    if suffix:
        title += f"; split={table['protocol'].iloc[0]}"
    histories = dict(runs.histories[row] for row in table.index)
    figures = draw_figures(tables, runs.keys, histories, title)
    if controls is not None:
        figures |= draw_controls(controls, runs.keys, title)
    for name, figure in figures.items():
        files[f"figures/{name}{suffix}.png"] = png_bytes(figure)
        files[f"figures/{name}{suffix}.pdf"] = pdf_bytes(figure)
    return main_table, files


def _csv(rows: pd.DataFrame, heading: str, leakage: str) -> bytes:
    """Encode `rows`, with heading and leakage in every row but the paper's own."""
    ours = rows["protocol"].notna()
    columns = {"heading": np.where(ours, heading, ""), "leak": np.where(ours, leakage, "")}
    return rows.assign(**columns).to_csv(index=False).encode()


def write_report_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` below `folder`, and remove the tables and figures of an earlier report."""
    for name, content in files.items():
        write_file(folder / name, content)
    for pattern in ("*.csv", "*.md", "*.tex", "figures/*.p*"):
        for path in folder.glob(pattern):
            if path.relative_to(folder).as_posix() not in files:
                path.unlink()


def run_row(run: RunFolder) -> dict[str, Any]:
    """Return a run's row in the tables: test scores of ensemble and single member, and counts."""
    summary, split = run.summary(), run.read_text("split.csv")
    facts, scores = run.metadata(), run.read_json("scores.json")
    with corrupt_file_on_error(run.path):
        counts = pd.read_csv(io.StringIO(split))["set"].value_counts()
        row = _run_row(summary, facts, scores, counts)
        canonical_json(row)  # raises for lone surrogates, which cannot be encoded
        return row


def _run_row(summary: Any, facts: Any, scores: Any, counts: pd.Series) -> dict[str, Any]:
    row = dict(summary["ensemble"][-1]["test"])
    row.pop("accuracy", None)
    single = summary["single"]["test"]
    row |= {f"single_{name}": single[name] for name in score_names(single)}
    points = scores.get("operating", {}).get("points", {})  # none in runs of release 0.1
    row["threshold_score_2"] = points["best_score"]["score"] if points else None
    row |= {name: str(facts[name]) for name in ("experiment", "annealing", "segment", "padding")}
    row |= {f"{name}_cycles": int(counts[name]) for name in ("train", "val", "test")}
    leaks = scores.get("leaks")  # absent in some runs of release 0.1
    return row | {
        "members": len(summary["members"]),
        "parameters": int(facts["model.parameters"]),
        "protocol": str(facts["split"]),
        "database": str(facts["data"]),
        "paper_data": not facts["synthetic"] and PAPER_DATA.items() <= facts.items(),
        "heading": str(scores["data"]),
        "leak": str(scores["leak"]),
        "leaks": leaks and {name: int(leaks[name]) for name in LEAKAGE_COUNTS},
    }


def build_tables(runs: pd.DataFrame, keys: Sequence[str], paper: bool) -> dict[str, pd.DataFrame]:
    """Return the tables that fit the swept keys, the main one first; `all` has every score."""
    all_rows = aggregate_over_splits(runs, keys)
    fits = {
        name: paper and study_tables.matches_settings(runs, keys, setting)
        for name, setting in PAPER_SETTINGS.items()
    }
    tables = {}
    if "annealing.cycles" in keys:
        tables["table3"] = study_tables.table3(all_rows, fits["table3"])
    if "segment" in keys:
        tables["table2"] = study_tables.table2(all_rows, fits["table2"])
    if "annealing" in keys and not has_controls(runs):
        tables["table4"] = study_tables.table4(all_rows, runs, paper)
    return {**tables, "all": all_rows, "differences": paired_differences(runs, keys)}


def paper_comparison_note(
    runs: pd.DataFrame, table: pd.DataFrame, setting: Mapping[str, str]
) -> str:
    """Return the settings of the paper's scores in a table, or why it has none."""
    if study_tables.has_paper_columns(table):
        ours = ", ".join(f"experiment={name}" for name in runs["experiment"].unique())
        return (
            "The paper's scores are of its own settings, experiment=paper with no other key; "
            f"these runs are of {ours}."
        )
    words = " ".join(f"{name}={value}" for name, value in setting.items())
    return f"{NO_PAPER_SCORES} they are of {words.replace('protocol', 'split')}."


def draw_figures(
    tables: Mapping[str, pd.DataFrame],
    keys: Sequence[str],
    histories: Mapping[str, pd.DataFrame],
    title: str,
) -> dict[str, Figure]:
    """Draw a study's figures, with the paper's scores if the table of the figure has them."""
    figures: dict[str, Figure] = {}
    scores = tables["all"]

    def paper_scores(number: int) -> pd.DataFrame | None:
        shown = study_tables.has_paper_columns(tables[f"table{number}"])
        return study_tables.paper_table(number) if shown else None

    if "segment" in keys:
        others = exclude(keys, *SPLIT_KEYS, "segment", "padding")
        groups = scores.groupby(others) if others else [((), scores)]
        for number, (values, rows) in enumerate(groups, start=1):
            words = [f"{key}={value}" for key, value in zip(others, values, strict=True)]
            name = f"score_against_length_{number}" if others else "score_against_length"
            full_title = " ".join([title, *words])
            figures[name] = study_figures.score_against_length(rows, full_title, paper_scores(2))
    if "annealing.cycles" in keys:
        lines = exclude(keys, *SPLIT_KEYS, "annealing.cycles")
        figures["score_against_members"] = study_figures.score_against_members(
            scores, lines, title, paper_scores(3)
        )
    figures["learning_curves"] = study_figures.learning_curves(histories, title)
    return figures
