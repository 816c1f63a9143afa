"""A run's members: how different they are, and other ways to combine them, chosen on validation."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lungsound.results.comparison import Answers, ensemble_answers
from lungsound.results.report import format_score, markdown_table
from lungsound.results.summary import member_numbers, member_probabilities, predicted_labels
from lungsound.scoring.bootstrap import (
    bootstrap_scores,
    patient_confusions,
    quantile_interval,
    scores_of_counts,
)
from lungsound.scoring.combination import (
    fit_weights,
    geometric_mean,
    greedy_selection,
    weighted_mean,
)
from lungsound.scoring.scores import score_names

Floats = NDArray[np.float64]


class MemberAnswers(NamedTuple):
    """The members' probabilities [M, n, K] of a set's cycles, and how their mean answers."""

    members: Floats
    mean: Answers

    def score(self, probabilities: Floats) -> float:
        """Return the own score of probabilities [n, K] of the same cycles, -1 if undefined."""
        truth, labels = self.mean.truth, self.mean.labels
        nobody = np.zeros(len(truth), dtype=object)
        counts = patient_confusions(truth, probabilities.argmax(1), nobody, len(labels)).sum(0)
        scores = scores_of_counts(counts, labels)
        value = float(np.nan_to_num(scores[score_names(scores)[0]], nan=-1))
        return round(value, 12)  # equal ratios of counts are equal numbers


class Combination(NamedTuple):
    """A way to make one answer [n, K] of the members' [M, n, K], and its members in words."""

    name: str
    members: str
    combine: Callable[[Floats], Floats]


def member_answers(predictions: pd.DataFrame, set_name: str) -> MemberAnswers:
    """Return all members' answers on a set. Raises DataError as `summarize`."""
    labels, numbers = predicted_labels(predictions), member_numbers(predictions)
    rows = predictions[predictions["set"] == set_name]
    members = member_probabilities(rows, labels, numbers).probabilities.numpy()
    return MemberAnswers(members, ensemble_answers(predictions, set_name))


def choose_combinations(validation: MemberAnswers) -> Iterator[Combination]:
    """Yield the ways to combine the members; the first is the run's, the mean of all.

    What each way leaves open is chosen on `validation`: by the own score, the fewest members of
    equals; the weights by the loss.
    """
    members, score = validation.members, validation.score
    count, truth, orders = len(members), validation.mean.truth, member_orders(validation)
    yield _mean_of("all", range(count))
    yield Combination("geometric mean", f"1-{count}", geometric_mean)
    yield _mean_of("last member", [count - 1])
    yield _mean_of("best single member", orders["best m"][:1])
    for name, order in orders.items():
        scores = [score(members[order[:size]].mean(0)) for size in range(1, count + 1)]
        yield _mean_of(name, order[: 1 + int(np.argmax(scores))])
    selected = greedy_selection(members, score, rounds=2 * count)
    yield _mean_of("greedy, with replacement", selected)
    weights = fit_weights(members, truth)
    words = " ".join(f"{number}:{weight:.2f}" for number, weight in enumerate(weights, start=1))
    yield Combination("fitted weights", words, lambda members: weighted_mean(members, weights))


def member_orders(validation: MemberAnswers) -> dict[str, NDArray[np.int64]]:
    """Return name -> the members [M], from 0, in an order of which an ensemble takes the first m.

    `best m` is the order of their own scores on validation, the earliest of equals first.
    """
    numbers = np.arange(len(validation.members))
    scores = [validation.score(member) for member in validation.members]
    by_score = np.argsort(np.negative(scores), kind="stable")
    return {"first m": numbers, "last m": numbers[::-1], "best m": by_score}


def _mean_of(name: str, order: Any) -> Combination:
    places = np.asarray(list(order), dtype=np.int64)
    numbers = np.sort(places + 1)
    words = " ".join(map(str, numbers))
    if len(numbers) > 2 and (np.diff(numbers) == 1).all():
        words = f"{numbers[0]}-{numbers[-1]}"
    return Combination(name, words, lambda members: members[places].mean(0))


def combination_rows(predictions: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row per combination: name, members, val, test (the own score), and the difference.

    `difference` on test is to the mean of all, with `low` and `high` (95 % by patient, or None).
    Empty for a single member, and if validation or test lacks cycles. Raises DataError as
    `summarize`.
    """
    validation, test = (member_answers(predictions, name) for name in ("val", "test"))
    if len(test.members) == 1 or not len(validation.mean.truth) or not len(test.mean.truth):
        return []
    rows: list[dict[str, Any]] = []
    answers = []
    for way in choose_combinations(validation):
        probabilities = way.combine(test.members)
        answers.append(test.mean._replace(probabilities=probabilities))
        scores = {"val": validation.score(way.combine(validation.members))}
        scores["test"] = test.score(probabilities)
        rows.append({"name": way.name, "members": way.members, **scores})
    drawn = bootstrap_scores(np.stack([one.counts for one in answers]), test.mean.labels)
    draws = drawn[score_names(drawn)[0]]
    problem = test.mean.interval_problem
    for place, row in enumerate(rows):
        row["difference"] = row["test"] - rows[0]["test"]
        row["low"] = row["high"] = None
        if not problem and place:
            interval = quantile_interval(draws[:, place] - draws[:, 0])
            row["low"], row["high"] = interval
    return rows


def combination_section(rows: list[dict[str, Any]]) -> list[str]:
    """Return the parts of the report's section."""
    if not rows:
        return []
    cells: list[list[str]] = []
    for row in rows:
        interval = "-" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}"
        scores = [format_score(row[name]) for name in ("val", "test")]
        difference = f"{row['difference']:+.3f}" if cells else "-"
        cells.append([row["name"], row["members"], *scores, difference, interval])
    head = ["combination", "members", "validation", "test", "minus all", "95 % by patient"]
    return [
        "## Other ways to combine the members (own score; chosen on validation)",
        markdown_table(head, cells),
    ]
