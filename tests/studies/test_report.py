"""A study's report from made-up run folders: protocols apart, what leaks, the paper's scores."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from support.runs import skip_rendering

from lungsound.errors import CorruptFileError, LungsoundError
from lungsound.results.folder import RunFolder
from lungsound.storage.files import write_file
from lungsound.studies import report as study_report
from lungsound.studies.leakage import leakage_line
from lungsound.studies.report import write_report

LABELS = ["normal", "crackle", "wheeze", "both"]
PAPER_RUN = {
    **{"data": "icbhi", "data.recordings": 920, "data.cycles": 6898, "synthetic": False},
    **{"experiment": "paper", "annealing": "cosine", "segment": "2x4.5s"},
    **{"padding": "sample", "split": "random"},
}
DEMO_RUN = {"synthetic": True, "data": "demo", "data.recordings": 10, "data.cycles": 96}
COUNTS = {
    **{"patients": 12, "test_patients": 12, "recordings": 20, "test_recordings": 22},
    "duplicates": 0,
}
LEAK = "ALSO IN TRAINING OR VALIDATION"


@pytest.fixture(autouse=True)
def unpainted_figures() -> Iterator[None]:
    with skip_rendering():
        yield


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures of the last report, by name."""
    found: dict[str, Figure] = {}
    draw_figures = study_report.draw_figures

    def draw(*arguments: Any) -> dict[str, Figure]:
        found.update(draw_figures(*arguments))
        return found

    monkeypatch.setattr(study_report, "draw_figures", draw)
    return found


def legend(figure: Figure) -> str:
    return " ".join(text.get_text() for one in figure.legends for text in one.get_texts())


def predictions() -> pd.DataFrame:
    """Every class once in validation and test; both members are right but for the last class."""
    rows = []
    for name in ("val", "test"):
        for number, label in enumerate(LABELS):
            row = {"recording": f"{name}.wav", "patient": name, "cycle": number, "label": label}
            row |= {"start_seconds": 0.0, "end_seconds": 1.0, "set": name, "member": 1}
            row |= {f"p_{other}": 0.7 if other == LABELS[number % 3] else 0.1 for other in LABELS}
            rows += [row, {**row, "member": 2}]
    return pd.DataFrame(rows)


def make_run(path: Path, heading: str, leaks: dict[str, int], facts: dict[str, Any]) -> None:
    folder = RunFolder(path)
    folder.write_text("config.yaml", "")
    metadata = {**PAPER_RUN, "model.parameters": 1000, "annealing.cycles": 1, **facts}
    folder.write_json("metadata.json", metadata)
    write_file(path / "members" / "member-01.safetensors", b"weights")
    folder.write_text("split.csv", "set\n" + "train\n" * 8 + "val\n" * 4 + "test\n" * 4)
    epoch = {"epoch": 1, "period": 1, "val/loss": 1.0, "val/score_4": 0.5, "val/score_2": 0.5}
    folder.write_history([epoch])
    folder.write_predictions(predictions())
    folder.write_json("scores.json", {"data": heading, "leak": LEAK, "leaks": leaks})
    folder.write_text("report.md", "")
    folder.write_checksums()


def make_study(folder: Path, runs: list[dict[str, Any]]) -> Path:
    """The study of `runs`: {values, heading, leaks, facts} each, all with the same keys swept."""
    outputs, jobs = folder / "outputs", []
    for number, run in enumerate(runs):
        path = outputs / f"run{number}"
        heading = run.get("heading", "icbhi: 920 recordings, 6898 cycles")
        make_run(path, heading, run.get("leaks", COUNTS), run.get("facts", {}))
        jobs.append({"run": f"outputs/{path.name}", "values": run["values"]})
    study = outputs / "studies" / "trial"
    study.mkdir(parents=True)
    write_study(study, list(runs[0]["values"]), jobs)
    return study


def write_study(study: Path, swept: list[str], jobs: list[dict[str, Any]]) -> None:
    (study / "study.json").write_text(json.dumps({"swept": sorted(swept), "jobs": jobs}))


def file_stems(study: Path, pattern: str) -> set[str]:
    return {path.stem for path in study.glob(pattern)}


def by_protocol() -> list[dict[str, Any]]:
    runs = []
    for protocol, patients in (("random", 12), ("patient", 0)):
        leaks = {**COUNTS, "patients": patients}
        for m in (2, 3):
            values = {"split": protocol, "annealing.cycles": m}
            runs.append({"values": values, "facts": {"split": protocol}, "leaks": leaks})
    return runs


def test_protocols_have_tables_and_figures_of_their_own(tmp_path: Path) -> None:
    study = make_study(tmp_path, by_protocol())
    printed = write_report(study)
    protocols, tables = ("random", "patient"), {"table3": 2, "all": 2, "differences": 4}
    assert file_stems(study, "*.csv") == {f"{name}_{one}" for name in tables for one in protocols}
    for name, rows in tables.items():
        for protocol in protocols:
            table = pd.read_csv(study / f"{name}_{protocol}.csv")
            assert table["protocol"].tolist() == [protocol] * rows
    figures = ("score_against_members", "learning_curves")
    expected = {f"{name}_{one}" for name in figures for one in protocols}
    assert file_stems(study, "figures/*.png") == expected
    assert file_stems(study, "figures/*.pdf") == expected
    assert all(f"table3_{protocol}: " in printed for protocol in protocols)
    patient = (study / "table3_patient.md").read_text()
    assert "No patient of the 12 in test is also in training or validation." in patient
    assert LEAK not in patient
    assert "0.784" not in patient  # the paper's protocol is the other one
    assert LEAK in (study / "table3_random.md").read_text()


def test_tables_in_latex_have_the_cells_of_markdown(tmp_path: Path) -> None:
    study = make_study(tmp_path, by_protocol())
    write_report(study)
    assert file_stems(study, "*.tex") == file_stems(study, "*.csv")
    for path in study.glob("*.tex"):
        body = path.read_text().split("\\midrule\n")[1].split("\\bottomrule")[0]
        found = [line.removesuffix(r" \\").split(" & ") for line in body.splitlines()]
        lines = path.with_suffix(".md").read_text().splitlines()
        table = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
        assert [[cell.replace("\\_", "_") for cell in row] for row in found] == table[2:]
        assert LEAK in path.read_text() or "No patient" in path.read_text()
    first = [path.read_bytes() for path in sorted(study.glob("figures/*.pdf"))]
    write_report(study)
    assert [path.read_bytes() for path in sorted(study.glob("figures/*.pdf"))] == first


def test_one_protocol_keeps_the_short_names_and_earlier_files_are_removed(tmp_path: Path) -> None:
    study = make_study(tmp_path, by_protocol())
    write_report(study)
    jobs = json.loads((study / "study.json").read_text())["jobs"]
    write_study(study, ["split", "annealing.cycles"], jobs[:2])
    write_report(study)
    assert file_stems(study, "*.csv") == {"table3", "all", "differences"}
    assert file_stems(study, "figures/*.png") == {"score_against_members", "learning_curves"}
    assert not list(study.rglob("*_patient*"))


def test_every_table_shows_what_leaks_in_all_its_splits(tmp_path: Path) -> None:
    runs = []
    for seed, patients in enumerate((13, 12, 14)):
        leaks = {"patients": patients, "test_patients": patients + 1, "duplicates": seed}
        values = {"annealing.cycles": 2, "split.seed": seed}
        runs.append({"values": values, "leaks": COUNTS | leaks})
    study = make_study(tmp_path, runs)
    write_report(study)
    shares = "92 TO 94 % OF EACH SPLIT'S TEST PATIENTS"  # 12 of 13 = 92.3 %, 14 of 15 = 93.3 %
    line = f"{shares} AND 20 OF 22 TEST RECORDINGS ARE {LEAK}"
    for name in ("table3", "all", "differences"):
        assert line in (study / f"{name}.md").read_text().splitlines()[0]
        table = pd.read_csv(study / f"{name}.csv")
        assert table["leak"].str.startswith(line).all()
        assert table["leak"].str.endswith("under another name or line: 0 TO 2.").all()


def test_all_patients_of_unequal_splits_leak() -> None:
    counts = [COUNTS, COUNTS | {"patients": 7, "test_patients": 7}]
    expected = f"100 % OF EACH SPLIT'S TEST PATIENTS AND 20 OF 22 TEST RECORDINGS ARE {LEAK}: "
    assert leakage_line(counts, []).startswith(expected)


def test_runs_without_counts_have_their_own_sentences() -> None:
    assert leakage_line([None, COUNTS, None], ["one.", "two.", "one."]) == "one. two."


def test_rows_of_the_paper_have_no_leakage(tmp_path: Path) -> None:
    runs = [{"values": {"annealing": name}} for name in ("constant", "cosine")]
    study = make_study(tmp_path, runs)
    write_report(study)
    table = pd.read_csv(study / "table4.csv")
    assert table["leak"].notna().tolist() == [note == "this study" for note in table["note"]]
    assert (table["note"] == "quoted by the paper").sum() == 4


@pytest.mark.parametrize(
    ("facts", "heading", "shown"),
    [
        ({}, "icbhi: 920 recordings, 6898 cycles", True),
        ({"data.recordings": 22, "data.cycles": 164}, "icbhi: 22 recordings, 164 cycles", False),
        ({"data.cycles": 6778}, "icbhi: 908 recordings, 6778 cycles", False),
        ({"data": "sprsound"}, "sprsound", False),
        ({"synthetic": True}, "SYNTHETIC", False),
    ],
)
def test_the_papers_scores_are_beside_its_own_data_alone(
    facts: dict[str, Any], heading: str, shown: bool, tmp_path: Path
) -> None:
    runs = [{"values": {"annealing.cycles": m}, "facts": facts, "heading": heading} for m in (2, 8)]
    study = make_study(tmp_path, runs)
    write_report(study)
    text = (study / "table3.md").read_text()
    assert ("0.784" in text) == shown
    explained = facts.get("data") != "sprsound" and not shown
    assert ("they are of all 920 recordings (6898 cycles)" in text) == explained
    assert heading in text.splitlines()[0]


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({}, True),
        ({"experiment": "demo"}, True),
        ({"annealing": "constant"}, False),
        ({"segment": "3s"}, False),
        ({"padding": "zero"}, False),
        ({"split": "patient"}, False),
    ],
)
def test_the_papers_scores_are_beside_its_own_settings_alone(
    facts: dict[str, Any], shown: bool, tmp_path: Path, drawn: dict[str, Figure]
) -> None:
    """Also if all runs of the study have the setting, and in the figure as in the table."""
    runs = [{"values": {"annealing.cycles": m}, "facts": facts} for m in (2, 8)]
    study = make_study(tmp_path, runs)
    write_report(study)
    text = (study / "table3.md").read_text()
    assert ("0.784" in text) == shown
    note = f"these runs are of experiment={facts.get('experiment', 'paper')}."
    assert (note in text) == shown
    setting = "they are of annealing=cosine split=random segment=2x4.5s padding=sample."
    assert (setting in text) != shown
    assert ("Nguyen & Pernkopf" in legend(drawn["score_against_members"])) == shown


@pytest.mark.parametrize(("annealing", "shown"), [("constant", True), ("cosine", False)])
def test_lengths_of_ensembles_are_not_the_papers(
    annealing: str, shown: bool, tmp_path: Path, drawn: dict[str, Figure]
) -> None:
    """Its Table II is of single networks."""
    runs = []
    for segment in ("3s", "9s"):
        facts = {"annealing": annealing, "segment": segment}
        runs.append({"values": {"segment": segment}, "facts": facts})
    study = make_study(tmp_path, runs)
    write_report(study)
    text = (study / "table2.md").read_text()
    assert ("they are of annealing=constant split=random." in text) != shown
    assert ("Nguyen & Pernkopf" in legend(drawn["score_against_length"])) == shown


def test_every_figure_is_titled_by_its_data(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    run = {"facts": DEMO_RUN, "heading": "SYNTHETIC demo"}
    places = [(m, segment) for m in (2, 3) for segment in ("3s", "9s")]
    runs = [{"values": {"annealing.cycles": m, "segment": segment}, **run} for m, segment in places]
    write_report(make_study(tmp_path, runs))
    assert len(drawn) == 4
    assert all("SYNTHETIC demo" in figure.get_suptitle() for figure in drawn.values())
    assert not any("Nguyen" in legend(figure) for figure in drawn.values())


def test_two_databases_are_both_named_without_scores_of_the_paper(tmp_path: Path) -> None:
    demo = {"facts": DEMO_RUN, "heading": "SYNTHETIC demo"}
    runs = [
        {"values": {"annealing.cycles": 8, "data": "icbhi"}},
        {"values": {"annealing.cycles": 8, "data": "demo"}, **demo},
    ]
    study = make_study(tmp_path, runs)
    write_report(study)
    text = (study / "table3.md").read_text()
    assert text.startswith("## table3: icbhi: 920 recordings, 6898 cycles; SYNTHETIC demo. ")
    assert "0.784" not in text


def test_a_study_is_reported_from_anywhere(tmp_path: Path) -> None:
    study = make_study(tmp_path / "here", [{"values": {"annealing.cycles": m}} for m in (2, 3)])
    (tmp_path / "here").rename(tmp_path / "there")
    moved = tmp_path / "there" / study.relative_to(tmp_path / "here")
    with contextlib.chdir("/"):
        assert re.search(r"^ 2 +1 +0", write_report(moved), re.MULTILINE)


def test_name_that_no_folder_can_have_is_refused(tmp_path: Path) -> None:
    study = make_study(tmp_path, [{"values": {"seed": 1}}])
    jobs = [{"run": f"outputs/{'x' * 300}", "values": {"seed": 1}}]
    write_study(study, ["seed"], jobs)
    message = r"study\.json.*x\.\.\.: expected the name of a run's folder"
    with pytest.raises(CorruptFileError, match=message):
        write_report(study)
    jobs = [{"run": f"outputs/{'x' * 255}", "values": {"seed": 1}}]  # one that it can have
    write_study(study, ["seed"], jobs)
    with pytest.raises(LungsoundError, match="none of the study's 1 runs is finished"):
        write_report(study)


def test_folds_are_splits_of_one_protocol(tmp_path: Path) -> None:
    facts = {"split": "patient"}
    folds = [{"annealing.cycles": 2, "split.fold": fold} for fold in range(5)]
    runs = [{"values": values, "facts": facts} for values in folds]
    study = make_study(tmp_path, runs)
    write_report(study)
    table = pd.read_csv(study / "table3.csv")
    assert table["splits"].tolist() == [5]
    assert "split.fold" not in table
