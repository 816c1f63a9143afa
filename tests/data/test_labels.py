"""Label sets: their folds by hand, and the sets that are refused."""

import pytest

from lungsound.data.labels import (
    FOUR_CLASS,
    SPRSOUND_SEVEN,
    TWO_CLASS,
    LabelSet,
    label_set,
    own_label_set,
)


def test_folds_by_hand() -> None:
    assert SPRSOUND_SEVEN.fold_to(FOUR_CLASS) == (0, 1, 1, 2, 2, 2, 3)
    assert SPRSOUND_SEVEN.fold_to(TWO_CLASS) == (0, 1, 1, 1, 1, 1, 1)
    assert FOUR_CLASS.fold_to(FOUR_CLASS) == (0, 1, 2, 3)
    assert SPRSOUND_SEVEN.chain == (SPRSOUND_SEVEN, FOUR_CLASS, TWO_CLASS)


def test_coarse_labels_do_not_fold_to_finer_ones() -> None:
    with pytest.raises(ValueError, match="two_class does not fold to four_class"):
        TWO_CLASS.fold_to(FOUR_CLASS)


@pytest.mark.parametrize(
    ("key", "expected"), [(7, SPRSOUND_SEVEN), ("four_class", FOUR_CLASS), (2, TWO_CLASS)]
)
def test_label_sets_are_found_by_name_and_size(key: str | int, expected: LabelSet) -> None:
    assert label_set(key) == expected


def test_unknown_label_sets_are_named() -> None:
    with pytest.raises(ValueError, match=r"sprsound_seven \(7\), four_class \(4\).* but got 3"):
        label_set(3)


@pytest.mark.parametrize(
    ("labels", "fold", "message"),
    [
        (("crackle", "wheeze"), ("abnormal", "abnormal"), "normal label 'normal' is not in"),
        (("normal", "crackle"), ("normal",), "for each of"),
        (("normal", "crackle"), ("normal", "wheeze"), "for each of"),
        (("normal", "crackle", "cough"), ("normal", "abnormal", "normal"), "normal alone"),
        (("normal", "crackle"), ("abnormal", "normal"), "normal alone"),
    ],
)
def test_folds_that_do_not_fit_are_refused(
    labels: tuple[str, ...], fold: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LabelSet("mine", labels, "normal", TWO_CLASS, fold)


def test_own_classes_fold_to_normal_and_abnormal() -> None:
    labels = own_label_set(["calm", "fine", "coarse"])
    assert (labels.labels, labels.normal) == (("calm", "fine", "coarse"), "calm")
    assert labels.fold_to(TWO_CLASS) == (0, 1, 1)
    assert own_label_set(["calm", "loud"]).chain == (own_label_set(["calm", "loud"]),)


@pytest.mark.parametrize("known", [FOUR_CLASS, TWO_CLASS, SPRSOUND_SEVEN])
def test_known_classes_keep_their_folds(known: LabelSet) -> None:
    assert own_label_set(list(known.labels)) is known
    with pytest.raises(ValueError, match=f"expected these classes as {known.labels[0]}, "):
        own_label_set(known.labels[::-1])


@pytest.mark.parametrize("labels", [[], ["calm"], ["calm", "calm"], ["calm", ""], ["calm", " b"]])
def test_labels_that_are_no_classes_are_refused(labels: list[str]) -> None:
    with pytest.raises(ValueError, match="expected two or more different classes"):
        own_label_set(labels)
