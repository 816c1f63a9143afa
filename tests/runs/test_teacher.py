"""Distillation: a network that learns the mean probabilities of a run's ensemble."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from support.commands import run_lungsound
from support.runs import SMALL_RUN_OVERRIDES, compose_settings, skip_rendering

from lungsound import Ensemble
from lungsound.errors import ConfigError
from lungsound.results.folder import RunFolder
from lungsound.runs.build import build_components
from lungsound.runs.teacher import teacher_probabilities
from lungsound.training.losses import distillation_loss
from lungsound.training.weights import read_weights

SPAN = ["start_seconds", "end_seconds"]


def test_the_loss_is_the_cross_entropy_to_the_teacher() -> None:
    rng = np.random.default_rng(0)
    logits, teacher = rng.normal(0, 3, (5, 4)), rng.dirichlet(np.ones(4), 5)
    expected = -(teacher * log_softmax(logits, axis=1)).sum() / 5
    found = distillation_loss(torch.from_numpy(logits), torch.from_numpy(teacher))
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.fixture(scope="module")
def teacher(run_training: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two members."""
    return run_training(tmp_path_factory.mktemp("teacher"))


def student_settings(teacher: Path, *overrides: str) -> tuple[str, ...]:
    return (f"loss.teacher={teacher}", "annealing.cycles=1", *overrides)


def test_targets_are_the_ensembles_answers(teacher: Path) -> None:
    store = f"store_dir={teacher.parents[1] / 'store'}"
    settings = compose_settings(*SMALL_RUN_OVERRIDES, *student_settings(teacher, store))
    parts = build_components(settings)
    parts.datamodule.teacher = teacher_probabilities(settings, parts)
    cycles, ensemble = parts.datamodule.cycles["train"], Ensemble.load(teacher)
    (folder,) = (teacher.parents[1] / "store" / "demo").glob("*/audio_and_txt_files")
    expected = np.zeros((len(cycles), 4))
    for name, rows in cycles.groupby("recording"):
        table = ensemble.predict(folder / f"{name}.wav", cycles=rows[SPAN])
        expected[rows.index] = table.filter(like="p_")
    np.testing.assert_allclose(parts.datamodule.teacher, expected, atol=1e-6)
    assert expected.std(axis=0).max() > 1e-3
    batches = parts.datamodule.training_batches(1)
    for number in range(len(batches)):
        batch = batches[number]
        np.testing.assert_allclose(batch["teacher"], expected[batch["cycle"]], atol=1e-6)
    parts.module.log = lambda *_, **__: None  # type: ignore[method-assign]
    parts.module.train(False)
    with torch.no_grad():
        loss = parts.module.training_step(batch, 0)
        logits = parts.module.network(parts.module.train_inputs(batch).unsqueeze(1))
    wanted = -(expected[batch["cycle"]] * log_softmax(logits.double(), axis=1)).sum(1).mean()
    assert loss.item() == pytest.approx(wanted, rel=1e-5)


def test_a_student_is_a_run_like_any_other(
    teacher: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a network of another kind than its teacher's."""
    monkeypatch.chdir(teacher.parents[1])
    words = ("distill", teacher, "annealing.total_epochs=2", "model.name=test_resnet", "model=timm")
    with skip_rendering():
        run_lungsound(*words)
    printed = capsys.readouterr().out
    assert "Teacher: 2 members, on " in printed
    student = RunFolder(Path(printed.rpartition("run: ")[2].strip()))
    assert student.path.parent == teacher.parent
    assert student.is_complete
    facts = student.metadata()
    assert (facts["loss.teacher"], facts["model"]) == (teacher.name, "timm")
    assert student.read_config()["model"]["width"] is None
    assert len(student.member_paths()) == 1
    assert len(student.read_history()) == 2
    with skip_rendering():
        run_lungsound(*words)
    assert "This run is finished" in capsys.readouterr().out


def test_another_teacher_is_another_trajectory(teacher: Path, tmp_path: Path) -> None:
    from lungsound.runs.inputs import build_inputs

    def trajectory(*overrides: str) -> str:
        store = f"store_dir={teacher.parents[1] / 'store'}"
        settings = compose_settings(*SMALL_RUN_OVERRIDES, store, *overrides)
        return build_inputs(settings).trajectory.folder.name

    moved = tmp_path / "moved"
    moved.mkdir()
    for path in teacher.rglob("*"):
        if path.is_file():
            (moved / path.relative_to(teacher)).parent.mkdir(exist_ok=True)
            (moved / path.relative_to(teacher)).write_bytes(path.read_bytes())
    first = trajectory(f"loss.teacher={teacher}")
    assert first != trajectory()
    assert first == trajectory(f"loss.teacher={moved}")
    member = RunFolder(moved).member_paths()[0]
    member.write_bytes(RunFolder(moved).member_paths()[1].read_bytes())
    assert read_weights(member)
    assert first != trajectory(f"loss.teacher={moved}")


def test_a_teacher_that_cannot_be_used(
    teacher: Path, tmp_path: Path, run_training: Callable[..., Path]
) -> None:
    for overrides, fault in (
        (("split.seed=1",), "expected a run on the same split, but its split.csv differs"),
        (("task=two_class",), "task.classes: expected 4, as of loss.teacher, but got 2"),
        (("features.sample_rate=16000",), "features.sample_rate: expected 22000, as of"),
    ):
        with pytest.raises(ConfigError, match=fault):
            run_training(tmp_path, *student_settings(teacher, *overrides))
    with pytest.raises(
        ConfigError, match=r"loss\.teacher=.*: expected the folder of a finished run"
    ):
        run_training(tmp_path, f"loss.teacher={tmp_path}")
    for change, fault in (
        ("model.widht=1", r"The nearest is model\.width"),
        ("annealing.cycles=two", "annealing.cycles=two: expected GROUP=OPTION and KEY=VALUE"),
        ("model=cnn8", r"model=cnn8: expected one of cnn7, .* The nearest is cnn7$"),
    ):
        with pytest.raises(ConfigError, match=fault):
            run_lungsound("distill", teacher, change)
    with pytest.raises(ConfigError, match=r"loss\.teacher: expected none beside RUN, but got None"):
        run_lungsound("distill", teacher, "loss.teacher=null")
