"""A finished run that answers: the numbers of its evaluation, from the folder alone."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from omegaconf import OmegaConf
from support.commands import run_python
from support.runs import SMALL_RUN_OVERRIDES, compose_settings

from lungsound import Ensemble
from lungsound.data.registry import DATABASES
from lungsound.errors import ConfigError, CorruptFileError, DataError
from lungsound.results.folder import RunFolder
from lungsound.runs.build import build_components
from lungsound.runs.inputs import build_network
from lungsound.runs.predict import predict_members
from lungsound.runs.rescore import score_on_database
from lungsound.training.weights import write_weights

SPAN = ["start_seconds", "end_seconds"]
USES_HYDRA_OR_MORE = """
import sys
import lungsound
assert "torch" not in sys.modules
from lungsound import Ensemble
Ensemble.load(sys.argv[1]).predict(sys.argv[2])
heavy = ("hydra", "omegaconf", "pytorch_lightning", "torchmetrics", "mlflow", "librosa.core")
print([name for name in heavy if name in sys.modules])
"""


def recordings(run: Path) -> Path:
    """The folder of the demo database's recordings."""
    (folder,) = (run.parents[1] / "store" / "demo").glob("*/audio_and_txt_files")
    return folder


@pytest.fixture(scope="module")
def ensemble(finished_run: Path) -> Ensemble:
    return Ensemble.load(finished_run)


@pytest.fixture(scope="module")
def breath(finished_run: Path) -> Path:
    """A recording of the demo database."""
    return sorted(recordings(finished_run).glob("*.wav"))[0]


def untrained_run(folder: Path, store: Path, *overrides: str) -> Path:
    """A run whose two members are untrained, and so different that no mistake averages out."""
    settings = compose_settings(*SMALL_RUN_OVERRIDES, f"store_dir={store}", *overrides)
    parts, run = build_components(settings), RunFolder(folder)
    run.write_text("config.yaml", OmegaConf.to_yaml(OmegaConf.structured(settings)))
    run.write_text("split.csv", "")
    run.write_history([])
    run.write_json("metadata.json", {"annealing.cycles": 2})
    for member in (1, 2):
        settings.seed = member
        parts.module.network = build_network(settings)
        for parameter in parts.module.network.parameters():
            parameter.data *= 1.25  # or all probabilities are about equal
        path = folder / "members" / f"member-0{member}.safetensors"
        write_weights(path, parts.module.snapshot())
    run.write_predictions(predict_members(settings, parts, run.member_paths(), ("test",)))
    return folder


def assert_answers_as_evaluation(run: Path, folder: Path) -> None:
    """On each test recording of `run` in `folder`, with its own cycles."""
    ensemble, evaluated = Ensemble.load(run), RunFolder(run).read_predictions()
    columns = [f"p_{label}" for label in ensemble.labels]
    evaluated = evaluated[evaluated["set"] == "test"]
    assert evaluated[columns].to_numpy().std(axis=0).max() > 0.03  # not all alike
    for name, rows in evaluated.groupby("recording"):
        cycles = rows.loc[rows["member"] == 1, SPAN].to_numpy().tolist()
        answer = ensemble.predict_members(folder / f"{name}.wav", cycles=cycles)
        expected = rows.sort_values(["member", "cycle"])[[*SPAN, "member", *columns]]
        np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-6)
        averages = expected.groupby(SPAN)[columns].mean()
        table = ensemble.predict(folder / f"{name}.wav", cycles=cycles)
        np.testing.assert_allclose(table[columns], averages, rtol=0, atol=1e-6)


def test_a_trained_run_answers_as_its_evaluation(finished_run: Path) -> None:
    assert_answers_as_evaluation(finished_run, recordings(finished_run))


@pytest.mark.parametrize(
    "words",
    [
        "features.normalization=segment padding=zero segment=2x4.5s task=two_class",
        "features.normalization=band padding=sample segment=3s",
        "features.normalization=global padding=zero segment=2x2s features.test_rolls=3",
        "trainer.precision=bf16-mixed",
        "model=timm model.name=test_resnet model.width=null",
    ],
)
def test_every_front_end_answers_as_its_evaluation(
    words: str, finished_run: Path, tmp_path: Path
) -> None:
    run = untrained_run(tmp_path, finished_run.parents[1] / "store", *words.split())
    assert_answers_as_evaluation(run, recordings(finished_run))


def test_a_real_recording_is_answered_as_scored(run_copy: Path, real_data: Path) -> None:
    name = "101_1b1_Al_sc_Meditron"
    root = run_copy.parents[1] / "icbhi"
    root.mkdir()
    for suffix in (".wav", ".txt"):
        shutil.copy(real_data / "icbhi" / "audio_and_txt_files" / f"{name}{suffix}", root)
    folder = score_on_database(
        run_copy, DATABASES["icbhi"], root, None, run_copy.parents[1] / "store"
    )
    shutil.copy(folder / "predictions.parquet", run_copy)
    (run_copy / "SHA256SUMS").unlink()
    assert_answers_as_evaluation(run_copy, root)


def test_windows_are_answered_as_cycles(ensemble: Ensemble, breath: Path) -> None:
    seconds = soundfile.info(breath).duration
    windows = ensemble.predict(breath, window=2.0, hop=1.5)
    assert np.diff(windows["start_seconds"])[:-1] == pytest.approx(1.5)
    assert (windows["end_seconds"] - windows["start_seconds"]).to_numpy() == pytest.approx(
        2.0, abs=1e-4
    )
    assert windows["start_seconds"].iloc[0] == 0
    assert windows["end_seconds"].iloc[-1] == pytest.approx(seconds, abs=1e-4)
    cycles = windows[SPAN].to_numpy().tolist()
    again = ensemble.predict(breath, cycles=cycles[2:] + cycles[:2])  # in any order
    expected = pd.concat([windows[2:], windows[:2]], ignore_index=True)
    pd.testing.assert_frame_equal(again, expected, rtol=0, atol=1e-6)
    default = ensemble.predict(breath)[SPAN].to_numpy()
    assert default[:2].tolist() == [[0, 3], [1, 4]]


def test_the_table_sums_up_the_members(ensemble: Ensemble, breath: Path) -> None:
    columns = [f"p_{label}" for label in ensemble.labels]
    members, table = ensemble.predict_members(breath), ensemble.predict(breath)
    assert list(table) == [*SPAN, *columns, "label", "spread", "abnormal"]
    assert (table["abnormal"] == (1 - table["p_normal"] >= ensemble.threshold)).all()
    assert list(members) == [*SPAN, "member", *columns]
    assert table[columns].sum(axis=1).to_numpy() == pytest.approx(1)
    for _, row in table.iterrows():
        of_window = members[members["start_seconds"] == row["start_seconds"]]
        assert len(of_window) == len(ensemble.members) == 2
        means = of_window[columns].mean()
        assert row["label"] == means.idxmax().removeprefix("p_")
        assert row[means.idxmax()] == pytest.approx(means.max())
        assert row["spread"] == pytest.approx(of_window[means.idxmax()].std(ddof=0))


def test_a_waveform_and_a_batch_are_answered_as_their_files(
    ensemble: Ensemble, breath: Path, tmp_path: Path
) -> None:
    waveform, rate_hz = soundfile.read(breath, dtype="float32")
    stereo = tmp_path / "stereo.flac"
    soundfile.write(stereo, np.stack([waveform, waveform], axis=1), rate_hz)
    expected = ensemble.predict(breath)
    pd.testing.assert_frame_equal(ensemble.predict(waveform, float(rate_hz)), expected)
    pd.testing.assert_frame_equal(ensemble.predict(breath, cycles=expected), expected, atol=1e-6)
    with pytest.warns(UserWarning, match=r"stereo.flac: 2 channels mixed down to one"):
        batch = ensemble.predict((breath, stereo))
    assert batch.pop("recording").tolist() == [str(breath)] * len(expected) + [str(stereo)] * len(
        expected
    )
    twice = pd.concat([expected, expected], ignore_index=True)
    pd.testing.assert_frame_equal(batch, twice, rtol=0, atol=1e-6)


def test_a_moved_run_needs_no_framework(finished_run: Path, breath: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(finished_run, tmp_path / "moved")
    done = run_python("-c", USES_HYDRA_OR_MORE, str(moved), str(breath))
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_what_the_run_was(ensemble: Ensemble) -> None:
    assert ensemble.labels == ("normal", "crackle", "wheeze", "both")
    assert ensemble.config["segment"] == {"seconds": 4.0, "chunks": 2}


def test_the_threshold_is_that_of_the_scores(run_copy: Path) -> None:
    points = RunFolder(run_copy).read_json("scores.json")["operating"]["points"]
    assert Ensemble.load(run_copy).threshold == points["best_score"]["threshold"]
    (run_copy / "scores.json").unlink()  # as of a run that only trained
    assert Ensemble.load(run_copy).threshold is None


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"window": "3"}, "window: expected seconds above 0, .* got '3'"),
        ({"window": 0}, "window: expected seconds above 0, .* got 0. The default is 3.0"),
        ({"hop": -1}, "hop: expected seconds above 0, .* got -1. The default is 1.0"),
        ({"window": np.nan}, "window: expected seconds above 0"),
        ({"window": 1e9}, "window: .* at most 3600"),
        ({"window": 900}, r"\.wav: expected at least one window of 900 s, but it lasts"),
        ({"cycles": [(0, 1), (0, 900)]}, r"\.wav: cycle from 0 to 900 s: expected an end before"),
        ({"cycles": []}, "expected one or more cycles"),
        ({"cycles": (0.3, 2.9)}, r"expected one or more cycles, each .* but got '\(0\.3, 2\.9\)'"),
        ({"cycles": [("a", "b")]}, "expected one or more cycles, each with its start and end"),
        ({"cycles": pd.DataFrame({"start": [0], "end": [1], "x": [2]})}, "expected one or more"),
    ],
)
def test_a_wrong_argument_is_one_sentence(
    ensemble: Ensemble, breath: Path, arguments: dict[str, float], fault: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=fault) as error:
        ensemble.predict(breath, **arguments)
    assert "\n" not in str(error.value)


def test_a_recording_that_is_none_is_one_sentence(ensemble: Ensemble, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.wav: cannot be read: No such file"):
        ensemble.predict(tmp_path / "nothing.wav")
    with pytest.raises(DataError, match="sample_rate: expected the waveform's rate in Hz"):
        ensemble.predict(np.ones(9))
    with pytest.raises(DataError, match=r"waveform: .* a whole number of Hz, but got 4000\.5"):
        ensemble.predict(np.ones(9), 4000.5)
    for rate in ("22000", np.inf, np.nan):
        with pytest.raises(DataError, match="waveform: expected a whole number of Hz, but got"):
            ensemble.predict(np.ones(9), rate)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="one file or array"):
        ensemble.predict([0.1, 0.2], 4000)  # type: ignore[list-item]
    with pytest.raises(DataError, match="expected one or more files"):
        ensemble.predict([])
    loud = np.float32(1e30) * np.random.default_rng(0).normal(size=90_000).astype(np.float32)
    with pytest.raises(DataError, match=r"waveform: .* but the largest is 4"):
        ensemble.predict(loud, 22_000)


def test_a_run_that_cannot_answer(run_copy: Path, tmp_path: Path) -> None:
    member = run_copy / "members" / "member-02.safetensors"
    whole = member.read_bytes()
    with pytest.raises(ConfigError, match="expected the folder of a finished run"):
        Ensemble.load(tmp_path / "nowhere")
    member.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CorruptFileError, match=r"member-02\.safetensors"):
        Ensemble.load(run_copy)
    member.unlink()
    with pytest.raises(DataError, match="expected the weights of all members, but 1 are there"):
        Ensemble.load(run_copy)
    (run_copy / "SHA256SUMS").unlink()
    member.write_bytes(whole)
    config = (run_copy / "config.yaml").read_text()
    for old, new, fault in (
        ("name: cnn7", "name: mine", "model.name: expected one of cnn7.* but got 'mine'"),
        ("n_mels: 50", "n_mels: many", "config.yaml is not as this version writes it"),
        ("precision: 32-true", "precision: 8", "config.yaml is not as this version writes it"),
        ("name: demo", "name: 5", "config.yaml is not as this version writes it"),
        ("width: 0.0625", "width: 0.125", r"member-01\.safetensors is not as this version"),
    ):
        (run_copy / "config.yaml").write_text(config.replace(old, new))
        with pytest.raises((ConfigError, CorruptFileError), match=fault):
            Ensemble.load(run_copy)
