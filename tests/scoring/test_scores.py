"""Averages and scores, by hand and against scikit-learn."""

from math import isnan

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.metrics import confusion_matrix as reference

from lungsound.data.labels import FOUR_CLASS, SPRSOUND_SEVEN, TWO_CLASS, LabelSet, label_set
from lungsound.scoring.metric import CycleScores
from lungsound.scoring.probabilities import cycle_probabilities, ensemble_probabilities
from lungsound.scoring.scores import (
    class_recalls,
    confusion_matrix,
    fold_confusion,
    icbhi_scores,
    macro_f1,
    missing_classes,
    score_names,
)

RNG = np.random.default_rng(0)
COUNTS = torch.tensor([[60, 10, 20, 10], [8, 30, 1, 1], [5, 2, 12, 1], [1, 3, 2, 4]])


def answers(classes: int, number: int = 500) -> tuple[torch.Tensor, torch.Tensor]:
    truth, predicted = RNG.integers(classes, size=(2, number))
    return torch.from_numpy(truth), torch.from_numpy(predicted)


@pytest.mark.parametrize("classes", [2, 4, 7])
def test_confusion_is_scikit_learns(classes: int) -> None:
    truth, predicted = answers(classes)
    confusion = confusion_matrix(truth, predicted, classes)
    assert confusion.dtype == torch.int64
    np.testing.assert_array_equal(confusion, reference(truth, predicted, labels=range(classes)))
    # Classes that do not occur keep their row and column.
    truth, predicted = torch.zeros(3, dtype=torch.int64), torch.tensor([0, 1, 0])
    expected = reference(truth, predicted, labels=range(classes))
    np.testing.assert_array_equal(confusion_matrix(truth, predicted, classes), expected)


@pytest.mark.parametrize("wrong", [4, -1])
def test_a_class_out_of_range_is_refused(wrong: int) -> None:
    right, other = torch.tensor([0, 3]), torch.tensor([0, wrong])
    for pair in ((right, other), (other, right)):
        with pytest.raises(ValueError, match="from 0 to 3"):
            confusion_matrix(*pair, 4)


def test_scores_by_hand() -> None:
    expected = {
        "specificity": 60 / 100,
        "sensitivity_4": (30 + 12 + 4) / 70,
        "sensitivity_2": (70 - 8 - 5 - 1) / 70,  # any abnormal answer for any abnormal cycle
        "score_4": (60 / 100 + 46 / 70) / 2,
        "score_2": (60 / 100 + 56 / 70) / 2,
        "accuracy": 106 / 170,
    }
    assert icbhi_scores(COUNTS, FOUR_CLASS) == pytest.approx(expected)
    two = icbhi_scores(torch.tensor([[30, 10], [5, 15]]), TWO_CLASS)
    assert two == dict.fromkeys(("specificity", "sensitivity_2", "score_2", "accuracy"), 0.75)


def test_scores_are_scikit_learns_recalls() -> None:
    truth, predicted = answers(4)
    scores = icbhi_scores(confusion_matrix(truth, predicted, 4), FOUR_CLASS)
    for name, labels in (("specificity", [0]), ("sensitivity_4", [1, 2, 3])):
        recall = recall_score(truth, predicted, labels=labels, average="micro")
        assert scores[name] == pytest.approx(recall)
    assert scores["sensitivity_2"] == pytest.approx(recall_score(truth > 0, predicted > 0))
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth, predicted))


@pytest.mark.parametrize("absent", [(), (2,), (0, 3)])
def test_recalls_and_macro_f1_are_scikit_learns(absent: tuple[int, ...]) -> None:
    """Of the classes that occur: the others may still be predicted."""
    truth, predicted = answers(4)
    kept = torch.tensor([label not in absent for label in truth.tolist()])
    truth, predicted = truth[kept], predicted[kept]
    confusion = confusion_matrix(truth, predicted, 4)
    present = [label for label in range(4) if label not in absent]
    expected = f1_score(truth, predicted, labels=present, average="macro")
    assert macro_f1(confusion) == pytest.approx(expected, rel=1e-12)
    recalls = class_recalls(confusion, FOUR_CLASS)
    assert tuple(recalls) == FOUR_CLASS.labels
    expected = recall_score(truth, predicted, labels=present, average=None)
    values = list(recalls.values())
    np.testing.assert_allclose([values[label] for label in present], expected, rtol=1e-12)
    assert all(isnan(values[label]) for label in absent)
    assert isnan(macro_f1(0 * confusion))


# SPRSound's normal; two crackles; wheeze, rhonchi, stridor; both: the place of each among four.
FOURTH = np.array([0, 1, 1, 2, 2, 2, 3])


def test_seven_classes_fold_to_four_and_two_by_hand() -> None:
    counts = torch.tensor([
        [50, 1, 2, 3, 4, 5, 6],
        [7, 20, 3, 1, 0, 0, 2],
        [1, 4, 10, 0, 1, 0, 0],
        [2, 0, 1, 30, 5, 1, 3],
        [0, 1, 0, 2, 8, 1, 0],
        [1, 0, 0, 3, 0, 4, 0],
        [2, 1, 1, 1, 2, 0, 9],
    ])  # fmt: skip
    four = fold_confusion(counts, SPRSOUND_SEVEN, FOUR_CLASS)
    assert four.tolist() == [[50, 3, 12, 6], [8, 37, 2, 2], [3, 2, 54, 3], [2, 2, 3, 9]]
    two = fold_confusion(counts, SPRSOUND_SEVEN, TWO_CLASS)
    assert two.tolist() == fold_confusion(four, FOUR_CLASS, TWO_CLASS).tolist()
    assert two.tolist() == [[50, 21], [13, 114]]
    expected = {
        "specificity": 50 / 71,
        "sensitivity_7": (20 + 10 + 30 + 8 + 4 + 9) / 127,
        "sensitivity_4": (37 + 54 + 9) / 127,
        "sensitivity_2": 114 / 127,
        "score_7": (50 / 71 + 81 / 127) / 2,
        "score_4": (50 / 71 + 100 / 127) / 2,
        "score_2": (50 / 71 + 114 / 127) / 2,
        "accuracy": (50 + 81) / 198,
    }
    assert icbhi_scores(counts, SPRSOUND_SEVEN) == pytest.approx(expected)


def test_folded_counts_are_those_of_the_folded_answers() -> None:
    truth, predicted = answers(7)
    confusion = confusion_matrix(truth, predicted, 7)
    folded = FOURTH[truth], FOURTH[predicted]
    merged = fold_confusion(confusion, SPRSOUND_SEVEN, FOUR_CLASS)
    np.testing.assert_array_equal(merged, reference(*folded))
    two = fold_confusion(confusion, SPRSOUND_SEVEN, TWO_CLASS)
    np.testing.assert_array_equal(two, reference(truth > 0, predicted > 0))
    seven, four = icbhi_scores(confusion, SPRSOUND_SEVEN), icbhi_scores(merged, FOUR_CLASS)
    assert four.items() - {("accuracy", four["accuracy"])} <= seven.items()
    recall = recall_score(truth, predicted, labels=range(1, 7), average="micro")
    assert seven["sensitivity_7"] == recall
    assert four["accuracy"] == accuracy_score(*folded)


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.float64])
def test_folded_counts_have_the_type_of_the_counts(dtype: torch.dtype) -> None:
    folded = fold_confusion(COUNTS.to(dtype), FOUR_CLASS, TWO_CLASS)
    assert folded.dtype == dtype
    assert folded.tolist() == [[60, 40], [14, 56]]


def test_the_missing_of_seven_classes_have_their_own_names() -> None:
    counts = torch.ones(7, 7, dtype=torch.int64)
    counts[[2, 5]] = 0
    assert missing_classes(counts, SPRSOUND_SEVEN) == ("Coarse Crackle", "Stridor")


def test_scores_over_what_is_there() -> None:
    no_wheeze, no_normal = COUNTS.clone(), COUNTS.clone()
    no_wheeze[2] = no_normal[0] = 0
    assert missing_classes(no_wheeze, FOUR_CLASS) == ("wheeze",)
    assert icbhi_scores(no_wheeze, FOUR_CLASS)["sensitivity_4"] == 34 / 50
    assert missing_classes(no_normal, FOUR_CLASS) == ("normal",)
    scores = icbhi_scores(no_normal, FOUR_CLASS)
    assert isnan(scores["specificity"])
    assert (scores["score_4"], scores["score_2"]) == (46 / 70, 56 / 70)
    only_normal = torch.tensor([[3, 1], [0, 0]])
    assert missing_classes(only_normal, TWO_CLASS) == ("abnormal",)
    scores = icbhi_scores(only_normal, TWO_CLASS)
    assert isnan(scores["sensitivity_2"])
    assert (scores["score_2"], scores["accuracy"]) == (0.75, 0.75)
    empty = torch.zeros(4, 4, dtype=torch.int64)
    assert missing_classes(empty, FOUR_CLASS) == ("normal", "crackle", "wheeze", "both")
    assert all(isnan(value) for value in icbhi_scores(empty, FOUR_CLASS).values())
    assert missing_classes(COUNTS, FOUR_CLASS) == ()


def test_scores_of_another_number_of_classes_are_refused() -> None:
    for shape in ((3, 3), (4, 2)):
        with pytest.raises(ValueError, match="4 classes normal, crackle"):
            icbhi_scores(torch.ones(shape, dtype=torch.int64), FOUR_CLASS)


def test_scores_of_a_label_set_of_ones_own() -> None:
    """Three classes, normal in the middle, that fold to two: by hand."""
    fold = ("abnormal", "normal", "abnormal")
    labels = LabelSet("stridor", ("wheeze", "clear", "stridor"), "clear", TWO_CLASS, fold)
    counts = torch.tensor([[5, 1, 2], [3, 10, 1], [1, 0, 4]])
    assert fold_confusion(counts, labels, TWO_CLASS).tolist() == [[10, 4], [1, 12]]
    expected = {
        "specificity": 10 / 14,
        "sensitivity_3": 9 / 13,
        "score_3": (10 / 14 + 9 / 13) / 2,
        "sensitivity_2": 12 / 13,
        "score_2": (10 / 14 + 12 / 13) / 2,
        "accuracy": 19 / 27,
    }
    assert icbhi_scores(counts, labels) == pytest.approx(expected)


def test_score_names_are_a_models_own_first() -> None:
    names = ["val/score_2", "val/loss", "val/score_12", "val/score_4", "val/score_x", "score"]
    assert score_names(names) == ["val/score_12", "val/score_4", "val/score_2"]


def test_a_cycle_of_several_segments_is_the_mean_of_all_its_chunks() -> None:
    chunks = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75], [0.0, 1.0], [0.25, 0.75]])
    owners = torch.tensor([1, 0, 1, 1, 1])  # cycle 1: two segments of two chunks, anywhere
    means = cycle_probabilities(chunks, owners, 2)
    assert means.dtype == torch.float64
    assert means.tolist() == [[1.0, 0.0], [0.25, 0.75]]


def test_a_cycle_without_a_chunk_is_refused() -> None:
    with pytest.raises(ValueError, match="2 of 4 have none: first 1"):
        cycle_probabilities(torch.ones(2, 4) / 4, torch.tensor([0, 2]), 4)


def test_an_ensemble_is_the_mean_over_its_members() -> None:
    members = torch.from_numpy(RNG.dirichlet(np.ones(4), size=(3, 10))).float()
    expected = members.numpy().astype(np.float64).sum(axis=0) / 3
    np.testing.assert_allclose(ensemble_probabilities(members), expected, rtol=1e-14)
    np.testing.assert_allclose(ensemble_probabilities(members.flip(0)), expected, rtol=1e-14)


@pytest.mark.parametrize("classes", [2, 4, 7])
@pytest.mark.parametrize("batch", [1, 7, 300])
def test_the_metric_over_batches_is_the_function_over_all(batch: int, classes: int) -> None:
    probabilities = torch.from_numpy(RNG.dirichlet(np.ones(classes), size=300)).float()
    owners = torch.from_numpy(RNG.permutation(np.arange(300) % 40))
    truth = torch.from_numpy(RNG.integers(classes, size=40))
    labels = label_set(classes)
    metric = CycleScores(truth, labels)
    for _ in range(2):  # a second epoch starts from nothing
        for start in range(0, 300, batch):
            metric.update(probabilities[start : start + batch], owners[start : start + batch])
        means = cycle_probabilities(probabilities, owners, 40)
        confusion = confusion_matrix(truth, means.argmax(-1), classes)
        assert metric.compute() == icbhi_scores(confusion, labels)
        metric.reset()
    expected = [probabilities[owners == cycle].double().numpy().mean(0) for cycle in range(40)]
    np.testing.assert_allclose(means, expected, rtol=1e-14)


def test_two_processes_add_up() -> None:
    truth = torch.tensor([0, 1, 2])
    halves = [CycleScores(truth, FOUR_CLASS), CycleScores(truth, FOUR_CLASS)]
    chunks, owners = torch.eye(4)[[0, 1, 3, 2, 2]], torch.tensor([0, 1, 1, 2, 2])
    halves[0].update(chunks[:2], owners[:2])
    halves[1].update(chunks[2:], owners[2:])
    with pytest.raises(ValueError, match="1 of 3 have none: first 2"):
        halves[0].compute()
    halves[0].merge_state(halves[1])
    assert halves[0].sums.tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 2, 0]]
    assert halves[0].compute()["accuracy"] == 1  # cycle 1 is a tie: the first class
