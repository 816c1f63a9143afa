"""What is printed while it trains: a line per epoch and the time left."""

import re
from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace

import pytest
import torch

import lungsound.training.progress
from lungsound.training.progress import ProgressCallback, format_duration


@pytest.fixture
def fake_clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock whose seconds a test sets."""
    now = SimpleNamespace(seconds=100.0)
    fake = SimpleNamespace(monotonic=lambda: now.seconds)
    monkeypatch.setattr(lungsound.training.progress, "time", fake)
    return now


def train(
    clock: SimpleNamespace,
    epochs: int,
    first: int,
    last: int,
    seconds: list[float],
    metrics: Mapping[str, float] = MappingProxyType({"train/loss": 0.25, "val/accuracy": 1}),
    **options: bool,
) -> None:
    """Epochs `first` to `last` of `epochs`, from 1; validation takes 10 seconds."""
    progress = ProgressCallback(epochs, **options)
    trainer = SimpleNamespace(
        current_epoch=first - 1,
        num_training_batches=len(seconds),
        callback_metrics={name: torch.tensor(value) for name, value in metrics.items()},
    )
    progress.on_train_start(trainer, None)
    for epoch in range(first, last + 1):
        trainer.current_epoch = epoch - 1
        progress.on_train_epoch_start(trainer, None)
        for batch, duration in enumerate(seconds):
            clock.seconds += duration
            progress.on_train_batch_end(trainer, None, None, None, batch)
        clock.seconds += 10
        progress.on_train_epoch_end(trainer, None)
    progress.on_train_end(trainer, None)


def test_time_left_is_that_of_median_batches_and_validations(
    fake_clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    # Two slow batches to begin with and one in the middle; resumed after epoch 2 of 12.
    train(fake_clock, 12, first=3, last=4, seconds=[60, 60, 2, 2, 50, 2, 2, 2, 2, 2])
    first_estimate, epoch_3, epoch_4 = capsys.readouterr().out.splitlines()
    # 93 batches of 2 s; no validation is timed yet.
    assert first_estimate == "Training: about 3 minutes left of 12 epochs."
    # 9 epochs of 10 batches of 2 s and 10 s, then 8 of them.
    assert epoch_3 == "epoch  3/12  train/loss 0.250  about 4 minutes left"
    assert epoch_4 == "epoch  4/12  train/loss 0.250  about 4 minutes left"


def test_a_job_of_a_study_prints_no_epochs_on_a_terminal(
    fake_clock: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(fake_clock, 3, first=1, last=2, seconds=[2.0] * 10, epoch_lines=False)
    estimate, epoch_1, _ = capsys.readouterr().out.splitlines()  # a log file has them
    assert estimate == "Training: about 50 seconds left of 3 epochs."
    assert epoch_1.startswith("epoch 1/3")
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, which has the bar
    train(fake_clock, 3, first=1, last=2, seconds=[2.0] * 10, epoch_lines=False)
    printed = capsys.readouterr().out
    assert "Training:" not in printed
    assert "epoch 1/3" not in printed
    assert "epoch 2 of 3" in printed


def test_the_lines_of_epochs_fit_80_columns(
    fake_clock: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal
    names = ("train/loss", "val/accuracy", "val/loss", "val/score_2", "val/score_4")
    train(fake_clock, 150, 120, 121, [2.0] * 10, metrics=dict.fromkeys(names, 0.25))
    printed = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "\n", capsys.readouterr().out)
    lines = re.findall("^ *epoch 12[01]/150.*", printed, re.MULTILINE)
    values = "train/loss 0.250  val/loss 0.250  score_2 0.250  score_4 0.250"
    assert lines == [f"epoch {number}/150  {values}" for number in (120, 121)]
    assert len(lines[0]) <= 80


def test_time_left_follows_the_latest_batches(
    fake_clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    train(fake_clock, 3, first=1, last=1, seconds=[1.0] * 300 + [3.0] * 200)
    # Two epochs of 500 batches of 3 s, and their validations of 10 s.
    assert capsys.readouterr().out.splitlines()[-1].endswith("about 50 minutes left")


def test_nothing_is_estimated_before_some_batches_or_after_the_last(
    fake_clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    train(fake_clock, 2, first=1, last=2, seconds=[3, 3, 3, 3])
    epoch_1, estimate, epoch_2 = capsys.readouterr().out.splitlines()
    assert epoch_1 == "epoch 1/2  train/loss 0.250"
    assert estimate == "Training: about 13 seconds left of 2 epochs."
    assert epoch_2 == "epoch 2/2  train/loss 0.250"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.2, "1 second"), (19.4, "19 seconds"), (44, "40 seconds"), (89, "1 minute")),
        *((3599, "60 minutes"), (10_800, "3 hours"), (2e5, "2 days"), (2.13e7, "250 days")),
    ],
)
def test_durations_have_no_false_precision(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
