"""Label sets: the classes of a cycle. Their order is the order of every array, table and file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LabelSet:
    """Classes in their order, the one that is normal, and the coarser set that they fold to.

    `coarser_labels` has the label in `coarser` of each of `labels`. Every set that a set folds to
    is scored with it: `score_7`, `score_4` and `score_2` come from one model of seven classes.
    """

    name: str
    labels: tuple[str, ...]
    normal: str = "normal"
    coarser: "LabelSet | None" = None
    coarser_labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for a normal label or a fold that does not fit the labels."""
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
        """This set and those that it folds to, the finest first."""
        return (self, *self.coarser.chain) if self.coarser else (self,)

    def fold_to(self, other: "LabelSet") -> tuple[int, ...]:
        """The index in `other` of each label. Raises ValueError if this set does not fold to it."""
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
# Finest first: stored predictions are of the first set whose columns they have.
LABEL_SETS: list[LabelSet] = [SPRSOUND_SEVEN, FOUR_CLASS, TWO_CLASS]


def register_label_set(labels: LabelSet) -> None:
    """Make a label set available to everything that reads stored predictions."""
    if labels not in LABEL_SETS:
        LABEL_SETS.insert(0, labels)


def label_set(key: str | int) -> LabelSet:
    """The label set of this name, or the first of this number of classes. Raises ValueError."""
    for labels in LABEL_SETS:
        if key in (labels.name, len(labels)):
            return labels
    known = ", ".join(f"{labels.name} ({len(labels)})" for labels in LABEL_SETS)
    raise ValueError(f"Expected a label set of {known}, but got {key!r}")
