"""`lungsound compare`: one table of 80 columns, and one sentence for what cannot be compared."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from support.commands import run_lungsound

from lungsound.errors import ConfigError, CorruptFileError, DataError, StorageError
from lungsound.results.folder import RunFolder


@pytest.fixture
def other_run(finished_run: Path, tmp_path: Path) -> Path:
    """The finished run with its first member alone."""
    other = RunFolder(Path(shutil.copytree(finished_run, tmp_path / "other")))
    (other.path / "SHA256SUMS").unlink()
    table = other.read_predictions()
    other.write_predictions(table[table["member"] == 1])
    return other.path


def test_the_table_fits_a_terminal(
    finished_run: Path, other_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_lungsound("compare", finished_run, other_run, "--to", tmp_path / "table.csv")
    lines = capsys.readouterr().out.splitlines()
    named = [line for line in lines if line.startswith(("1: ", "2: "))]
    assert [line[3:] for line in named] == [str(finished_run), str(other_run)]
    assert all(len(line) <= 80 for line in lines if line not in named)
    scores = RunFolder(finished_run).summary()
    expected = [scores["ensemble"][-1]["test"]["score_4"], scores["members"][0]["test"]["score_4"]]
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["score"].tolist() == pytest.approx(expected)
    assert all(any(f" {value:.3f} " in line for line in lines) for value in expected)


def test_intervals_have_three_decimals_and_fit_a_terminal(
    finished_run: Path, other_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A gain of 0.01 must be told from none. Twelve patients, because six have no interval."""
    runs = [RunFolder(tmp_path / name) for name in ("a", "b")]
    for run, source in zip(runs, (finished_run, other_run), strict=True):
        run.path.mkdir()
        table = RunFolder(source).read_predictions()
        others = table.assign(recording=table["recording"] + "x", patient=table["patient"] + "x")
        run.write_predictions(pd.concat([table, others]))
    run_lungsound("compare", *(run.path for run in runs), "--to", tmp_path / "table.csv")
    lines = capsys.readouterr().out.splitlines()
    row = pd.read_csv(tmp_path / "table.csv").iloc[1]
    interval = f"[{row['difference_low']:+.3f}, {row['difference_high']:+.3f}]"
    assert any(interval in line and len(line) <= 80 for line in lines)


def test_a_study_of_folds_is_compared_as_one(
    finished_run: Path, other_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each run's test cycles in two folds, which a study of two jobs has."""
    studies = []
    for source in (finished_run, other_run):
        table, outputs = RunFolder(source).read_predictions(), tmp_path / source.name / "outputs"
        study = {"swept": ["split.fold"], "jobs": []}
        for fold in (0, 1):
            run = outputs / f"fold-{fold}"
            run.mkdir(parents=True)
            RunFolder(run).write_predictions(table[table["cycle"] % 2 == fold])
            study["jobs"].append({"run": f"/elsewhere/{run.name}", "values": {"split.fold": fold}})
        studies.append(outputs / "studies" / "folds")
        studies[-1].mkdir(parents=True)
        (studies[-1] / "study.json").write_text(json.dumps(study))
    for number, pair in enumerate([(finished_run, other_run), studies]):
        run_lungsound("compare", *pair, "--to", tmp_path / f"{number}.csv")
    tables = [pd.read_csv(tmp_path / f"{number}.csv").drop(columns="run") for number in (0, 1)]
    pd.testing.assert_frame_equal(*tables)
    RunFolder(run).write_predictions(table)
    with pytest.raises(DataError, match="folds: expected runs that test different cycles"):
        run_lungsound("compare", *studies)


def test_what_cannot_be_compared(finished_run: Path, other_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected two or more different runs, but got 1"):
        run_lungsound("compare", finished_run, finished_run)
    with pytest.raises(ConfigError, match="expected two or more different runs, but got 2"):
        run_lungsound("compare", finished_run, other_run, other_run / ".." / other_run.name)
    with pytest.raises(StorageError, match=r"cannot be written: .*\(--to\)"):
        run_lungsound("compare", finished_run, other_run, "--to", tmp_path)
    with pytest.raises(ConfigError, match="expected the folder of a finished run"):
        run_lungsound("compare", finished_run, tmp_path)
    with pytest.raises(DataError, match="expected one of the scores"):
        run_lungsound("compare", finished_run, other_run, "--score", "score_3")
    (other_run / "predictions.parquet").write_bytes(b"nothing")
    with pytest.raises(CorruptFileError, match=r"other/predictions\.parquet"):
        run_lungsound("compare", finished_run, other_run)
