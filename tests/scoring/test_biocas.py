"""The BioCAS challenge's scores by its formulas, scikit-learn and pandas."""

import re
from math import nan
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import confusion_matrix, recall_score

from lungsound.data.labels import label_set
from lungsound.results.biocas import (
    AT_THRESHOLD,
    BIOCAS_METRICS,
    biocas_scores_by_part,
    biocas_section,
    biocas_table,
)
from lungsound.results.predictions import predictions_table
from lungsound.scoring.biocas import biocas_scores

# From the issue, and not from the code.
LABEL = {
    "Normal": "normal", "Fine Crackle": "crackle", "Coarse Crackle": "crackle", "Wheeze": "wheeze",
    "Rhonchi": "wheeze", "Stridor": "wheeze", "Wheeze+Crackle": "both",
}  # fmt: skip
TYPES = tuple(LABEL)


def expected(sensitivity: float, specificity: float) -> dict[str, float]:
    """The challenge's formulas, as the issue gives them."""
    average = (sensitivity + specificity) / 2
    harmonic = 2 * sensitivity * specificity / (sensitivity + specificity)
    values = sensitivity, specificity, average, harmonic, (average + harmonic) / 2
    return dict(zip(("SE", "SP", "AS", "HS", "Score"), values, strict=True))


@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("seed", range(5))
def test_scores_are_the_formulas_of_scikit_learns_recalls(classes: int, seed: int) -> None:
    draws = np.random.default_rng(seed)
    truth = draws.choice(classes, 400, p=draws.dirichlet(np.ones(classes)))
    predicted = np.where(draws.random(400) < 0.6, truth, draws.integers(classes, size=400))
    specificity = recall_score(truth, predicted, labels=[0], average="micro")
    sensitivity = recall_score(truth, predicted, labels=range(1, classes), average="micro")
    counts = torch.from_numpy(confusion_matrix(truth, predicted, labels=range(classes)))
    assert biocas_scores(counts) == pytest.approx(expected(sensitivity, specificity))


def test_sensitivity_is_pooled_and_not_a_mean_over_classes() -> None:
    counts = torch.zeros(7, 7, dtype=torch.int64)
    counts[0, 0], counts[0, 3] = 80, 20
    counts[1, 1] = 90  # a large class, all right
    counts[3, 0], counts[5, 1] = 5, 5  # two small ones, all wrong
    assert biocas_scores(counts) == pytest.approx(expected(90 / 100, 80 / 100))


def test_another_adventitious_type_is_wrong_in_seven_classes_and_right_in_two() -> None:
    counts = torch.zeros(7, 7, dtype=torch.int64)
    counts[0, 0], counts[1, 2], counts[3, 3] = 4, 3, 1
    assert biocas_scores(counts)["SE"] == 1 / 4
    assert biocas_scores(torch.tensor([[4, 0], [0, 4]]))["SE"] == 1


@pytest.mark.parametrize(
    ("counts", "figures"),
    [
        ([[0, 5], [3, 0]], (0, 0, 0, 0, 0)),
        ([[5, 0], [3, 0]], (0, 1, 0.5, 0, 0.25)),
        ([[0, 5], [0, 3]], (1, 0, 0.5, 0, 0.25)),
        ([[5, 0], [0, 3]], (1, 1, 1, 1, 1)),
        ([[3, 1], [0, 0]], (nan, 0.75, nan, nan, nan)),
        ([[0, 0], [1, 3]], (0.75, nan, nan, nan, nan)),
        ([[0, 0], [0, 0]], (nan,) * 5),
    ],
)
def test_figures_at_the_edges(counts: list[list[int]], figures: tuple[float, ...]) -> None:
    scores = biocas_scores(torch.tensor(counts))
    assert tuple(scores) == ("SE", "SP", "AS", "HS", "Score") == BIOCAS_METRICS
    assert tuple(scores.values()) == pytest.approx(figures, nan_ok=True)
    assert all(isinstance(value, float) for value in scores.values())


# --- from the predictions table ---


def made_up(classes: int, count: int = 3, cycles: int = 300, seed: int = 0) -> pd.DataFrame:
    """Predictions of SPRSound's two test parts and of validation, as a run writes them."""
    draws = np.random.default_rng(seed)
    number = np.arange(cycles)
    kinds = np.array(TYPES)[draws.choice(7, cycles, p=[0.5, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05])]
    labels = pd.Series(kinds).map(LABEL)
    own, truth = {
        7: (TYPES, kinds),
        4: (("normal", "crackle", "wheeze", "both"), labels.to_numpy()),
        2: (("normal", "abnormal"), np.where(labels == "normal", "normal", "abnormal")),
    }[classes]
    test_part = np.where(number // 7 % 3 == 0, "inter", "intra")
    table = pd.DataFrame({
        "recording": [f"{place // 7}_5.0_1_p1_{place // 7}" for place in number],
        "patient": (number // 7).astype(str), "cycle": number % 7, "start_seconds": 0.0,
        "end_seconds": 1.0, "label": labels, "set": np.where(number < 90, "val", "test"),
        "part": np.where(number < 90, "train", test_part), "event_type": kinds,
        "target": [own.index(label) for label in truth],
    })  # fmt: skip
    right = torch.from_numpy(truth[:, None] == np.array(own)).float()
    noise = torch.from_numpy(draws.normal(size=(count, cycles, classes))).float()
    members = [(1.3 * right + each).softmax(1) for each in noise]
    return predictions_table(table, members, label_set(classes), synthetic=False)


def by_pandas(predictions: pd.DataFrame, part: str, members: list[int], task: str) -> Any:
    """The figures by another route: pandas' mean over the members, scikit-learn's recalls."""
    rows = predictions[(predictions["set"] == "test") & predictions["member"].isin(members)]
    rows = rows if part == "all" else rows[rows["part"] == part]
    columns = [name for name in rows if str(name).startswith("p_")]
    means = {"label": "first", **dict.fromkeys(columns, "mean")}
    events = rows.groupby(["recording", "cycle"]).agg(means)
    answer = events[columns].idxmax(axis="columns").str[2:]
    healthy = {"Normal", "normal"}
    truth = events["label"]
    recall = {name[2:]: float((answer == truth)[truth == name[2:]].mean()) for name in columns}
    if task == "1-1":
        truth, answer = truth.isin(healthy).map(str), answer.isin(healthy).map(str)
    normal = truth.isin({"True", *healthy})
    rest = sorted(set(truth[~normal]))
    sensitivity = recall_score(truth, answer, labels=rest, average="micro")
    scores = expected(sensitivity, float((answer == truth)[normal].mean()))
    return {"events": len(events), **scores, "recall": recall}


@pytest.mark.parametrize(("classes", "tasks"), [(7, ["1-1", "1-2"]), (4, ["1-1"]), (2, ["1-1"])])
def test_rows_for_each_part_task_and_answerer_are_what_pandas_counts(
    classes: int, tasks: list[str]
) -> None:
    predictions = made_up(classes)
    rows = biocas_scores_by_part(predictions.sample(frac=1, random_state=0))
    # The best on validation, by its own accuracy on normal and on the other classes, pooled.
    val = predictions[predictions["set"] == "val"]
    columns = [name for name in val if str(name).startswith("p_")]
    right = val[columns].idxmax(axis="columns").str[2:] == val["label"]
    normal = val["label"].isin({"Normal", "normal"})
    shares = [right[rows].groupby(val["member"]).mean() for rows in (normal, ~normal)]
    best = int(sum(shares).idxmax())
    members = {"ensemble of 3": [1, 2, 3], f"single: member {best}": [best]}
    rows = [row for row in rows if not row["who"].startswith("threshold")]
    assert [(row["part"], row["who"], row["task"]) for row in rows] == [
        (part, who, task) for part in ("inter", "intra", "all") for who in members for task in tasks
    ]
    for row in rows:
        reference = by_pandas(predictions, row["part"], members[row["who"]], row["task"])
        assert row["events"] > 0
        for name in ("events", "recall", *BIOCAS_METRICS):
            assert row[name] == pytest.approx(reference[name])


@pytest.mark.parametrize("classes", [2, 4, 7])
def test_the_threshold_is_the_best_of_all_on_validation(classes: int) -> None:
    predictions = made_up(classes)
    rows = biocas_scores_by_part(predictions.sample(frac=1, random_state=0))
    rows = [row for row in rows if row["who"].startswith("threshold")]
    assert [(row["part"], row["task"]) for row in rows] == [
        (part, "1-1") for part in ("inter", "intra", "all")
    ]
    p_normal = "p_Normal" if classes == 7 else "p_normal"
    means = {"p": (p_normal, "mean"), "kind": ("event_type", "first")}
    events = predictions.groupby(["set", "part", "recording", "cycle"]).agg(**means).reset_index()
    score, normal = 1 - events["p"], events["kind"] == "Normal"
    val = events["set"] == "val"

    def shares(threshold: float, those: Any) -> tuple[float, float]:
        called = score >= threshold
        return called[those & ~normal].mean(), 1 - called[those & normal].mean()

    values = np.unique(score[val])
    between = (values[1:] + values[:-1]) / 2
    best = max(between, key=lambda one: round(sum(shares(one, val)), 9))
    for row in rows:
        assert row["who"] == f"threshold {best:.3f}"
        those = ~val if row["part"] == "all" else events["part"] == row["part"]
        for name, value in expected(*shares(best, those)).items():
            assert row[name] == pytest.approx(value)
        assert row["events"] == those.sum()
        assert set(row["recall"].values()) == {None}


def test_without_both_kinds_in_validation_there_is_no_threshold() -> None:
    predictions = made_up(4)
    normal = predictions["event_type"] == "Normal"
    rows = biocas_scores_by_part(predictions[normal | (predictions["set"] == "test")])
    assert rows
    assert not [row for row in rows if row["who"].startswith("threshold")]
    assert AT_THRESHOLD not in biocas_section(rows)
    assert AT_THRESHOLD in biocas_section(biocas_scores_by_part(predictions))


def test_what_is_best_on_test_is_not_chosen() -> None:
    """Member 1 is right on every validation event alone, member 2 on every test event alone."""
    predictions = made_up(4, count=2)
    columns = [f"p_{name}" for name in ("normal", "crackle", "wheeze", "both")]
    truth = np.stack([predictions["label"] == name[2:] for name in columns], axis=1)
    right = (predictions["member"] == 1) == (predictions["set"] == "val")
    answers = np.where(right.to_numpy()[:, None], truth, np.roll(truth, 1, axis=1))
    predictions[columns] = answers.astype(float)
    single = [row for row in biocas_scores_by_part(predictions) if row["who"].startswith("single")]
    assert {row["who"] for row in single} == {"single: member 1"}
    assert {row["SP"] for row in single} == {0.0}


def test_one_part_has_no_row_of_all_parts() -> None:
    predictions = made_up(7)
    one = predictions[predictions["part"] != "inter"]
    assert {row["part"] for row in biocas_scores_by_part(one)} == {"intra"}


def test_a_part_without_normal_or_without_a_class_has_undefined_figures() -> None:
    predictions = made_up(7)
    odd = (predictions["part"] == "inter") & predictions["event_type"].isin(["Normal", "Stridor"])
    rows = biocas_scores_by_part(predictions[~odd])
    for row in (row for row in rows if row["part"] == "inter"):
        assert [row[name] for name in BIOCAS_METRICS[1:]] == [None] * 4
        assert 0 <= row["SE"] <= 1
        assert (row["recall"]["Normal"], row["recall"]["Stridor"]) == (None, None)
        assert (row["recall"]["Fine Crackle"] is None) == row["who"].startswith("threshold")
    text = biocas_table(rows)
    assert not re.search("nan|None", text)
    assert len(text.splitlines()) == 2 + len(rows)
    for row, line in zip(rows, text.splitlines()[2:], strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        figures = ["-" if row[name] is None else f"{row[name]:.3f}" for name in BIOCAS_METRICS]
        recall = ["-" if value is None else f"{value:.3f}" for value in row["recall"].values()]
        assert cells[:4] == [row["part"], row["task"], row["who"], str(row["events"])]
        assert cells[4:] == figures + recall


def test_a_database_without_event_types_has_no_rows() -> None:
    predictions = made_up(4).drop(columns=["part", "event_type"])
    assert biocas_scores_by_part(predictions) == []


@pytest.mark.parametrize("absent", ["", None])
@pytest.mark.parametrize("name", ["val", "test"])
def test_rows_depend_on_the_test_cycles_database_alone(name: str, absent: str | None) -> None:
    """A run on ICBHI that is scored on SPRSound, and one on SPRSound that is scored on ICBHI."""
    predictions = made_up(4)
    rows = biocas_scores_by_part(predictions)
    assert rows
    predictions.loc[predictions["set"] == name, ["part", "event_type"]] = absent
    assert biocas_scores_by_part(predictions) == (rows if name == "val" else [])
