"""Runs compared on the same test cycles, against counts and draws by pandas."""

import numpy as np
import pandas as pd
import pytest

from lungsound.errors import DataError
from lungsound.results.comparison import (
    Answers,
    compare_answers,
    ensemble_answers,
    join_answers,
)
from lungsound.scoring.comparison import holm

LABELS = ("normal", "crackle", "wheeze", "both")


def predictions(seed: int, skill: float, patients: int = 12, cycles: int = 240) -> pd.DataFrame:
    """Two members' answers; the cycles and their labels do not depend on the seed."""
    fixed, rng = np.random.default_rng(0), np.random.default_rng(seed)
    truth = fixed.integers(0, 4, cycles)
    patient = np.arange(cycles) % patients
    rows = {
        "recording": [f"r{one}" for one in patient],
        "patient": [f"p{one}" for one in patient],
        "cycle": np.arange(cycles) // patients,
        "label": np.array(LABELS)[truth],
        "set": "test",
    }
    tables = []
    for member in (1, 2):
        values = rng.dirichlet(np.ones(4), cycles)
        values[np.arange(cycles), truth] += skill * fixed.uniform(size=patients)[patient]
        values /= values.sum(1, keepdims=True)
        columns = {f"p_{label}": values[:, place] for place, label in enumerate(LABELS)}
        tables.append(pd.DataFrame({**rows, "member": member, **columns}))
    return pd.concat(tables).sample(frac=1, random_state=seed)  # in any order


def means(table: pd.DataFrame) -> pd.DataFrame:
    """The ensemble's answer per cycle, by pandas."""
    columns = [f"p_{label}" for label in LABELS]
    keys = ["recording", "cycle", "patient", "label"]
    table = table.groupby(keys)[columns].mean().reset_index()
    return table.assign(answer=table[columns].idxmax(axis=1).str.removeprefix("p_"))


def score(table: pd.DataFrame) -> float:
    right, normal = table["label"] == table["answer"], table["label"] == "normal"
    return (right[normal].mean() + right[~normal].mean()) / 2


def test_scores_and_intervals_are_those_of_drawn_patients() -> None:
    tables = {"first": predictions(1, 1.0), "second": predictions(2, 0.5)}
    runs = {name: ensemble_answers(table) for name, table in tables.items()}
    found, note = compare_answers(runs, "score_4")
    assert note == ""
    first, second = (means(table) for table in tables.values())
    assert found["score"].tolist() == pytest.approx([score(first), score(second)])
    assert found["difference"].iloc[1] == pytest.approx(score(second) - score(first))
    rng, drawn = np.random.default_rng(7), []
    rows = [group.index.to_numpy() for _, group in first.groupby("patient")]
    for _ in range(1000):
        chosen = np.concatenate([rows[one] for one in rng.integers(0, 12, 12)])
        drawn.append((score(first.loc[chosen]), score(second.loc[chosen])))
    one, other = np.array(drawn).T
    for column, values in (("", other), ("difference_", other - one)):
        expected = np.quantile(values, [0.025, 0.975])
        interval = found.loc[1, [f"{column}low", f"{column}high"]].to_numpy(dtype=float)
        assert interval == pytest.approx(expected, abs=0.02)
    assert found["permutation"].iloc[1] < 0.05
    assert found["mcnemar"].iloc[1] < 0.05


def test_several_runs_are_adjusted_and_a_run_equals_itself() -> None:
    runs = {str(seed): ensemble_answers(predictions(seed, 1.0 - seed / 3)) for seed in (0, 1, 2)}
    table, _ = compare_answers({**runs, "again": runs["0"]}, "score_2")
    p_values = table["permutation"].iloc[1:].tolist()
    assert table["holm"].iloc[1:].tolist() == holm(p_values)
    assert max(p_values[:2]) < 0.5 < p_values[2]
    last = table.iloc[-1]
    assert last["difference"] == last["difference_low"] == last["difference_high"] == 0
    assert last["permutation"] == last["mcnemar"] == 1


def test_few_patients_have_no_interval() -> None:
    runs = {name: ensemble_answers(predictions(1, 1, patients=9, cycles=180)) for name in "ab"}
    table, note = compare_answers(runs, "score_4")
    assert note == "no intervals: 9 patients, fewer than 10"
    assert table[["low", "high", "difference_low"]].isna().all(axis=None)
    assert table["permutation"].iloc[1] == 1


def test_unknown_patients_have_no_p_value() -> None:
    tables = [predictions(seed, 2 - seed).assign(patient="") for seed in (1, 2)]
    first, second = (ensemble_answers(table) for table in tables)
    table, note = compare_answers({"a": first, "b": second}, "score_4")
    assert note == "no intervals: the patients are unknown"
    assert table[["permutation", "holm", "low"]].isna().all(axis=None)
    assert table["mcnemar"].iloc[1] < 0.05


def test_mcnemar_counts_in_the_classes_of_the_score() -> None:
    """Crackles and wheezes exchanged: wrong of four classes, right of two."""
    first = ensemble_answers(predictions(1, 1))
    swapped = first._replace(probabilities=first.probabilities[:, [0, 2, 1, 3]])
    runs = {"a": first, "b": swapped}
    assert compare_answers(runs, "score_4")[0]["mcnemar"].iloc[1] < 0.001
    assert compare_answers(runs, "score_2")[0]["mcnemar"].iloc[1] == 1


def test_mcnemar_counts_the_cycles_of_the_score() -> None:
    """Two systems that differ in abnormal cycles alone."""
    first = ensemble_answers(predictions(1, 1))
    answers = first.probabilities.copy()
    answers[first.truth > 0] = np.eye(4)[0]
    runs = {"a": first, "b": first._replace(probabilities=answers)}
    assert compare_answers(runs, "specificity")[0]["mcnemar"].iloc[1] == 1
    for score in ("score_4", "sensitivity_2"):
        assert compare_answers(runs, score)[0]["mcnemar"].iloc[1] < 0.001
    normal_wrong = np.where((first.truth == 0)[:, None], np.eye(4)[1], first.probabilities)
    runs = {"a": first, "b": first._replace(probabilities=normal_wrong)}
    assert compare_answers(runs, "sensitivity_2")[0]["mcnemar"].iloc[1] == 1
    assert compare_answers(runs, "specificity")[0]["mcnemar"].iloc[1] < 0.001


def test_folds_together_are_the_whole() -> None:
    table = predictions(1, 1)
    whole = ensemble_answers(table)
    fold = table["patient"].str[1:].astype(int) % 3
    parts = [ensemble_answers(table[fold == number]) for number in (2, 0, 1)]
    joined = join_answers(parts)
    pd.testing.assert_frame_equal(joined.cycles, whole.cycles)
    np.testing.assert_array_equal(joined.probabilities, whole.probabilities)
    with pytest.raises(DataError, match="fold alone, but 80 come twice"):
        join_answers([*parts, parts[0]])
    with pytest.raises(DataError, match="their classes differ"):
        join_answers([parts[0], parts[1].fold("score_2")])


def test_models_of_other_classes_are_compared_in_those_that_both_have() -> None:
    """A two-class model that answers what the four-class model's folded answers are."""
    table = predictions(1, 1)
    four, names = ensemble_answers(table), ["p_normal", "p_abnormal"]
    answers = means(table)["answer"] == "normal"
    label = four.cycles["label"].where(four.cycles["label"] == "normal", "abnormal")
    rows = four.cycles.assign(label=label, set="test", member=1)
    two = rows.assign(**dict(zip(names, [answers * 1.0, ~answers * 1.0], strict=True)))
    runs = {"four": four, "two": ensemble_answers(two)}
    found, _ = compare_answers(runs, "score_2")
    right = (label == "normal") == answers
    normal = label == "normal"
    expected = (right[normal].mean() + right[~normal].mean()) / 2
    assert found["score"].tolist() == pytest.approx([expected] * 2)
    assert found["permutation"].iloc[1] == found["mcnemar"].iloc[1] == 1
    found, _ = compare_answers(runs, "specificity")
    assert found["score"].tolist() == pytest.approx([right[normal].mean()] * 2)
    assert found["mcnemar"].iloc[1] == 1
    with pytest.raises(DataError, match="two: expected the labels normal crackle wheeze both"):
        compare_answers(runs, "score_4")


def changed(answers: Answers, **columns: object) -> Answers:
    return answers._replace(cycles=answers.cycles.assign(**columns))


def test_runs_of_other_cycles_are_refused() -> None:
    first = ensemble_answers(predictions(1, 1))
    for other, fault in (
        (changed(first, recording="x"), "expected the 240 test cycles of a, but it has 240, 0 of"),
        (changed(first, label="both"), "240 of them the same, or with other labels"),
    ):
        with pytest.raises(DataError, match=fault):
            compare_answers({"a": first, "b": other}, "score_4")
    with pytest.raises(
        DataError, match=r"expected one of the scores specificity, .* got 'score_7'"
    ):
        compare_answers({"a": first, "b": first}, "score_7")
