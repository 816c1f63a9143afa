"""Properties of segments, chunks, VTLP, splits and averages for any input, against formulas of
their own.
"""

import math
import tempfile
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from lungsound.data.cycles import cycle_key
from lungsound.data.labels import FOUR_CLASS
from lungsound.data.splits.patient import patient_split
from lungsound.data.splits.random import random_split
from lungsound.scoring.probabilities import cycle_probabilities, ensemble_probabilities
from lungsound.signal.chunks import frames_per_chunk, roll_and_chunk, split_into_chunks
from lungsound.signal.segments import cut_segment, segment_count
from lungsound.signal.vtlp import warp

set_hypothesis_home_dir(
    tempfile.gettempdir()
)  # what it caches does not belong into the project's folder
NYQUIST = 11_000.0


def deterministic_settings(examples: int) -> Callable[[Any], Any]:
    """The same examples every time, however long one takes; none is kept, and a failing one is told
    as it is.
    """
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
    )


# --- segments and padding ---


@deterministic_settings(100)
@given(
    samples=st.integers(1, 400),
    length=st.integers(1, 150),
    padding=st.sampled_from(["sample", "zero"]),
)
def test_segments_put_together_are_the_cycle_and_then_its_padding(
    samples: int, length: int, padding: str
) -> None:
    cycle = np.arange(1, samples + 1, dtype=np.float32)
    segments = segment_count(samples, length)
    assert (segments - 1) * length < samples <= segments * length
    joined = np.concatenate(
        [cut_segment(cycle, index, length, padding) for index in range(segments)]
    )
    filling = joined[samples:]
    expected = [
        cycle[place % samples] if padding == "sample" else 0 for place in range(len(filling))
    ]
    assert joined[:samples].tolist() == cycle.tolist() and filling.tolist() == expected


# --- chunks ---


@deterministic_settings(100)
@given(frames=st.integers(1, 60), chunks=st.integers(1, 60), roll=st.integers(-200, 200))
def test_chunks_are_equal_parts_of_the_rolled_picture(frames: int, chunks: int, roll: int) -> None:
    size = frames_per_chunk(frames, chunks)
    assert 0 <= frames - chunks * size < chunks
    if size == 0:
        return
    picture = torch.arange(2 * frames).reshape(1, 2, frames)
    rolled = np.roll(picture[0].numpy(), roll, axis=-1)
    for chunk in range(chunks):
        part = roll_and_chunk(picture, torch.tensor([roll]), torch.tensor([chunk]), chunks)[0]
        assert part.tolist() == rolled[:, chunk * size : (chunk + 1) * size].tolist()
    joined = torch.cat(list(split_into_chunks(picture, chunks)[0]), dim=-1)
    assert torch.equal(joined, picture[0, :, : chunks * size])


# --- VTLP ---

alphas, edges = st.floats(0.9, 1.1), st.floats(3200.0, 3800.0)


@deterministic_settings(150)
@given(alpha=alphas, f_hi=edges, frequency=st.floats(0.0, NYQUIST))
def test_the_warp_is_jaitly_and_hintons(alpha: float, f_hi: float, frequency: float) -> None:
    image = f_hi * min(alpha, 1)
    if frequency <= image / alpha:
        expected = frequency * alpha
    else:
        expected = NYQUIST - (NYQUIST - image) / (NYQUIST - image / alpha) * (NYQUIST - frequency)
    assert math.isclose(warped([frequency], alpha, f_hi)[0], expected, rel_tol=1e-12, abs_tol=1e-9)


@deterministic_settings(100)
@given(alpha=alphas, f_hi=edges)
def test_the_warp_rises_has_no_jump_and_keeps_its_ends(alpha: float, f_hi: float) -> None:
    boundary = f_hi * min(alpha, 1) / alpha
    grid = np.sort(
        np.append(np.linspace(0, NYQUIST, 500), [boundary, np.nextafter(boundary, NYQUIST)])
    )
    image = warped(grid, alpha, f_hi)
    steps = np.diff(image)
    assert (steps > -1e-9).all() and (
        steps[np.diff(grid) > 1e-6] > 0
    ).all()  # one rounding, where the lines meet
    # A straight line's slope bounds every step, also the one over the boundary.
    steepest = max(alpha, (NYQUIST - f_hi * min(alpha, 1)) / (NYQUIST - boundary))
    assert (steps <= steepest * np.diff(grid) + 1e-9).all()
    assert image[0] == 0 and math.isclose(image[-1], NYQUIST, rel_tol=1e-12)


@deterministic_settings(50)
@given(f_hi=edges, frequencies=st.lists(st.floats(0.0, NYQUIST, width=32), min_size=1, max_size=20))
def test_a_warp_by_one_changes_no_bit(f_hi: float, frequencies: list[float]) -> None:
    corners = torch.tensor(frequencies, dtype=torch.float32)
    assert torch.equal(warp(corners, torch.tensor(1.0), torch.tensor(f_hi), NYQUIST), corners)


def warped(frequencies: Any, alpha: float, f_hi: float) -> np.ndarray:
    values = (
        torch.as_tensor(np.asarray(value), dtype=torch.float64)
        for value in (frequencies, alpha, f_hi)
    )
    return warp(*values, NYQUIST).numpy()


# --- splits ---


@st.composite
def cycle_tables(draw: st.DrawFn, everyone: tuple[int, ...] = ()) -> pd.DataFrame:
    """Cycles of some of twelve patients, of any classes; `everyone` is there for certain."""
    patients = [*everyone, *draw(st.lists(st.integers(1, 12), min_size=1, max_size=90))]
    names = st.sampled_from(FOUR_CLASS.labels)
    labels = draw(st.lists(names, min_size=len(patients), max_size=len(patients)))
    recordings = [f"{patient}_1b1_Al_sc_Meditron" for patient in patients]
    table = pd.DataFrame(
        {"patient": [str(patient) for patient in patients], "label": labels, "event_type": ""}
    )
    table["key"] = np.array(
        [cycle_key(name, line) for line, name in enumerate(recordings)], dtype="uint64"
    )
    return table


@deterministic_settings(40)
@given(
    cycles=cycle_tables(), seed=st.integers(0, 2**32 - 1), order=st.randoms(use_true_random=False)
)
def test_a_random_split_has_the_papers_shares_of_each_class_in_any_order(
    cycles: pd.DataFrame, seed: int, order: Any
) -> None:
    sets, _ = random_split(cycles, seed)
    assert sets.index.equals(cycles.index) and set(sets) <= {
        "train",
        "val",
        "test",
    }  # each cycle in one
    for label, rows in sets.groupby(cycles["label"]):
        counts, number = Counter(rows), int((cycles["label"] == label).sum())
        assert abs(counts["test"] - 0.2 * number) <= 0.5
        assert abs(counts["val"] - 0.2 * (number - counts["test"])) <= 0.5
    shuffled = cycles.sample(frac=1, random_state=order.randrange(2**32))
    assert random_split(shuffled, seed)[0].sort_index().equals(sets)


@deterministic_settings(8)
@given(
    cycles=cycle_tables(everyone=5 * tuple(range(1, 13))),
    seed=st.integers(0, 2**32 - 1),
    folds=st.integers(2, 4),
    order=st.randoms(use_true_random=False),
)
def test_patients_are_in_one_set_and_in_test_once_over_the_folds(
    cycles: pd.DataFrame, seed: int, folds: int, order: Any
) -> None:
    patients = set(cycles["patient"])
    tested: Counter[str] = Counter()
    for fold in range(folds):
        sets, _ = patient_split(cycles, seed, folds, fold)
        by_set = [set(cycles["patient"][sets == name]) for name in ("train", "val", "test")]
        assert sum(map(len, by_set)) == len(patients) and set().union(*by_set) == patients
        tested.update(by_set[2])
        shuffled = cycles.sample(frac=1, random_state=order.randrange(2**32))
        assert patient_split(shuffled, seed, folds, fold)[0].sort_index().equals(sets)
    assert tested == Counter(patients)


# --- probability averages ---


@st.composite
def chunk_probabilities(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [n, K] of chunks and whose chunk each is [n], each cycle with one at least."""
    classes, cycles = draw(st.sampled_from([2, 4, 7])), draw(st.integers(1, 8))
    owner = list(range(cycles)) + draw(st.lists(st.integers(0, cycles - 1), max_size=20))
    logits = np.random.default_rng(draw(st.integers(0, 2**32))).normal(0, 3, (len(owner), classes))
    powers = np.exp(logits)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32), np.array(
        draw(st.permutations(owner))
    )


@deterministic_settings(80)
@given(chunks=chunk_probabilities(), order=st.randoms(use_true_random=False))
def test_a_cycles_probabilities_are_the_mean_of_its_chunks(
    chunks: tuple[np.ndarray, np.ndarray], order: Any
) -> None:
    probabilities, owner = chunks
    cycles = int(owner.max()) + 1
    means = averaged(probabilities, owner, cycles)
    expected = np.stack(
        [probabilities[owner == cycle].astype(np.float64).mean(axis=0) for cycle in range(cycles)]
    )
    np.testing.assert_allclose(means, expected, rtol=1e-14)
    for cycle in range(cycles):  # convexity: between the least and the most of its chunks
        own = probabilities[owner == cycle].astype(np.float64)
        assert (own.min(axis=0) <= means[cycle] * (1 + 1e-15)).all()
        assert (means[cycle] <= own.max(axis=0) * (1 + 1e-15)).all()
    np.testing.assert_allclose(means.sum(axis=1), 1, atol=1e-6)
    places = order.sample(range(len(owner)), len(owner))
    np.testing.assert_allclose(
        averaged(probabilities[places], owner[places], cycles), means, rtol=1e-14
    )


@deterministic_settings(50)
@given(members=st.integers(1, 10), cycles=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_an_ensembles_probabilities_are_the_mean_of_its_members(
    members: int, cycles: int, seed: int
) -> None:
    probabilities = (
        np.random.default_rng(seed).dirichlet(np.ones(4), (members, cycles)).astype(np.float32)
    )
    mean = ensemble_probabilities(torch.from_numpy(probabilities)).numpy()
    np.testing.assert_allclose(
        mean, probabilities.astype(np.float64).sum(axis=0) / members, rtol=1e-14
    )
    again = ensemble_probabilities(torch.from_numpy(probabilities[::-1].copy())).numpy()
    np.testing.assert_allclose(mean, again, rtol=1e-14)


def averaged(probabilities: np.ndarray, owner: np.ndarray, cycles: int) -> np.ndarray:
    return cycle_probabilities(
        torch.from_numpy(probabilities), torch.from_numpy(owner), cycles
    ).numpy()
