"""The classes of a cycle. Their order is the order of every array, table and file of this project."""

LABELS = ("normal", "crackle", "wheeze", "both")
TWO_CLASS_LABELS = ("normal", "abnormal")
# SPRSound's event types, as its annotations write them, and the label of each.
SPRSOUND_TO_LABEL = {
    "Normal": "normal",
    "Fine Crackle": "crackle",
    "Coarse Crackle": "crackle",
    "Wheeze": "wheeze",
    "Rhonchi": "wheeze",
    "Stridor": "wheeze",
    "Wheeze+Crackle": "both",
}
SPRSOUND_LABELS = tuple(SPRSOUND_TO_LABEL)


def class_labels(classes: int) -> tuple[str, ...]:
    """The classes of a task with `classes` of them. Raises ValueError for any number but 7, 4 and
    2.
    """
    for labels in (SPRSOUND_LABELS, LABELS, TWO_CLASS_LABELS):
        if len(labels) == classes:
            return labels
    raise ValueError(f"Expected 7, 4 or 2 classes, but got {classes}")
