"""A finished run's members on another database: equal numbers for equal sounds, and leaks."""

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.commands import ForkedPython, run_lungsound
from support.sprsound import add, event

from lungsound.data.registry import DATABASES
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
        return score_on_database(run, DATABASES[name], root, part).resolve()


def results(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "scores.json").read_text()))


def demo_root(run: Path) -> Path:
    (files,) = (run.parents[1] / "store" / "demo").glob("*/audio_and_txt_files")
    return files.parent


def sprsound(folder: Path) -> Path:
    """Two recordings of each test part, with a normal and an adventitious event each."""
    events = event(end="1000"), event("Rhonchi", 1000, 2000)
    for part, name in (("inter", "1_5.0_0_p1_1"), ("inter", "2_6.0_1_p2_2"),
                       ("intra", "3_7.0_0_p3_3"), ("intra", "4_8.0_1_p4_4")):  # fmt: skip
        add(folder, part, name, *events, recorded="CAS")
    return folder


def test_a_recording_that_cannot_be_used_is_named_or_left_out(run: Path, tmp_path: Path) -> None:
    root = sprsound(tmp_path)
    broken = root / "test_wav" / "2_6.0_1_p2_2.wav"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(DataError, match=r"--skip-bad(?s:.)*2_6\.0_1_p2_2"):
        scored(run, "sprsound", root)
    with contextlib.chdir(run.parents[1]):
        run_lungsound("score", str(run), "sprsound", str(root), "--skip-bad")
    assert results(run / "scored-sprsound")["data"] == "sprsound: 3 recordings, 6 cycles"


def test_the_same_sounds_get_the_same_probabilities(run: Path) -> None:
    folder = scored(run, "icbhi", demo_root(run))
    ours, theirs = (pd.read_parquet(path / "predictions.parquet") for path in (folder, run))
    database = pd.read_csv(run / "split.csv")
    assert list(ours.columns) == list(theirs.columns)
    ours, theirs = ours[ours["set"] == "test"], theirs[theirs["set"] == "test"]
    assert len(ours) == len(database) * theirs["member"].nunique()  # every cycle is scored
    of_test = theirs.merge(ours, on=CYCLE, suffixes=("", "_again"))
    assert len(of_test) == len(theirs)
    for label in ("normal", "crackle", "wheeze", "both"):
        # Other batches: another order of the same float32 sums.
        np.testing.assert_allclose(of_test[f"p_{label}"], of_test[f"p_{label}_again"], atol=1e-5)


def test_its_leak_report_counts_sounds_the_run_has_learned(run: Path) -> None:
    """The demo is taken for another database: other people with the same sounds."""
    folder = scored(run, "icbhi", demo_root(run))
    split = pd.read_csv(run / "split.csv")
    learned = split.loc[split["set"].isin(["train", "val"]), "content"].nunique()
    leaks = results(folder)["leaks"]
    assert (leaks["patients"], leaks["recordings"], leaks["duplicates"]) == (0, 0, learned)
    assert leaks["test_patients"] == split["patient"].nunique()


def test_the_single_member_is_chosen_on_the_runs_own_validation(run: Path) -> None:
    folder = scored(run, "icbhi", demo_root(run))
    own, again = results(run)["scores"], results(folder)["scores"]
    assert again["single"]["member"] == own["single"]["member"]
    assert [row["val"] for row in again["members"]] == [row["val"] for row in own["members"]]


@pytest.mark.parametrize(("part", "cycles"), [("inter", 4), ("intra", 4), ("test", 8), (None, 8)])
def test_parts_of_sprsound(run: Path, tmp_path: Path, part: str | None, cycles: int) -> None:
    folder = scored(run, "sprsound", sprsound(tmp_path), part)
    scores = results(folder)
    assert scores["data"] == f"sprsound: {cycles // 2} recordings, {cycles} cycles"
    tested = pd.read_parquet(folder / "predictions.parquet").query("set == 'test' and member == 1")
    assert (len(tested), tested["label"].tolist().count("wheeze")) == (cycles, cycles // 2)
    parts = ["inter", "intra", "all"] if cycles == 8 else [part]
    assert [row["part"] for row in scores["biocas"] if row["who"].startswith("ensemble")] == parts
    answers = tested[["p_normal", "p_crackle", "p_wheeze", "p_both"]]
    assert answers.sum(axis=1).to_numpy() == pytest.approx(1)


def test_where_slurm_is_nobody_is_told_to_use_srun(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    scored(run, "sprsound", sprsound(tmp_path / "sprsound"))
    assert not [one for one in recwarn if "srun" in str(one.message)]


def test_scores_of_another_folder_are_kept(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = scored(run, "sprsound", sprsound(tmp_path / "one"), "inter")
    before = results(first)
    other = sprsound(tmp_path / "other")
    add(other, "inter", "5_5.0_0_p1_1", event("Stridor"))
    capsys.readouterr()
    second = scored(run, "sprsound", other, "inter")
    assert f"{first} has the scores of other recordings, and is kept." in capsys.readouterr().out
    assert results(first) == before
    assert results(second)["data"] == "sprsound: 3 recordings, 5 cycles"
    assert second.parent == first.parent
    assert second.name.startswith("scored-sprsound-inter-")
    assert scored(run, "sprsound", other, "inter") == second
    assert scored(run, "sprsound", tmp_path / "one", "inter") == first


def test_what_cannot_be_scored_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected the folder of a finished run"):
        score_on_database(tmp_path, DATABASES["icbhi"], demo_root(run), None)
    message = "--part train: expected a part .* there are: inter, intra"
    with pytest.raises(DataError, match=message):
        scored(run, "sprsound", sprsound(tmp_path / "sprsound"), "train")
    former = Path(shutil.copytree(run, tmp_path / "former"))
    shutil.rmtree(former / "members")
    (former / "metadata.json").rename(former / "facts.json")
    with pytest.raises(DataError, match=r"expected the members' weights.*release 0\.1"):
        score_on_database(former, DATABASES["icbhi"], demo_root(run), None)


def test_a_run_is_scored_without_its_store(run: Path, tmp_path: Path) -> None:
    """The folder alone, moved to another place."""
    before = scored(run, "icbhi", demo_root(run)) / "predictions.parquet"
    moved = Path(shutil.copytree(run, tmp_path / "moved"))
    folder = score_on_database(
        moved, DATABASES["icbhi"], demo_root(run), None, tmp_path / "elsewhere"
    )
    again = pd.read_parquet(folder / "predictions.parquet")
    pd.testing.assert_frame_equal(again, pd.read_parquet(before), check_exact=True)
    assert not (tmp_path / "elsewhere" / "trajectories").exists()


def test_the_command(run: Path) -> None:
    """By its name in release 0.1."""
    words = ("-m", "lungsound.evaluation", "score", str(run), "icbhi", str(demo_root(run)))
    code, printed, errors = ForkedPython(*words, folder=run.parents[1]).communicate()
    assert code == 0, errors
    assert "ensemble of 2" in printed
    assert "ALSO IN TRAINING OR VALIDATION under another name" in printed
    assert (run / "scored-icbhi" / "scores.json").exists()
