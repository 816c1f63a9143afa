"""What only a GPU can show, in small runs: make gpu.

The same bits again, also after a stop; other precisions near float32; the device's numbers near
the CPU's. LUNGSOUND_GPU_TESTS_DEVICE=cpu rehearses all of it without a GPU.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.results import assert_identical_runs
from support.runs import SMALL_RUN_OVERRIDES, compose_config
from torch import Tensor

from lungsound import Ensemble
from lungsound.config.schema import Config
from lungsound.data.labels import label_set
from lungsound.errors import TrainingError
from lungsound.models.cnn7 import CNN7
from lungsound.results.folder import RunFolder
from lungsound.runs.build import RunComponents, build_components, build_trainer, set_float32
from lungsound.runs.predict import load_member, predict_set
from lungsound.runs.validation import validate_config
from lungsound.scoring.metric import CycleScores
from lungsound.signal.chunks import roll_and_chunk
from lungsound.signal.features import NORMALIZATION_AXES, Features
from lungsound.training.history import parse_history
from lungsound.training.module import SnapshotModule

DEVICE = os.environ.get("LUNGSOUND_GPU_TESTS_DEVICE", "cuda")
ON_DEVICE = "trainer=gpu" if DEVICE == "cuda" else "trainer=cpu"
WORKERS = ("trainer.cache=off", "trainer.num_workers=2")

pytestmark = pytest.mark.gpu
needs_cuda = pytest.mark.skipif(DEVICE != "cuda", reason="a CPU has nothing of the kind")

RunTraining = Callable[..., Path]
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def run(run_training: RunTraining, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run in float32 with deterministic operators."""
    return run_training(tmp_path_factory.mktemp("run"), ON_DEVICE, *WORKERS)


@pytest.fixture
def strict() -> Iterator[None]:
    """float32 products in float32, and afterwards as before."""
    word, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    set_float32(settings())
    yield
    torch.set_float32_matmul_precision(word)
    torch.backends.cudnn.allow_tf32 = convolutions


def settings(*overrides: str) -> Config:
    with compose_config(*SMALL_RUN_OVERRIDES, ON_DEVICE, *overrides) as (cfg, _):
        return validate_config(cfg)


def losses(folder: Path) -> np.ndarray[Any, Any]:
    """Training and validation loss [epochs, 2]."""
    history = parse_history((folder / "history.jsonl").read_bytes())
    return np.array([[record["train/loss"], record["val/loss"]] for record in history])


def waveforms(items: int, samples: int) -> Tensor:
    """Noise and a tone, soft and loud, all above the features' floor."""
    numbers = torch.Generator().manual_seed(1)
    noise = torch.randn(items, samples, generator=numbers)
    tone = torch.sin(torch.arange(samples) * 0.1)
    return (noise * 0.1 + tone) * torch.logspace(-2, -0.3, items)[:, None]


# --- whole runs ---


def test_the_device_is_the_one_that_is_meant(run: Path) -> None:
    if DEVICE == "cuda":
        assert torch.cuda.max_memory_allocated() > 0


def test_the_same_command_gives_the_same_bits(
    run: Path, run_training: RunTraining, tmp_path: Path
) -> None:
    assert_identical_runs(run, run_training(tmp_path, ON_DEVICE, *WORKERS))


@pytest.mark.parametrize("place", ["device", "host"])
def test_kept_log_mels_give_the_same_bits(
    run: Path, run_training: RunTraining, tmp_path: Path, place: str
) -> None:
    assert_identical_runs(run, run_training(tmp_path, ON_DEVICE, f"trainer.cache={place}"))


def test_a_stopped_run_goes_on_to_the_same_bits(
    run: Path, run_training: RunTraining, tmp_path: Path, trained_epochs: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    begin = SnapshotModule.on_train_epoch_start

    def stop_in_the_second(module: SnapshotModule) -> None:
        if module.current_epoch + 1 == 2 and len(trained_epochs) == 1:
            trained_epochs.append(2)
            raise KeyError("stopped")
        begin(module)

    monkeypatch.setattr(SnapshotModule, "on_train_epoch_start", stop_in_the_second)
    with pytest.raises(KeyError, match="stopped"):
        run_training(tmp_path, ON_DEVICE, *WORKERS)
    resumed = run_training(tmp_path, ON_DEVICE, *WORKERS)
    assert trained_epochs == [1, 2, 2, 3, 4]
    assert_identical_runs(run, resumed)


# Largest difference of an epoch's training and validation loss to float32's, of about 0.2 to 1.2.
# A run of four epochs on 40 cycles magnifies rounding: this says "it trains", not "it is equal".
@pytest.mark.parametrize(
    ("key", "nearer_than"),
    [
        ("trainer.precision=bf16-mixed", (0.2, 0.6)),
        # Its scale starts too large: the first steps are left out.
        pytest.param("trainer.precision=16-mixed", (0.7, 1.0), marks=needs_cuda),
        ("trainer.matmul_precision=high", (0.1, 0.4)),
        ("trainer.deterministic=false", (0.1, 0.4)),
        pytest.param("trainer.compile=true", (0.1, 0.4), marks=needs_cuda),
    ],
)
def test_other_arithmetic_trains_near_float32(
    run: Path, run_training: RunTraining, tmp_path: Path, record_property: Record, key: str,
    nearer_than: tuple[float, float],
) -> None:  # fmt: skip
    other = losses(run_training(tmp_path, ON_DEVICE, *WORKERS, key))
    distance = np.abs(other - losses(run)).max(axis=0)
    record_property("largest difference of train/loss, val/loss", np.round(distance, 5).tolist())
    assert np.isfinite(other).all()
    assert (distance < nearer_than).all()


@pytest.mark.parametrize("name", ["training_step", "validation_step"])
def test_a_loss_that_is_no_number_is_told_and_kept(
    run_training: RunTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    step = getattr(SnapshotModule, name)
    monkeypatch.setattr(SnapshotModule, name, lambda *given: step(*given) * torch.nan)
    with pytest.raises(TrainingError, match="loss is nan"):
        run_training(tmp_path, ON_DEVICE)
    (kept,) = tmp_path.glob("outputs/*/diverged-epoch-0001.npz")
    with np.load(kept) as content:
        assert np.isfinite(content["log_mels"]).all()
        assert {"recording", "cycle", "target"} <= set(content)


# --- one part at a time, against the CPU ---


@pytest.mark.parametrize("normalization", NORMALIZATION_AXES)
def test_features_are_those_of_the_cpu(
    strict: None, record_property: Record, normalization: str
) -> None:
    sound = waveforms(12, 99_000)
    alpha = torch.linspace(0.9, 1.1, 12)
    alpha[5] = 1.0
    f_hi = torch.linspace(3200, 3800, 12)
    values: dict[str, list[Tensor]] = {}
    for device in ("cpu", DEVICE):
        features = Features(22_000, 512, 512, 50, 0.0, 7500.0, 1e-11, normalization).to(device)
        there = [tensor.to(device) for tensor in (sound, alpha, f_hi)]
        if normalization != "segment":
            features.fit_statistics([there[0][:6], there[0][6:]])
        values[device] = [features.log_mel(*there), features(*there), features(there[0])]
    pairs = zip(values["cpu"], values[DEVICE], strict=True)
    largest = max(float((mine - theirs.cpu()).abs().max()) for mine, theirs in pairs)
    record_property("largest difference", f"{largest:.2g}")
    assert largest < 1e-4


def test_roll_and_chunk_are_exactly_those_of_the_cpu() -> None:
    log_mels = torch.randn(8, 50, 193)
    roll, chunk = torch.arange(8) * 37 - 100, torch.arange(8) % 3
    there = [tensor.to(DEVICE) for tensor in (log_mels, roll, chunk)]
    torch.testing.assert_close(
        roll_and_chunk(*there, 3).cpu(), roll_and_chunk(log_mels, roll, chunk, 3), rtol=0, atol=0
    )


@pytest.mark.parametrize("table1", ["inputs", "outputs"])
def test_the_networks_float32_is_float32(
    strict: None, record_property: Record, table1: str
) -> None:
    """Convolutions in TF32, torch's default on a GPU, are wrong in the fourth digit."""
    network = CNN7(4, 1.0, table1, bn_momentum=0.99, bn_eps=1e-3, seed=0).eval()
    log_mels = torch.randn(4, 1, 50, 193)
    exact = network.double()(log_mels.double())
    network.float().to(DEVICE)

    def error() -> float:
        difference = network(log_mels.to(DEVICE)).double().cpu() - exact
        return float(difference.norm() / exact.norm())

    with torch.no_grad():
        strict_error = error()
        set_float32(settings("trainer.matmul_precision=high"))
        tf32_error = error()
    record_property("error of float32, of TF32", f"{strict_error:.2g}, {tf32_error:.2g}")
    assert strict_error < 5e-5
    if DEVICE == "cuda":
        assert tf32_error > 1e-4


def test_a_members_probabilities_are_those_of_the_cpu(
    run: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    monkeypatch.chdir(run.parents[1])
    parts = build_components(settings())
    answers = [member_answers(parts, settings()), member_answers(parts, settings("trainer=cpu"))]
    largest = float((answers[0] - answers[1]).abs().max())
    record_property("largest difference", f"{largest:.2g}")
    assert largest < 1e-4


def member_answers(parts: RunComponents, chosen: Config) -> Tensor:
    """The last epoch's probabilities for the validation cycles."""
    load_member(parts.module, parts.trajectory.snapshot_path(parts.annealing.epochs))
    return predict_set(build_trainer(chosen, epochs=0), parts, "val")


@pytest.mark.parametrize("classes", [7, 4, 2])
def test_scores_of_cycles_are_exactly_those_of_the_cpu(classes: int) -> None:
    labels = label_set(classes)
    truth = torch.arange(200) % classes
    cycle = torch.cat([torch.arange(200), torch.randint(200, (600,))])
    probabilities = torch.softmax(torch.randn(800, classes) * 3, 1)
    scores = []
    for device in ("cpu", DEVICE):
        metric = CycleScores(truth, labels).to(device)
        for part in torch.arange(800).split(64):
            metric.update(probabilities[part].to(device), cycle[part].to(device))
        scores.append(metric.compute())
    assert scores[0] == scores[1]


def test_an_ensemble_answers_as_its_evaluation(run: Path) -> None:
    ensemble, evaluated = Ensemble.load(run), RunFolder(run).read_predictions()
    assert ensemble.device.type == DEVICE
    (folder,) = (run.parents[1] / "store" / "demo").glob("*/audio_and_txt_files")
    for name, rows in evaluated[evaluated["set"] == "test"].groupby("recording"):
        times = rows.loc[rows["member"] == 1, ["start_seconds", "end_seconds"]]
        answer = ensemble.predict_members(folder / f"{name}.wav", cycles=times.to_numpy().tolist())
        expected = rows.sort_values(["member", "cycle"])[answer.columns]
        np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)
