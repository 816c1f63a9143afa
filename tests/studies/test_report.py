"""A study's report from the folders of runs that no training made: protocols apart, what leaks, the
paper's figures.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from lungsound.errors import CorruptFileError
from lungsound.results.folder import RunFolder
from lungsound.storage.files import write_file
from lungsound.studies import report as study_report
from lungsound.studies.report import leakage_line, write_report

LABELS = ["normal", "crackle", "wheeze", "both"]
PAPERS = {
    "experiment": "paper",
    "annealing": "cosine",
    "segment": "2x4.5s",
    "padding": "sample",
    "split": "random",
}
WHOLE = {"data": "icbhi", "data.recordings": 920, "data.cycles": 6898, "synthetic": False, **PAPERS}
COUNTS = {
    "patients": 12,
    "test_patients": 12,
    "recordings": 20,
    "test_recordings": 22,
    "duplicates": 0,
}
SENTENCE = "12 OF 12 TEST PATIENTS ARE ALSO IN TRAINING OR VALIDATION: these scores say nothing about new patients."


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures of the last report by their names, instead of their pictures."""
    found: dict[str, Figure] = {}
    make = study_report.draw_figures
    monkeypatch.setattr(
        study_report, "draw_figures", lambda *words: found.update(make(*words)) or make(*words)
    )
    return found


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def predictions() -> pd.DataFrame:
    """Every class once in validation and test, answered rightly by the one member but for the last
    class.
    """
    rows = [
        {"recording": f"{name}.wav", "patient": name, "cycle": number, "start_seconds": 0.0, "end_seconds": 1.0,
         "label": label, "set": name, "member": 1,
         **{f"p_{other}": 0.7 if other == LABELS[number % 3] else 0.1 for other in LABELS}}
        for name in ("val", "test")
        for number, label in enumerate(LABELS)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def make_run(
    outputs: Path, name: str, heading: str, leaks: dict[str, int] | None, facts: dict[str, Any]
) -> None:
    folder = RunFolder(outputs / name)
    folder.write_text("config.yaml", "")
    metadata = {**WHOLE, "model.parameters": 1000, "annealing.cycles": 1, **facts}
    folder.write_json("metadata.json", metadata)
    write_file(folder.path / "members" / "member-01.safetensors", b"weights")
    folder.write_text("split.csv", "set\n" + "train\n" * 8 + "val\n" * 4 + "test\n" * 4)
    folder.write_history(
        [{"epoch": 1, "period": 1, "val/loss": 1.0, "val/score_4": 0.5, "val/score_2": 0.5}]
    )
    folder.write_predictions(predictions())
    counted = {} if leaks is None else {"leaks": leaks}
    folder.write_json("scores.json", {"data": heading, "leak": SENTENCE, **counted})
    folder.write_text("report.md", "")
    folder.write_checksums()


def make_study(folder: Path, runs: list[dict[str, Any]]) -> Path:
    """The study of `runs`: {values, heading, leaks, facts} each; what is swept are the first one's
    values.
    """
    outputs, jobs = folder / "outputs", []
    for number, run in enumerate(runs):
        name = f"run{number}"
        heading = run.get("heading", "icbhi: 920 recordings, 6898 cycles")
        make_run(outputs, name, heading, run.get("leaks", COUNTS), run.get("facts", {}))
        jobs.append({"run": f"outputs/{name}", "values": run["values"]})
    study = outputs / "studies" / "trial"
    study.mkdir(parents=True, exist_ok=True)
    (study / "study.json").write_text(
        json.dumps({"swept": sorted(runs[0]["values"]), "jobs": jobs})
    )
    return study


def by_protocol() -> list[dict[str, Any]]:
    clean = {**COUNTS, "patients": 0, "recordings": 0}
    return [
        {
            "values": {"split": protocol, "annealing.cycles": m},
            "facts": {"split": protocol},
            "leaks": leaks,
        }
        for protocol, leaks in (("random", COUNTS), ("patient", clean))
        for m in (2, 3)
    ]


def test_protocols_have_tables_and_figures_of_their_own(tmp_path: Path) -> None:
    study = make_study(tmp_path, by_protocol())
    told = write_report(study)
    tables = {path.stem for path in study.glob("*.csv")}
    assert tables == {f"{name}_{protocol}" for name in ("table3", "all", "differences")
                      for protocol in ("random", "patient")}  # fmt: skip
    for path in study.glob("*.csv"):
        table = pd.read_csv(path)
        assert table["protocol"].unique().tolist() == [path.stem.rpartition("_")[2]]
        assert len(table) == (4 if path.stem.startswith("differences") else 2)
    figures = {path.stem for path in study.glob("figures/*.png")}
    assert figures == {f"{name}_{protocol}" for name in ("score_against_members", "learning_curves")
                       for protocol in ("random", "patient")}  # fmt: skip
    assert "## table3_random: " in told and "## table3_patient: " in told
    patient = (study / "table3_patient.md").read_text()
    assert "No patient of the 12 in test is also in training or validation." in patient
    assert "TEST PATIENTS" not in patient
    assert "0.784" not in patient  # the paper's protocol is the other one
    assert "TEST PATIENTS" in (study / "table3_random.md").read_text()


def test_one_protocol_keeps_the_short_names_and_what_is_no_more_goes(tmp_path: Path) -> None:
    study = make_study(tmp_path, by_protocol())
    write_report(study)
    known = json.loads((study / "study.json").read_text())
    known["jobs"] = known["jobs"][:2]
    (study / "study.json").write_text(json.dumps(known))
    write_report(study)
    assert {path.stem for path in study.glob("*.csv")} == {"table3", "all", "differences"}
    assert {path.stem for path in study.glob("figures/*.png")} == {
        "score_against_members",
        "learning_curves",
    }
    assert not list(study.glob("*_patient*")) and not list(study.glob("figures/*_patient*"))


def test_every_table_says_what_leaks_in_all_its_splits(tmp_path: Path) -> None:
    runs = [
        {"values": {"annealing.cycles": 2, "split.seed": seed},
         "leaks": {**COUNTS, "patients": patients, "test_patients": patients + 1, "duplicates": seed}}
        for seed, patients in enumerate((13, 12, 14))
    ]  # fmt: skip
    study = make_study(tmp_path, runs)
    write_report(study)
    line = "12 TO 14 OF 13 TO 15 TEST PATIENTS AND 20 OF 22 TEST RECORDINGS ARE ALSO IN TRAINING OR VALIDATION"
    for name in ("table3", "all", "differences"):
        assert line in (study / f"{name}.md").read_text().splitlines()[0]
        table = pd.read_csv(study / f"{name}.csv")
        assert table["leak"].str.startswith(line).all()
        assert table["leak"].str.endswith("under another name: 0 TO 2.").all()


def test_runs_without_counts_are_told_by_their_own_sentences() -> None:
    assert leakage_line([None, COUNTS, None], ["one.", "two.", "one."]) == "one. two."


def test_rows_of_the_paper_are_not_said_to_leak(tmp_path: Path) -> None:
    values = [{"annealing": "constant"}, {"annealing": "cosine"}]
    study = make_study(tmp_path, [{"values": value} for value in values])
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
def test_the_papers_figures_stand_beside_its_own_data_alone(
    facts: dict[str, Any], heading: str, shown: bool, tmp_path: Path
) -> None:
    runs = [{"values": {"annealing.cycles": m}, "facts": facts, "heading": heading} for m in (2, 8)]
    study = make_study(tmp_path, runs)
    write_report(study)
    text = (study / "table3.md").read_text()
    assert ("0.784" in text) == shown
    told = facts.get("data") != "sprsound" and not shown
    assert ("they are of all 920 recordings (6898 cycles)" in text) == told
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
def test_the_papers_figures_stand_beside_its_own_settings_alone(
    facts: dict[str, Any], shown: bool, tmp_path: Path, drawn: dict[str, Figure]
) -> None:
    """Also where the setting is the same for all runs of the study, and in the figure as in the
    table.
    """
    study = make_study(
        tmp_path, [{"values": {"annealing.cycles": m}, "facts": facts} for m in (2, 8)]
    )
    write_report(study)
    text = (study / "table3.md").read_text()
    assert ("0.784" in text) == shown
    note = f"these runs are of experiment={facts.get('experiment', 'paper')}."
    assert (note in text) == shown
    assert (
        "they are of annealing=cosine split=random segment=2x4.5s padding=sample." in text
    ) != shown
    assert ("Nguyen & Pernkopf" in str(legend(drawn["score_against_members"]))) == shown


def test_lengths_of_ensembles_are_not_the_papers(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    """Its Table II is of single networks."""
    for annealing, shown in (("constant", True), ("cosine", False)):
        runs = [{"values": {"segment": segment}, "facts": {"annealing": annealing, "segment": segment}}
                for segment in ("3s", "9s")]  # fmt: skip
        study = make_study(tmp_path / annealing, runs)
        write_report(study)
        assert (
            "they are of annealing=constant split=random." in (study / "table2.md").read_text()
        ) != shown
        assert ("Nguyen & Pernkopf" in str(legend(drawn["score_against_length"]))) == shown


def test_every_figure_is_titled_by_its_data(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    demo = {"synthetic": True, "data": "demo", "data.recordings": 10, "data.cycles": 96}
    runs = [
        {
            "values": {"annealing.cycles": m, "segment": segment},
            "facts": demo,
            "heading": "SYNTHETIC demo",
        }
        for m in (2, 3)
        for segment in ("3s", "9s")
    ]
    write_report(make_study(tmp_path, runs))
    assert len(drawn) == 4
    assert all("SYNTHETIC demo" in figure.get_suptitle() for figure in drawn.values())
    assert not any("Nguyen" in str(legend(figure)) for figure in drawn.values())


def test_data_of_two_kinds_are_both_named_and_have_no_figures_of_the_paper(tmp_path: Path) -> None:
    demo = {"synthetic": True, "data": "demo", "data.recordings": 10, "data.cycles": 96}
    runs = [
        {"values": {"annealing.cycles": 8, "data": "icbhi"}},
        {
            "values": {"annealing.cycles": 8, "data": "demo"},
            "facts": demo,
            "heading": "SYNTHETIC demo",
        },
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
        assert "| 2 | random | 1 |" in write_report(moved)


def test_a_name_that_no_folder_can_have_is_the_studys_fault(tmp_path: Path) -> None:
    study = make_study(tmp_path, [{"values": {"seed": 1}}])
    jobs = [{"run": f"outputs/{'x' * 300}", "values": {"seed": 1}}]
    (study / "study.json").write_text(json.dumps({"swept": ["seed"], "jobs": jobs}))
    with pytest.raises(
        CorruptFileError, match=r"study\.json.*x\.\.\.: expected the name of a run's folder"
    ):
        write_report(study)


def test_folds_are_splits_of_one_protocol(tmp_path: Path) -> None:
    runs = [
        {"values": {"annealing.cycles": 2, "split.fold": fold}, "facts": {"split": "patient"}}
        for fold in range(5)
    ]
    study = make_study(tmp_path, runs)
    write_report(study)
    table = pd.read_csv(study / "table3.csv")
    assert table["splits"].tolist() == [5]
    assert "split.fold" not in table
