"""A finished run's members on another database: the same numbers for the same sounds, and what
leaks.
"""

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from support.commands import run_lungsound
from support.runs import ROOT

from lungsound.errors import ConfigError, DataError
from lungsound.runs.rescore import score_on_database

CYCLE = ["recording", "cycle", "member"]


@pytest.fixture(scope="module")
def run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a finished run on the demo database; the store is two folders above."""
    place = tmp_path_factory.mktemp("rescored")
    shutil.copytree(finished_run.parents[1] / "store", place / "store")
    return Path(shutil.copytree(finished_run, place / "outputs" / finished_run.name))


def scored(run: Path, name: str, root: Path, part: str | None = None) -> Path:
    with contextlib.chdir(run.parents[1]):
        return score_on_database(run, name, root, part).resolve()


def demo_root(run: Path) -> Path:
    (root,) = (
        path
        for path in (run.parents[1] / "store" / "demo").iterdir()
        if not path.name.startswith(".")
    )
    return root


def sprsound(folder: Path) -> Path:
    """Two recordings of each test part, with a normal and an adventitious event each."""
    rng = np.random.default_rng(0)
    for part, names in (
        ("inter", ("1_5.0_0_p1_1", "2_6.0_1_p2_2")),
        ("intra", ("3_7.0_0_p3_3", "4_8.0_1_p4_4")),
    ):
        (folder / "test_json" / f"{part}_test_json").mkdir(parents=True)
        (folder / "test_wav").mkdir(exist_ok=True)
        for name in names:
            soundfile.write(
                folder / "test_wav" / f"{name}.wav",
                rng.normal(0, 0.1, 32_000),
                8000,
                subtype="PCM_16",
            )
            events = [
                {"start": "0", "end": "1900", "type": "Normal"},
                {"start": 2000, "end": 4000, "type": "Rhonchi"},
            ]
            content = {"record_annotation": "CAS", "event_annotation": events}
            (folder / "test_json" / f"{part}_test_json" / f"{name}.json").write_text(
                json.dumps(content)
            )
    return folder


def test_a_recording_that_cannot_be_used_is_named_or_left_out(run: Path, tmp_path: Path) -> None:
    root = sprsound(tmp_path)
    broken = root / "test_wav" / "2_6.0_1_p2_2.wav"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(DataError, match=r"--skip-bad(?s:.)*2_6\.0_1_p2_2"):
        scored(run, "sprsound", root)
    with contextlib.chdir(run.parents[1]):
        run_lungsound("score", str(run), "sprsound", str(root), "--skip-bad")
    scores = json.loads((run / "scored-sprsound" / "scores.json").read_text())
    assert scores["data"] == "sprsound: 3 recordings, 6 cycles"


def test_the_recordings_counted_are_those_of_the_part(run: Path, tmp_path: Path) -> None:
    folder = scored(run, "sprsound", sprsound(tmp_path), "inter")
    assert (
        json.loads((folder / "scores.json").read_text())["data"]
        == "sprsound: 2 recordings, 4 cycles"
    )


def test_the_same_sounds_get_the_same_probabilities(run: Path) -> None:
    folder = scored(run, "icbhi", demo_root(run))
    ours, theirs = (pd.read_parquet(path / "predictions.parquet") for path in (folder, run))
    database = pd.read_csv(run / "split.csv")
    assert list(ours.columns) == list(theirs.columns)
    assert (ours["set"] == "test").sum() == len(database) * theirs[
        "member"
    ].nunique()  # every cycle is scored
    of_test = theirs[theirs["set"] == "test"].merge(
        ours[ours["set"] == "test"], on=CYCLE, suffixes=("", "_again")
    )
    assert len(of_test) == (theirs["set"] == "test").sum()
    for label in ("normal", "crackle", "wheeze", "both"):
        # Other batches: another order of the same float32 sums.
        np.testing.assert_allclose(of_test[f"p_{label}"], of_test[f"p_{label}_again"], atol=1e-5)


def test_its_leak_report_counts_sounds_the_run_has_learned(run: Path) -> None:
    """The demo is taken for another database: its patients are not the same people, its sounds are
    the same sounds.
    """
    folder = scored(run, "icbhi", demo_root(run))
    split = pd.read_csv(run / "split.csv")
    learned = split.loc[split["set"].isin(["train", "val"]), "content"].nunique()
    leaks = json.loads((folder / "scores.json").read_text())["leaks"]
    assert (leaks["patients"], leaks["recordings"], leaks["duplicates"]) == (0, 0, learned)
    assert leaks["test_patients"] == split["patient"].nunique()


def test_the_single_member_is_chosen_on_the_runs_own_validation(run: Path) -> None:
    folder = scored(run, "icbhi", demo_root(run))
    own, again = (
        json.loads((path / "scores.json").read_text())["scores"] for path in (run, folder)
    )
    assert again["single"]["member"] == own["single"]["member"]
    assert [row["val"] for row in again["members"]] == [row["val"] for row in own["members"]]


@pytest.mark.parametrize(("part", "cycles"), [("inter", 4), ("intra", 4), ("test", 8), (None, 8)])
def test_parts_of_sprsound(run: Path, tmp_path: Path, part: str | None, cycles: int) -> None:
    folder = scored(run, "sprsound", sprsound(tmp_path), part)
    results = json.loads((folder / "scores.json").read_text())
    tested = pd.read_parquet(folder / "predictions.parquet").query("set == 'test' and member == 1")
    assert (len(tested), tested["label"].tolist().count("wheeze")) == (cycles, cycles // 2)
    parts = ["inter", "intra", "all"] if cycles == 8 else [part]
    assert [row["part"] for row in results["biocas"] if row["who"].startswith("ensemble")] == parts
    answers = tested[["p_normal", "p_crackle", "p_wheeze", "p_both"]]
    assert answers.sum(axis=1).to_numpy() == pytest.approx(1)


def test_what_cannot_be_scored_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected the folder of a finished run"):
        score_on_database(tmp_path, "icbhi", demo_root(run), None)
    with pytest.raises(
        DataError, match=r"--part train: expected a part .* there are: inter, intra"
    ):
        scored(run, "sprsound", sprsound(tmp_path / "sprsound"), "train")
    former = Path(shutil.copytree(run, tmp_path / "former"))
    shutil.rmtree(former / "members")
    (former / "metadata.json").rename(former / "facts.json")
    with pytest.raises(DataError, match=r"expected the members' weights.*release 0\.1"):
        score_on_database(former, "icbhi", demo_root(run), None)


def test_a_run_is_scored_without_its_store(run: Path, tmp_path: Path) -> None:
    """The folder alone, moved to another place."""
    before = scored(run, "icbhi", demo_root(run)) / "predictions.parquet"
    moved = Path(shutil.copytree(run, tmp_path / "moved"))
    folder = score_on_database(moved, "icbhi", demo_root(run), None, tmp_path / "elsewhere")
    again = pd.read_parquet(folder / "predictions.parquet")
    pd.testing.assert_frame_equal(again, pd.read_parquet(before), check_exact=True)
    assert not (tmp_path / "elsewhere" / "trajectories").exists()


def test_the_command(run: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "lungsound.evaluation",
        "score",
        str(run),
        "icbhi",
        str(demo_root(run)),
    ]
    done = subprocess.run(
        words, cwd=run.parents[1], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (
        "ensemble of 2" in done.stdout
        and "ALSO IN TRAINING OR VALIDATION under another name" in done.stdout
    )
    assert (run / "scored-icbhi" / "scores.json").exists()
