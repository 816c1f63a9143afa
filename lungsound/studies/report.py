"""A study's tables, figures and report, from the folders of its runs alone."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lungsound.errors import LungsoundError
from lungsound.results.folder import RunFolder
from lungsound.results.study_folder import read_study
from lungsound.storage.files import checksum_path, corrupt_file_on_error, write_file
from lungsound.storage.keys import canonical_json
from lungsound.studies import figures as study_figures
from lungsound.studies import tables as study_tables
from lungsound.studies.jobs import format_values
from lungsound.studies.tables import PAPER_TABLE2, PAPER_TABLE3, has_paper_columns, matches_settings

LEAKAGE_COUNTS = ("patients", "test_patients", "recordings", "test_recordings", "duplicates")
PAPER_SETTINGS = {"table2": PAPER_TABLE2, "table3": PAPER_TABLE3}
PAPER_DATA = {
    "data": "icbhi",
    "data.recordings": 920,
    "data.cycles": 6898,
}  # facts of a run on what the paper has
PAPER_DATA_NOTE = "The paper's figures do not stand beside these: they are of all 920 recordings (6898 cycles) of ICBHI 2017."


def write_report(folder: Path) -> str:
    """Make a study's files again from its runs' stored predictions; the main table and what is
    missing, as text.

    Runs of different protocols never share a table or a figure: with more than one, each name ends
    with its protocol. Raises LungsoundError where `folder` is no study or none of its runs is
    finished.
    """
    runs, histories, keys, missing = study_runs(folder)
    files: dict[str, bytes] = {}
    first = []
    for protocol, group in runs.groupby("protocol", sort=False):
        suffix = f"_{protocol}" if runs["protocol"].nunique() > 1 else ""
        chosen = {
            name: history
            for place, (name, history) in enumerate(histories.items())
            if place in group.index
        }
        part = render_protocol(group, keys, chosen, missing, suffix)
        files |= part
        first.append(
            next(content for name, content in part.items() if name.endswith(".md")).decode()
        )
    texts = [content.decode() for name, content in files.items() if name.endswith(".md")]
    pictures = "\n".join(f"![{Path(name).stem}]({name})" for name in files if name.endswith(".png"))
    write_report_files(folder, {**files, "report.md": "\n\n".join([*texts, pictures, ""]).encode()})
    return "\n".join(first)


def study_runs(folder: Path) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], list[str], list[str]]:
    """The finished runs, a row each, and their histories; the swept keys; a line for each run that
    is missing.
    """
    study = read_study(folder)
    outputs = folder.resolve().parents[
        1
    ]  # wherever the command is typed, and where the outputs were moved to
    jobs = [(job["values"], RunFolder(outputs / Path(job["run"]).name)) for job in study["jobs"]]
    finished = [(values, run) for values, run in jobs if run.is_complete]
    missing = [f"missing: {format_values(values)}" for values, run in jobs if not run.is_complete]
    if not finished:
        raise LungsoundError(f"{folder}: none of the study's {len(jobs)} runs is finished")
    runs = pd.DataFrame([{**run_row(run), **values} for values, run in finished])
    histories = {
        format_values(values): pd.DataFrame(run.read_history()) for values, run in finished
    }
    keys = [key for key in sorted(study["swept"]) if key != "split"]  # a protocol each
    return runs, histories, keys, missing


def render_protocol(
    runs: pd.DataFrame,
    keys: Sequence[str],
    histories: Mapping[str, pd.DataFrame],
    notes: Sequence[str],
    suffix: str,
) -> dict[str, bytes]:
    """The tables and figures of runs of one protocol: file name -> content, the main table first."""
    protocol, heading = runs["protocol"].iloc[0], "; ".join(runs["heading"].unique())
    paper = bool(runs["paper_data"].all())
    if not paper and "icbhi" in runs["database"].to_numpy():
        notes = [*notes, PAPER_DATA_NOTE]
    leak = leak_line(runs["leaks"].tolist(), runs["leak"].tolist())
    files: dict[str, bytes] = {}
    tables = build_tables(runs, keys, paper)
    for name, table in tables.items():
        known = table["protocol"].notna()  # not so in rows of the paper's own
        annotated = table.assign(**{column: pd.Series(text, table.index).where(known) for column, text in
                               {"heading": heading, "leak": leak}.items()})  # fmt: skip
        beside = (
            [paper_comparison_note(runs, table, PAPER_SETTINGS[name])]
            if paper and name in PAPER_SETTINGS
            else []
        )
        text = study_tables.markdown(table, f"{name}{suffix}: {heading}. {leak}", [*beside, *notes])
        files |= {
            f"{name}{suffix}.csv": annotated.to_csv(index=False).encode(),
            f"{name}{suffix}.md": text.encode(),
        }
    title = f"{heading}; split={protocol}" if suffix else heading
    for name, figure in figures(tables, keys, histories, title).items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
        files[f"figures/{name}{suffix}.png"] = buffer.getvalue()
    return files


def write_report_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` below `folder`; tables and figures that are none of them any more go."""
    for name, content in files.items():
        write_file(folder / name, content)
    old = [path for pattern in ("*.csv", "*.md", "figures/*.png") for path in folder.glob(pattern)]
    for path in old:
        if path.relative_to(folder).as_posix() not in files:
            path.unlink()
            checksum_path(path).unlink(missing_ok=True)


def leak_line(counts: Sequence[Mapping[str, int] | None], lines: Sequence[str]) -> str:
    """What leaks in the splits of several runs: each run's `counts` as one range, or its own line
    where it has none.
    """
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        return " ".join(dict.fromkeys(lines))

    def format_range(name: str) -> str:
        low, high = (choose(count[name] for count in known) for choose in (min, max))
        return str(low) if low == high else f"{low} TO {high}"

    if any(count["patients"] for count in known):
        line = (
            f"{format_range('patients')} OF {format_range('test_patients')} TEST PATIENTS AND {format_range('recordings')} OF "
            f"{format_range('test_recordings')} TEST RECORDINGS ARE ALSO IN TRAINING OR VALIDATION: these scores say "
            "nothing about new patients."
        )
    else:
        line = f"No patient of the {format_range('test_patients').lower()} in test is also in training or validation."
    if any(count["duplicates"] for count in known):
        line += f" SOUNDS OF TEST THAT ARE ALSO IN TRAINING OR VALIDATION under another name: {format_range('duplicates')}."
    return line


def run_row(run: RunFolder) -> dict[str, Any]:
    """What the tables need of one run: test scores of the ensemble and the single member, counts,
    parameters.
    """
    summary = run.summary()
    facts, scores, split = (
        run.read_json("facts.json"),
        run.read_json("scores.json"),
        run.read_text("split.csv"),
    )
    with corrupt_file_on_error(run.path):
        found = _result(
            summary, facts, scores, pd.read_csv(io.StringIO(split))["set"].value_counts()
        )
        canonical_json(found)  # as above
        return found


def _result(summary: Any, facts: Any, scores: Any, split: pd.Series) -> dict[str, Any]:
    single = {
        f"single_{name}": value
        for name, value in summary["single"]["test"].items()
        if name.startswith("score")
    }
    return {
        **{
            name: value
            for name, value in summary["ensemble"][-1]["test"].items()
            if name != "accuracy"
        },
        **single,
        "members": len(summary["members"]),
        "parameters": int(facts["model.parameters"]),
        "protocol": str(facts["split"]),
        **{group: str(facts[group]) for group in ("experiment", "annealing", "segment", "padding")},
        "database": str(facts["data"]),
        "paper_data": not facts["synthetic"]
        and all(facts[name] == value for name, value in PAPER_DATA.items()),
        "heading": str(scores["data"]),
        "leak": str(scores["leak"]),
        "leaks": scores.get("leaks")
        and {name: int(scores["leaks"][name]) for name in LEAKAGE_COUNTS},  # earlier runs: none
        **{f"{name}_cycles": int(split[name]) for name in ("train", "val", "test")},
    }


def build_tables(runs: pd.DataFrame, keys: Sequence[str], paper: bool) -> dict[str, pd.DataFrame]:
    """The tables a study's keys call for, the one that answers its question first; `all` has every
    number.
    """
    all_rows = study_tables.aggregate_over_splits(runs, keys)
    tables = {}
    fits = {
        name: paper and matches_settings(runs, keys, setting)
        for name, setting in PAPER_SETTINGS.items()
    }
    if "annealing.cycles" in keys:
        tables["table3"] = study_tables.table3(all_rows, fits["table3"])
    if "segment" in keys:
        tables["table2"] = study_tables.table2(all_rows, fits["table2"])
    if "annealing" in keys:
        tables["table4"] = study_tables.table4(all_rows, runs, paper)
    return {**tables, "all": all_rows, "differences": study_tables.paired_differences(runs, keys)}


def paper_comparison_note(
    runs: pd.DataFrame, table: pd.DataFrame, setting: Mapping[str, str]
) -> str:
    """What the paper's figures beside a table are of, or why there are none."""
    if has_paper_columns(table):
        ours = ", ".join(f"experiment={name}" for name in runs["experiment"].unique())
        return f"The paper's figures are of its contract, experiment=paper with no other key; these runs are of {ours}."
    words = " ".join(f"{name}={value}" for name, value in setting.items())
    return f"The paper's figures do not stand beside these: they are of {words.replace('protocol', 'split')}."


def figures(
    tables: Mapping[str, pd.DataFrame],
    keys: Sequence[str],
    histories: Mapping[str, pd.DataFrame],
    title: str,
) -> dict[str, Figure]:
    """A study's figures, with the paper's line where the table of the same name quotes it."""
    every = tables["all"]
    drawn = {"learning_curves": study_figures.learning_curves(histories, title)}
    lines = [key for key in keys if key not in ("annealing.cycles", *study_tables.SPLIT_KEYS)]
    if "annealing.cycles" in keys:
        beside = study_tables.paper_table(3) if has_paper_columns(tables["table3"]) else None
        drawn["score_against_members"] = study_figures.score_against_members(
            every, lines, title, beside
        )
    if "segment" in keys:
        beside = study_tables.paper_table(2) if has_paper_columns(tables["table2"]) else None
        others = [
            key for key in keys if key not in ("segment", "padding", *study_tables.SPLIT_KEYS)
        ]
        for number, (values, rows) in enumerate(
            every.groupby(others) if others else [((), every)], start=1
        ):
            what = " ".join(f"{key}={value}" for key, value in zip(others, values, strict=True))
            name = f"score_against_length_{number}" if others else "score_against_length"
            drawn[name] = study_figures.score_against_length(
                rows, f"{title} {what}".strip(), beside
            )
    return dict(reversed(drawn.items()))
