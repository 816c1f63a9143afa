"""The checks that every split must pass before it is trained on."""

from collections.abc import Sequence

import pandas as pd

from lungsound.errors import DataError

SET_NAMES = ("train", "val", "test")


def check_classes(classes: pd.Series, sets: pd.Series, labels: Sequence[str]) -> tuple[str, ...]:
    """Return notes on the classes, of `labels`, that a set or the whole split lacks.

    `classes` and `sets` have the class and the set ("" for none) of every cycle. Raises DataError
    if a set is empty, or if a class that occurs in the split has no training cycle.
    """
    used = classes[sets != ""]
    present = [label for label in labels if label in set(used)]
    counts = pd.crosstab(used, sets)
    counts = counts.reindex(index=present, columns=list(SET_NAMES), fill_value=0)
    problems = [f"the {name} set is empty" for name in SET_NAMES if not counts[name].sum()]
    for label in counts.index[counts["train"] == 0]:
        row = counts.loc[label]
        by_set = ", ".join(f"{row[name]} in {name}" for name in SET_NAMES)
        total = (used == label).sum()
        problems.append(f"class {label} has no training cycle ({by_set}; {total} in all)")
    if problems:
        raise DataError(
            "This split cannot be trained on; take another split.seed, split.fold, split.file or "
            "protocol:",
            tuple(problems),
        )
    absent = [
        f"class {label} has no cycle in this split: it is not learnt, and no score counts it"
        for label in labels
        if label not in present
    ]
    return tuple(absent) + tuple(
        f"class {label} has no {name} cycle: scores of {name} are over the other classes"
        for name in ("val", "test")
        for label in counts.index[counts[name] == 0]
    )
