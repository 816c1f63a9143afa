"""The classes of a cycle. Their order is the order of every array, table and file of this project."""

LABELS = ("normal", "crackle", "wheeze", "both")
TWO_CLASS_LABELS = ("normal", "abnormal")
