"""Label sets: the classes of cycles, in the order that every array, table and file has."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LabelSet:
    """Classes in their order, the normal one, and the coarser set that they fold (merge) into.

    `coarser_labels` has, for each of `labels`, its label in `coarser`. A model is scored on its own
    set and on all that this folds to: one model of seven classes has `score_7`, `score_4` and
    `score_2`.
    """

    name: str
    labels: tuple[str, ...]
    normal: str = "normal"
    coarser: "LabelSet | None" = None
    coarser_labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for a normal label or a fold that does not fit the labels."""
        if self.normal not in self.labels:
            raise ValueError(f"{self.name}: normal label {self.normal!r} is not in {self.labels}")
        if self.coarser is None:
            return
        is_onto = set(self.coarser_labels) == set(self.coarser.labels)
        if not is_onto or len(self.coarser_labels) != len(self.labels):
            raise ValueError(
                f"{self.name}: expected one of {self.coarser.labels} for each of {self.labels}, "
                f"and each at least once, but got {self.coarser_labels}"
            )
        fold = dict(zip(self.labels, self.coarser_labels, strict=True))
        if [x for x in self.labels if fold[x] == self.coarser.normal] != [self.normal]:
            raise ValueError(
                f"{self.name}: expected that {self.normal} alone folds to {self.coarser.normal}, "
                f"but got {fold}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def normal_index(self) -> int:
        return self.labels.index(self.normal)

    @property
    def chain(self) -> "tuple[LabelSet, ...]":
        """This set and all that it folds to, the finest first."""
        return (self, *self.coarser.chain) if self.coarser else (self,)

    def fold_to(self, other: "LabelSet") -> tuple[int, ...]:
        """Return each label's index in `other`. Raises ValueError unless this set folds to it."""
        if other == self:
            return tuple(range(len(self)))
        if self.coarser is None:
            raise ValueError(f"The label set {self.name} does not fold to {other.name}")
        coarser_fold = self.coarser.fold_to(other)
        return tuple(coarser_fold[self.coarser.labels.index(x)] for x in self.coarser_labels)


TWO_CLASS = LabelSet("two_class", ("normal", "abnormal"))
FOUR_CLASS = LabelSet(
    "four_class",
    ("normal", "crackle", "wheeze", "both"),
    coarser=TWO_CLASS,
    coarser_labels=("normal", "abnormal", "abnormal", "abnormal"),
)
# SPRSound's event types, as its annotations write them.
SPRSOUND_SEVEN = LabelSet(
    "sprsound_seven",
    ("Normal", "Fine Crackle", "Coarse Crackle", "Wheeze", "Rhonchi", "Stridor", "Wheeze+Crackle"),
    normal="Normal",
    coarser=FOUR_CLASS,
    coarser_labels=("normal", "crackle", "crackle", "wheeze", "wheeze", "wheeze", "both"),
)
# Finest first: a table of predictions belongs to the first set whose columns it has.
LABEL_SETS: list[LabelSet] = [SPRSOUND_SEVEN, FOUR_CLASS, TWO_CLASS]


def register_label_set(labels: LabelSet) -> None:
    """Add a label set, so that stored predictions with its columns can be read."""
    if labels not in LABEL_SETS:
        LABEL_SETS.insert(0, labels)


def own_label_set(labels: Sequence[str]) -> LabelSet:
    """Return the label set of these classes, the normal one first.

    The known set of these classes, if there is one: ICBHI's four fold to two. Raises ValueError if
    they are no classes, or those of a known set in another order.
    """
    for known in LABEL_SETS:
        if known.labels != tuple(labels) and set(known.labels) == set(labels):
            order = ", ".join(known.labels)
            raise ValueError(f"expected these classes as {order}, but got {', '.join(labels)}")
        if known.labels == tuple(labels):
            return known
    if len(set(labels)) < max(2, len(labels)) or any(
        not one or one != one.strip() for one in labels
    ):
        raise ValueError(f"expected two or more different classes, but got {list(labels)}")
    if len(labels) == 2:
        return LabelSet("own", tuple(labels), labels[0])
    fold = ("normal", *["abnormal"] * (len(labels) - 1))
    return LabelSet("own", tuple(labels), labels[0], TWO_CLASS, fold)


def label_set(key: str | int) -> LabelSet:
    """Return the label set of this name, or the first of this size. Raises ValueError."""
    for labels in LABEL_SETS:
        if key in (labels.name, len(labels)):
            return labels
    names = ", ".join(f"{labels.name} ({len(labels)})" for labels in LABEL_SETS)
    raise ValueError(f"Expected a label set of {names}, but got {key!r}")
