"""The real recordings of ICBHI 2017, end to end: `train.py experiment=paper data.root=PATH`."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support.runs import compose_config

from lungsound.runs.run import run
from lungsound.training.weights import read_weights

TrainIn = Callable[..., Path]
# Of the contract only the network's width, the copies' number and the epochs are smaller.
NARROW = (
    *("experiment=paper", "segment=2x4.5s", "augment=light"),
    *("model.bn_momentum=0.9", "annealing.max_lr=0.002"),
)
LABELS = ("normal", "crackle", "wheeze", "both")


@pytest.fixture(scope="module")
def annotated(real_data: Path) -> pd.DataFrame:
    """Every annotated cycle, read by pandas alone."""
    tables = []
    for path in sorted((real_data / "icbhi" / "audio_and_txt_files").glob("*.txt")):
        lines = pd.read_csv(path, sep="\t", names=["start", "end", "crackle", "wheeze"])
        label = (lines["crackle"] + 2 * lines["wheeze"]).map(dict(enumerate(LABELS)))
        tables.append(lines.assign(recording=path.stem, cycle=lines.index, label=label))
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def real_run(
    real_data: Path, run_training: TrainIn, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return run_training(
        tmp_path_factory.mktemp("real"), *NARROW, f"data.root={real_data / 'icbhi'}"
    )


@pytest.mark.slow
def test_every_cycle_is_in_one_set(real_run: Path, annotated: pd.DataFrame) -> None:
    split, columns = pd.read_csv(real_run / "split.csv"), ["recording", "cycle", "label"]
    rows, expected = split[columns].to_numpy(), annotated[columns].to_numpy()
    assert sorted(map(tuple, rows)) == sorted(map(tuple, expected))
    for label, cycles in split.groupby("label"):
        test, val = (sum(cycles["set"] == name) for name in ("test", "val"))
        assert test == round(0.2 * len(cycles)), label
        assert val == round(0.2 * (len(cycles) - test)), label


def test_predictions_name_the_annotations(real_run: Path, annotated: pd.DataFrame) -> None:
    predictions = pd.read_parquet(real_run / "predictions.parquet")
    assert predictions.attrs["data"] == "real"
    joined = predictions.merge(
        annotated, on=["recording", "cycle"], suffixes=("", "_there"), validate="many_to_one"
    )
    assert len(joined) == len(predictions) > 0
    assert (joined["label"] == joined["label_there"]).all()
    np.testing.assert_array_equal(joined["start_seconds"], joined["start"])
    np.testing.assert_array_equal(joined["end_seconds"], joined["end"])


def test_nothing_real_is_called_synthetic(real_run: Path) -> None:
    what = json.loads((real_run / "scores.json").read_text())
    assert what["data"].startswith("icbhi: 22 recordings")
    assert "TEST PATIENTS ARE ALSO IN TRAINING" in what["leak"]
    assert "SYNTHETIC" not in (real_run / "report.md").read_text()


def test_the_networks_are_trained_on_these_recordings(real_run: Path) -> None:
    paths = sorted((real_run.parents[1] / "store" / "trajectories").glob("*/epoch-*.safetensors"))
    tensors = [tensor for path in paths for tensor in read_weights(path)["network"].values()]
    assert all(torch.isfinite(tensor).all() for tensor in tensors)
    losses = pd.read_json(real_run / "history.jsonl", lines=True)["train/loss"]
    assert losses.iloc[-1] < losses.iloc[0]


def test_either_folder_will_do(real_run: Path, real_data: Path, run_training: TrainIn) -> None:
    """The folder of recordings itself, in place of the one above it: the same run, which is
    finished.
    """
    inner = real_data / "icbhi" / "audio_and_txt_files"
    assert run_training(real_run.parents[1], *NARROW, f"data.root={inner}") == real_run


def test_a_table_of_its_cycles_is_the_same_data(
    real_run: Path, annotated: pd.DataFrame, real_data: Path, run_training: TrainIn,
    trained_epochs: list[int], tmp_path: Path,
) -> None:  # fmt: skip
    """`data=table` goes on with the trajectory of `data=icbhi`: its key has all that shapes it."""
    names = {"start": "start_seconds", "end": "end_seconds"}
    table = annotated.rename(columns=names).assign(patient=annotated["recording"].str[:3])
    table.to_csv(tmp_path / "cycles.csv", sep=";", index=False)
    root = real_data / "icbhi" / "audio_and_txt_files"
    words = ("data=table", f"data.root={root}", f"data.table={tmp_path / 'cycles.csv'}")
    run = run_training(real_run.parents[1], *NARROW, *words)
    assert trained_epochs == []
    assert run != real_run
    for name in ("split.csv", "history.jsonl"):
        assert (run / name).read_bytes() == (real_run / name).read_bytes()
    found, whole = (pd.read_parquet(one / "predictions.parquet") for one in (run, real_run))
    of_recording = {"device", "location", "mode", "age", "sex", "diagnosis"}  # not in this table
    assert set(whole) - set(found) == of_recording
    pd.testing.assert_frame_equal(found, whole[found.columns])
    scores, expected = (json.loads((one / "scores.json").read_text()) for one in (run, real_run))
    assert scores.pop("data") == expected.pop("data").replace("icbhi: ", "table: ")
    notes = [set(one.pop("notes")) for one in (scores, expected)]
    assert notes[0] <= notes[1]
    own = [row for row in expected["subgroups"] if row["by"] in ("patient", "recording")]
    assert scores == expected | {"subgroups": own}


@pytest.mark.long
def test_the_papers_network(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The contract as it stands, all 4 916 742 parameters and every copy, for an epoch a member."""
    monkeypatch.chdir(tmp_path)
    periods = ("annealing.cycles=2", "annealing.epochs_per_cycle=1")
    folder = run(*compose_config("experiment=paper", f"data.root={real_data / 'icbhi'}", *periods))
    facts = json.loads((folder / "metadata.json").read_text())
    assert facts["model.parameters"] == 4_916_742
    assert capsys.readouterr().out.splitlines()[-1] == f"run: {folder}"
    history = pd.read_json(folder / "history.jsonl", lines=True)
    assert np.isfinite(history[["train/loss", "val/loss"]].to_numpy()).all()
    assert len(pd.read_parquet(folder / "predictions.parquet")["member"].unique()) == 2
