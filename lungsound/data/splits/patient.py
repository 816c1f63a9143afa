"""Splits by patient, and the validation set that the databases' own splits lack."""

import warnings
from collections.abc import Iterable

import numpy as np
import pandas as pd

from lungsound.errors import DataError

# One of these folds is validation: 20 % of what is not test, as in the paper's protocol.
VALIDATION_FOLDS = 5


def patient_split(
    cycles: pd.DataFrame, seed: int, folds: int, fold: int
) -> tuple[pd.Series, tuple[str, ...]]:
    """Split by patient: fold `fold` of `folds` is test, a fifth of the other patients is val.

    Class shares are as even as whole patients allow (scikit-learn's StratifiedGroupKFold). `seed`
    only shuffles patients whose classes are equally uneven: another fold changes more than another
    seed. The order of the rows does not matter. Raises DataError if there are fewer patients than
    folds, or patients are unknown.
    """
    if has_unknown_patients(cycles):
        raise DataError(
            "split=patient: expected the patient of each recording, but patients are unknown: add "
            "the column `patient` to data.table, or take another split"
        )
    sets = pd.Series("train", index=cycles.index, name="set", dtype="str")
    sets.iloc[_patient_fold(cycles, folds, fold, seed)] = "test"
    return hold_out_validation(cycles, sets, seed, (), "split=patient"), ()


def has_unknown_patients(cycles: pd.DataFrame) -> bool:
    """Return whether a cycle's patient is unknown."""
    return bool((cycles["patient"] == "").any())


def hold_out_validation(
    cycles: pd.DataFrame, sets: pd.Series, seed: int, excluded_patients: Iterable[str], source: str
) -> pd.Series:
    """Return `sets` with a fifth of the training patients moved to val.

    None of them is in `excluded_patients`. `source` names the protocol that made the sets, for the
    DataError if there are too few patients.
    """
    is_candidate = (sets == "train") & ~cycles["patient"].isin(list(excluded_patients))
    candidates = np.flatnonzero(is_candidate)
    try:
        chosen = _patient_fold(cycles.iloc[candidates], VALIDATION_FOLDS, 0, seed)
    except DataError as error:
        raise DataError(
            f"No validation set can be cut from training by patient. {error} ({source})"
        ) from error
    sets = sets.copy()
    sets.iloc[candidates[chosen]] = "val"
    return sets


def _patient_fold(cycles: pd.DataFrame, folds: int, fold: int, seed: int) -> np.ndarray:
    """Return the row numbers of the cycles in one fold, stratified by the finest classes."""
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import

    patients = cycles["patient"].nunique()
    if patients < folds:
        raise DataError(
            f"Expected at least {folds} patients for {folds} folds by patient, but got {patients}"
        )
    finest_label = cycles["event_type"].where(cycles["event_type"] != "", cycles["label"])
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # `check_classes` reports classes that a set lacks.
        warnings.filterwarnings("ignore", message="The least populated class")
        try:
            parts = list(splitter.split(cycles, finest_label, cycles["patient"]))
        except ValueError as error:
            raise DataError(
                f"No {folds} folds by patient can be made of {len(cycles)} cycles: {error}"
            ) from error
    return np.asarray(parts[fold][1])
