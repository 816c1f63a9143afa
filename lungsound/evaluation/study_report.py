"""A study's tables, figures and report, from the folders of its runs alone."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lungsound.errors import LungsoundError
from lungsound.evaluation import study_figures, study_tables
from lungsound.evaluation.folder import RunFolder
from lungsound.evaluation.summary import summarize
from lungsound.files import read_file, write_file

STUDY_FILE = "study.json"


def write_report(folder: Path) -> str:
    """Make a study's files again from its runs' stored predictions; the main table and what is missing, as text.

    Raises LungsoundError where `folder` is no study or none of its runs is finished.
    """
    if not (folder / STUDY_FILE).exists():
        raise LungsoundError(f"{folder}: expected the folder of a study, with its {STUDY_FILE}, but there is none")
    study = json.loads(read_file(folder / STUDY_FILE))
    finished = {name: RunFolder(Path(name)) for name in study["jobs"] if RunFolder(Path(name)).finished}
    notes = [f"missing: {words(values)}" for name, values in study["jobs"].items() if name not in finished]
    if not finished:
        raise LungsoundError(f"{folder}: none of the study's {len(study['jobs'])} runs is finished")
    runs = pd.DataFrame([{**study["jobs"][name], **result(run)} for name, run in finished.items()])
    keys, paper = sorted(study["swept"]), not study["synthetic"] and study["database"] == "icbhi"
    tables = study_table_set(runs, keys, paper)
    heading = f"{study['heading']}. {study['leak']}"
    for name, table in tables.items():
        write_file(folder / f"{name}.csv", table.to_csv(index=False).encode())
    texts = {name: study_tables.markdown(table, f"{name}: {heading}", notes) for name, table in tables.items()}
    for name, text in texts.items():
        write_file(folder / f"{name}.md", text.encode())
    histories = {words(study["jobs"][name]): pd.DataFrame(run.read_history()) for name, run in finished.items()}
    drawn = figures(tables["all"], keys, histories, study["heading"], paper)
    for name, figure in drawn.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
        write_file(folder / "figures" / f"{name}.png", buffer.getvalue())
    pictures = "\n".join(f"![{name}](figures/{name}.png)" for name in drawn)
    write_file(folder / "report.md", "\n\n".join([*texts.values(), pictures, ""]).encode())
    return next(iter(texts.values()))


def words(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items()) or "the run"


def result(run: RunFolder) -> dict[str, Any]:
    """What the tables need of one run: test scores of the ensemble and the single member, counts, parameters."""
    summary, facts = summarize(run.read_predictions()), run.read_json("facts.json")
    split = pd.read_csv(io.StringIO(run.read_text("split.csv")))["set"].value_counts()
    single = {f"single_{name}": value for name, value in summary["single"]["test"].items() if name.startswith("score")}
    return {
        **{name: value for name, value in summary["ensemble"][-1]["test"].items() if name != "accuracy"},
        **single,
        "members": len(summary["members"]),
        "parameters": facts["model.parameters"],
        "protocol": facts["split"],
        **{f"{name}_cycles": int(split[name]) for name in ("train", "val", "test")},
    }


def study_table_set(runs: pd.DataFrame, keys: Sequence[str], paper: bool) -> dict[str, pd.DataFrame]:
    """The tables a study's keys call for, the one that answers its question first; `all` has every number."""
    every = study_tables.aggregate(runs, keys)
    tables = {}
    if "annealing.cycles" in keys:
        tables["table3"] = study_tables.table3(every, paper)
    if "segment" in keys:
        tables["table2"] = study_tables.table2(every, paper)
    if "annealing" in keys:
        tables["table4"] = study_tables.table4(every, runs, paper)
    return {**tables, "all": every, "differences": study_tables.paired_differences(runs, keys)}


def figures(
    every: pd.DataFrame, keys: Sequence[str], histories: Mapping[str, pd.DataFrame], title: str, paper: bool
) -> dict[str, Figure]:
    drawn = {"learning_curves": study_figures.learning_curves(histories, title)}
    lines = [key for key in keys if key not in ("annealing.cycles", "split.seed")]
    if "annealing.cycles" in keys:
        beside = study_tables.paper_table(3) if paper else None
        drawn["score_against_members"] = study_figures.score_against_members(every, lines, title, beside)
    if "segment" in keys:
        beside = study_tables.paper_table(2) if paper else None
        others = [key for key in keys if key not in ("segment", "padding", "split.seed")]
        for number, (values, rows) in enumerate(every.groupby(others) if others else [((), every)], start=1):
            what = " ".join(f"{key}={value}" for key, value in zip(others, values, strict=True))
            name = f"score_against_length_{number}" if others else "score_against_length"
            drawn[name] = study_figures.score_against_length(rows, f"{title} {what}".strip(), beside)
    return dict(reversed(drawn.items()))
