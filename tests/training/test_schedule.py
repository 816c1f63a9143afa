"""Eq. 1 by value, written out and as torch has it; periods and their best epochs."""

import dataclasses
import functools
import math
from typing import Any

import pytest
import torch

from lungsound.training.schedule import Annealing

MAX_LR = 1e-4
PERIOD_OF_150 = {2: 75, 3: 50, 4: 37, 5: 30, 6: 25, 7: 21, 8: 18, 9: 16, 10: 15}
DEFAULT = Annealing("cosine", 8, 20, None, MAX_LR, "best", "score", "last")
annealing = functools.partial(dataclasses.replace, DEFAULT)


def records(name: str, *values: float, period: int = 1, first: int = 1) -> list[dict[str, Any]]:
    history = enumerate(values, start=first)
    return [{"epoch": epoch, "period": period, name: value} for epoch, value in history]


# --- learning rates ---


@pytest.mark.parametrize("total", [None, 150])
@pytest.mark.parametrize("cycles", range(2, 11))
def test_every_learning_rate_is_eq_1s_and_torchs(cycles: int, total: int | None) -> None:
    schedule = annealing(cycles=cycles, total_epochs=total)
    period = PERIOD_OF_150[cycles] if total else 20
    assert (schedule.num_periods, schedule.epochs_per_period) == (cycles, period)
    assert schedule.epochs == cycles * period
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=MAX_LR)
    torchs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=period)
    for t in range(1, schedule.epochs + 1):
        eq_1 = MAX_LR / 2 * (math.cos(math.pi * ((t - 1) % period) / period) + 1)
        # Tolerances are of rounding, against a rate that falls to 0 by cancellation.
        assert schedule.learning_rate(t) == pytest.approx(eq_1, rel=0, abs=1e-15 * MAX_LR)
        expected = pytest.approx(torchs.get_last_lr()[0], rel=0, abs=1e-14 * MAX_LR)
        assert schedule.learning_rate(t) == expected
        optimizer.step()
        torchs.step()


def test_the_budget_in_all_never_exceeds_total_epochs() -> None:
    for cycles in range(1, 151):
        epochs = annealing(cycles=cycles, total_epochs=150).epochs
        assert 150 - cycles < epochs <= 150
        assert epochs % cycles == 0


def test_the_constant_baseline_is_one_period_of_all_epochs() -> None:
    for baseline in (
        annealing(schedule="constant", cycles=1),
        annealing(schedule="constant", cycles=8, epochs_per_cycle=20),
        annealing(schedule="constant", cycles=8, total_epochs=150, constant_epochs=2),
    ):
        assert (baseline.num_periods, baseline.epochs_per_period, baseline.epochs) == (1, 150, 150)
        assert {baseline.learning_rate(t) for t in range(1, 151)} == {MAX_LR}
        assert {baseline.period_of(t) for t in range(1, 151)} == {1}


def test_controls_cost_what_the_ensemble_costs() -> None:
    ensemble = annealing(cycles=5, epochs_per_cycle=4)
    one = annealing(schedule="one_cosine", cycles=5, epochs_per_cycle=4)
    constant = annealing(schedule="constant", cycles=5, epochs_per_cycle=4, constant_epochs=None)
    independent = annealing(cycles=5, epochs_per_cycle=4, continue_from="fresh")
    ceiling = dataclasses.replace(one, continue_from="fresh")
    sizes = [
        (schedule.num_periods, schedule.epochs_per_period, schedule.epochs)
        for schedule in (ensemble, one, constant, independent, ceiling)
    ]
    assert sizes == [(5, 4, 20), (1, 20, 20), (1, 20, 20), (5, 4, 20), (5, 20, 100)]
    by_eq_1 = [MAX_LR / 2 * (math.cos(math.pi * ((t - 1) % 20) / 20) + 1) for t in range(1, 101)]
    assert [ceiling.learning_rate(t) for t in range(1, 101)] == pytest.approx(by_eq_1)


# --- periods ---


def test_periods_and_their_last_epochs() -> None:
    schedule = annealing(cycles=3, epochs_per_cycle=4)
    assert [schedule.period_of(t) for t in range(1, 13)] == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    assert [schedule.last_epoch(period) for period in (1, 2, 3)] == [4, 8, 12]
    every = annealing(cycles=5, total_epochs=5)
    for t in range(1, 6):
        assert (every.period_of(t), every.last_epoch(t)) == (t, t)


# --- the epoch that is kept ---


@pytest.mark.parametrize(
    ("monitor", "name", "best"),
    [("score", "val/score_4", 0.7), ("accuracy", "val/accuracy", 0.7), ("loss", "val/loss", 0.1)],
)
def test_the_best_epoch_is_the_earliest_of_equals(monitor: str, name: str, best: float) -> None:
    history = records(name, 0.5, best, 0.6, best)
    assert annealing(monitor=monitor).best_epoch(history, 1) == 2
    assert annealing(monitor="score").best_epoch(history, 1, monitor) == 2
    assert annealing(monitor=monitor).best_epoch(records(name, *[best] * 3), 1) == 1


def test_rounding_does_not_break_a_tie() -> None:
    """Sp 0.3 with Se 0 and Sp 0.1 with Se 0.2 are one score, whose second float is larger."""
    assert (0.1 + 0.2) / 2 > (0.3 + 0) / 2
    history = records("val/score_4", (0.3 + 0) / 2, (0.1 + 0.2) / 2)
    assert annealing(monitor="score").best_epoch(history, 1) == 1


@pytest.mark.parametrize(("monitor", "name"), [("score", "val/score_4"), ("loss", "val/loss")])
def test_what_is_not_a_number_never_wins(monitor: str, name: str) -> None:
    schedule = annealing(monitor=monitor)
    for place in range(3):
        values = [0.5, 0.5]
        values.insert(place, math.nan)
        assert schedule.best_epoch(records(name, *values), 1) == (2 if place == 0 else 1)
    missing = [{"epoch": 1, "period": 1}, *records(name, 0.0, first=2)]
    assert schedule.best_epoch(missing, 1) == 2
    assert schedule.best_epoch(records(name, math.nan, math.nan), 1) == 1


def test_the_four_class_score_counts_and_the_two_class_one_if_there_is_no_other() -> None:
    two, four = records("val/score_2", 0.9, 0.7), records("val/score_4", 0.4, 0.6)
    both = [one | other for one, other in zip(four, two, strict=True)]
    assert annealing().best_epoch(both, 1) == 2
    assert annealing().best_epoch(two, 1) == 1


@pytest.mark.parametrize(("select", "epochs"), [("best", [1, 5]), ("last", [3, 6])])
def test_the_kept_epoch_is_the_best_or_the_periods_last(select: str, epochs: list[int]) -> None:
    history = records("val/score_4", 0.9, 0.8, 0.7)
    history += records("val/score_4", 0.1, 0.3, 0.2, period=2, first=4)
    schedule = annealing(epochs_per_cycle=3, select=select)
    assert [schedule.snapshot_epoch(history, period) for period in (1, 2)] == epochs
