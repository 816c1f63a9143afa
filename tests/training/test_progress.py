"""What is said while it trains: the time left, and the measured cost of a long training."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch

import lungsound.training.progress
from lungsound.training.progress import ProgressCallback


@pytest.fixture
def fake_clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Seconds that pass when a test says so."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(
        lungsound.training.progress, "time", SimpleNamespace(monotonic=lambda: now.seconds)
    )
    return now


def train(
    progress: ProgressCallback,
    clock: SimpleNamespace,
    first: int,
    last: int,
    batches: int,
    seconds: float,
) -> None:
    """Epochs `first` to `last`, from 1, of so many batches of so many seconds."""
    trainer = SimpleNamespace(
        current_epoch=first - 1,
        num_training_batches=batches,
        callback_metrics={"train/loss": torch.tensor(0.25)},
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    progress.on_train_start(trainer, None)
    for epoch in range(first, last + 1):
        trainer.current_epoch = epoch - 1
        progress.on_train_epoch_start(trainer, None)
        for batch in range(batches):
            clock.seconds += seconds
            progress.on_train_batch_end(trainer, None, None, None, batch)
        progress.on_train_epoch_end(trainer, None)
    progress.on_train_end(trainer, None)


def test_a_line_an_epoch_with_the_time_left(
    fake_clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    train(
        ProgressCallback(12), fake_clock, first=3, last=4, batches=5, seconds=2.0
    )  # goes on after epoch 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "epoch",
        "3/12",
        "train/loss",
        "0.250",
        "0:01:30",
        "left",
    ]  # 9 epochs of 10 s
    assert lines[1].split()[-2:] == ["0:01:20", "left"]
    assert len(lines) == 2


def test_a_long_training_is_measured_and_said_to_be(
    fake_clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    train(ProgressCallback(160), fake_clock, first=1, last=1, batches=1000, seconds=3.0)
    message, _ = capsys.readouterr().out.splitlines()
    assert message.startswith("Measured 3.00 s a batch on cpu, 1000 batches an epoch: ")
    assert f"about {timedelta(seconds=3 * 1000 * 160)} for 160 epochs" in message
    for faster in ("trainer=gpu", "model=cnn7_quarter", "augment=light"):
        assert faster in message
