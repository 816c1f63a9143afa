"""The classes of a cycle. Their order is the order of every array, table and file of this project."""

LABELS = ("normal", "crackle", "wheeze", "both")
TWO_CLASS_LABELS = ("normal", "abnormal")


def labels_of(classes: int) -> tuple[str, ...]:
    """The classes of a task with `classes` of them. Raises ValueError for any number but 4 and 2."""
    for labels in (LABELS, TWO_CLASS_LABELS):
        if len(labels) == classes:
            return labels
    raise ValueError(f"Expected 4 or 2 classes, but got {classes}")
