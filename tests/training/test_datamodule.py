"""What training sees in an epoch, item by item, against a plan by plain loops and pandas."""

import dataclasses
import pickle
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from support.runs import compose_settings

from lungsound.data.store import WaveformStore
from lungsound.errors import TrainingError
from lungsound.runs.build import build_components
from lungsound.runs.inputs import build_database, build_inputs
from lungsound.signal.copies import draw_rate, draw_warp
from lungsound.signal.features import Features
from lungsound.signal.segments import SegmentSpec
from lungsound.signal.stretch import time_stretch
from lungsound.training import log_mels
from lungsound.training.batches import Augmentation, Batch, make_batches
from lungsound.training.datamodule import CyclesDataModule

LENGTH = 500  # samples of a segment
VTLP = {"normal": 1, "crackle": 3, "wheeze": 4, "both": 7}
RATES, ALPHAS, F_HIS = (0.9, 1.1), (0.9, 1.1), (3200.0, 3800.0)
SEED = 7
SMALL_DEMO = (
    *("data.demo_patients=8", "data.demo_cycles=96", "segment=5s"),
    *("features.sample_rate=10000", "features.f_max=5000"),
)
Floats = NDArray[np.float32]
Made = Callable[..., CyclesDataModule]


def table() -> pd.DataFrame:
    """Cycles of all classes in all sets, side by side, of less than one to some segments."""
    draws = np.random.default_rng(0)
    labels = draws.permutation(np.repeat(list(VTLP), [11, 6, 6, 7]))
    lengths = draws.permutation([499, 500, 501, 999, 1000, 1001, *draws.integers(150, 1700, 24)])
    ends = 100 + np.cumsum(lengths)
    return pd.DataFrame({
        "label": labels,
        "set": draws.permutation(np.repeat(["train", "val", "test"], [18, 6, 6])),
        "start_sample": ends - lengths,
        "end_sample": ends,
        "key": draws.integers(2**64, size=30, dtype=np.uint64),
        "target": [list(VTLP).index(label) for label in labels],
    })  # fmt: skip


CYCLES = table()
# Every sample has a value of its own: a waveform says by itself where it is from.
SAMPLES = np.arange(1, CYCLES["end_sample"].max() + 100, dtype=np.float32)


@pytest.fixture
def make_datamodule(tmp_path: Path) -> Made:
    """`make_datamodule(...)`: a datamodule of CYCLES with `samples` in its store."""

    def make(
        stretch: str = "none", redraw: str = "once", padding: str = "sample", chunks: int = 2,
        frames: int = 10**9, roll: bool = True, seed: int = SEED, batch_size: int = 8,
        workers: int = 0, cache: str = "auto", samples: Floats = SAMPLES, **more: Any,
    ) -> CyclesDataModule:  # fmt: skip
        (tmp_path / "waveforms.f32").write_bytes(samples.tobytes())
        store = WaveformStore(tmp_path, "marked", 22_000, {})
        augmentation = Augmentation(stretch, RATES, VTLP, ALPHAS, F_HIS, redraw, roll, **more)
        cutting = SegmentSpec(LENGTH, padding, frames, chunks)
        settings = (batch_size, workers, seed, cache)
        return CyclesDataModule(CYCLES, store, cutting, augmentation, *settings)

    return make


def of_set(name: str) -> pd.DataFrame:
    return CYCLES[CYCLES["set"] == name]


def epoch_of(datamodule: CyclesDataModule, epoch: int = 1) -> list[Batch]:
    batches = datamodule.training_batches(epoch)
    return [batches[number] for number in range(len(batches))]


def rows(batches: list[Batch]) -> list[dict[str, Any]]:
    """The items of batches, one by one."""
    items = []
    for batch in batches:
        for values in zip(*(values.numpy() for values in batch.values()), strict=True):
            items.append(dict(zip(batch, values, strict=True)))
    return items


def item_rows(datamodule: CyclesDataModule, epoch: int = 1) -> list[dict[str, Any]]:
    return rows(epoch_of(datamodule, epoch))


def identity(item: dict[str, Any]) -> tuple[Any, ...]:
    """All that tells an item from another one, but its roll; F_hi only if it is warped."""
    alpha, f_hi = float(item["alpha"]), float(item["f_hi"])
    numbers = (int(item[name]) for name in ("chunk", "target", "cycle", "copy", "segment"))
    return item["waveforms"].tobytes(), alpha, f_hi if alpha != 1 else 0.0, *numbers


def completed(waveform: Floats, start: int, padding: str, length: int = LENGTH) -> Floats:
    """The segment from `start`; after the waveform's end silence, or the waveform again."""
    if padding == "sample":
        return waveform[np.arange(start, start + length) % len(waveform)]
    return np.pad(waveform, (0, length))[start : start + length]


def segments_of(name: str, padding: str) -> list[tuple[int, int, Floats]]:
    """(row in the set, target, waveform) of every segment of the originals of a set."""
    segments = []
    for row, cycle in enumerate(of_set(name).itertuples()):
        waveform = SAMPLES[cycle.start_sample : cycle.end_sample]
        for start in range(0, len(waveform), LENGTH):
            segments.append((row, cycle.target, completed(waveform, start, padding)))
    return segments


def planned(stretch: str, padding: str, chunks: int, epoch: int) -> Counter[tuple[Any, ...]]:
    """How often an epoch should have each item; `epoch`: that of the copies' draws."""
    items: Counter[tuple[Any, ...]] = Counter()
    for row, cycle in enumerate(of_set("train").itertuples()):
        waveforms = [SAMPLES[cycle.start_sample : cycle.end_sample]]
        if stretch != "none" and cycle.label in ("wheeze", "both"):
            rate = draw_rate(SEED, cycle.key, epoch, RATES)
            waveforms.append(time_stretch(waveforms[0], rate, stretch))
        copies = product(waveforms, range(VTLP[cycle.label] + 1))
        for copy, (waveform, warped) in enumerate(copies):
            warp = draw_warp(SEED, cycle.key, copy, epoch, ALPHAS, F_HIS) if warped else (1.0, 0.0)
            for start in range(0, len(waveform), LENGTH):
                segment = completed(waveform, start, padding)
                for chunk in range(chunks):
                    numbers = (chunk, cycle.target, row, copy, start // LENGTH)
                    items[segment.tobytes(), *np.float32(warp).tolist(), *numbers] += 1
    return items


# --- every item once ---


@pytest.mark.parametrize("stretch", ["none", "resample", "phase_vocoder"])
@pytest.mark.parametrize(
    ("padding", "chunks", "redraw"), [("sample", 2, "once"), ("zero", 1, "epoch")]
)
def test_an_epoch_has_every_item_of_the_plan_exactly_once(
    make_datamodule: Made, stretch: str, padding: str, chunks: int, redraw: str
) -> None:
    datamodule = make_datamodule(stretch, redraw, padding, chunks)
    for epoch in (1, 2):
        expected = planned(stretch, padding, chunks, epoch if redraw == "epoch" else 0)
        assert set(expected.values()) == {1}
        assert Counter(map(identity, item_rows(datamodule, epoch))) == expected


@pytest.mark.parametrize("batch_size", [2, 3, 32])
def test_batches_are_full_and_none_has_a_lone_item(batch_size: int) -> None:
    for number in range(101):
        items = np.arange(3 * number).reshape(number, 3)
        batches = make_batches(items, batch_size)
        np.testing.assert_array_equal(np.concatenate(batches), items)
        sizes = [len(batch) for batch in batches]
        assert all(size == batch_size for size in sizes[:-1])
        assert sizes[-1] <= batch_size + 1
        if number > 1:
            assert min(sizes) > 1


def test_batches_of_an_epoch_have_the_size_asked_for(make_datamodule: Made) -> None:
    batches = epoch_of(make_datamodule(batch_size=32))
    assert {len(batch["target"]) for batch in batches[:-1]} == {32}
    names = {"waveforms", "alpha", "f_hi", "roll", "chunk", "target", "cycle", "copy", "segment"}
    assert batches[-1].keys() == names
    assert {len(values) for values in batches[-1].values()} == {len(batches[-1]["target"])}


# --- nothing leaves its set ---


@pytest.mark.parametrize("stretch", ["none", "resample", "phase_vocoder"])
@pytest.mark.parametrize("redraw", ["once", "epoch"])
def test_training_never_touches_a_sample_of_another_set(
    make_datamodule: Made, stretch: str, redraw: str
) -> None:
    allowed = np.zeros(len(SAMPLES), dtype=bool)
    for cycle in of_set("train").itertuples():
        allowed[cycle.start_sample : cycle.end_sample] = True
    # One sample of another set would make a stretched waveform NaN, or stand in a segment as NaN.
    samples = np.where(allowed, SAMPLES, np.float32(np.nan))
    datamodule = make_datamodule(stretch, redraw, samples=samples)
    assert all(batch["waveforms"].isfinite().all() for batch in epoch_of(datamodule))


@pytest.mark.parametrize("padding", ["sample", "zero"])
@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_evaluation_has_the_originals_of_its_set_in_order_and_nothing_else(
    make_datamodule: Made, name: str, padding: str
) -> None:
    batches = list(make_datamodule("phase_vocoder", padding=padding).eval_dataloader(name))
    assert all(batch.keys() == {"waveforms", "target", "cycle"} for batch in batches)
    found, expected = rows(batches), segments_of(name, padding)
    for item, (row, target, waveform) in zip(found, expected, strict=True):
        assert (item["cycle"], item["target"]) == (row, target)
        np.testing.assert_array_equal(item["waveforms"], waveform)


# --- draws ---


def test_the_roll_is_drawn_anew_every_epoch_and_shared_by_the_chunks_of_a_segment(
    make_datamodule: Made,
) -> None:
    datamodule = make_datamodule(chunks=3)  # of 10^9 frames: two rolls are never equal by chance
    rolls: list[dict[tuple[Any, ...], set[int]]] = []
    for epoch in (1, 2):
        rolls.append({})
        for item in item_rows(datamodule, epoch):
            rolls[-1].setdefault(identity(item)[:3], set()).add(int(item["roll"]))
    assert rolls[0].keys() == rolls[1].keys()
    drawn = [roll for of_epoch in rolls for roll in of_epoch.values()]
    assert {len(roll) for roll in drawn} == {1}
    assert len(set.union(*drawn)) == len(drawn)


def test_rolls_cover_all_frames_or_are_off(make_datamodule: Made) -> None:
    for roll, expected in ((True, {0, 1, 2, 3, 4}), (False, {0})):
        items = item_rows(make_datamodule(frames=5, roll=roll))
        assert {int(item["roll"]) for item in items} == expected


def equal(ones: list[Batch], others: list[Batch]) -> bool:
    if [list(batch) for batch in ones] != [list(batch) for batch in others]:
        return False
    pairs = zip(ones, others, strict=True)
    return all(torch.equal(one[name], other[name]) for one, other in pairs for name in one)


@pytest.mark.parametrize("redraw", ["once", "epoch"])
def test_an_epochs_batches_depend_on_its_number_and_the_seed_alone(
    make_datamodule: Made, redraw: str
) -> None:
    datamodule = make_datamodule("resample", redraw)
    first, second, third = (epoch_of(datamodule, epoch) for epoch in (1, 2, 3))
    np.random.seed(0)
    torch.manual_seed(0)
    assert equal(third, epoch_of(make_datamodule("resample", redraw), 3))
    assert not equal(third, epoch_of(make_datamodule("resample", redraw, seed=SEED + 1), 3))
    # Another order, not only other rolls.
    orders = [[identity(item)[4] for item in rows(batches)] for batches in (first, second)]
    assert orders[0] != orders[1]


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_balance_makes_rare_classes_as_frequent_as_it_says(
    make_datamodule: Made, balance: float
) -> None:
    datamodule = make_datamodule(balance=balance)
    items = [item_rows(datamodule, epoch) for epoch in range(1, 21)]
    sizes = np.bincount([item["target"] for item in item_rows(make_datamodule())])
    drawn = np.bincount([item["target"] for epoch in items for item in epoch])
    expected = sizes ** (1 - balance)
    np.testing.assert_allclose(drawn / drawn.sum(), expected / expected.sum(), atol=0.02)
    assert {len(epoch) for epoch in items} == {sizes.sum()}
    repeated = [len(set(map(identity, epoch))) < len(epoch) for epoch in items]
    assert repeated == [balance > 0] * 20


def test_a_batch_has_its_own_mixture_and_masks(make_datamodule: Made) -> None:
    more = {"mixup": 0.4, "band_mask": 3, "frame_mask": 5, "bands": 7}
    datamodule = make_datamodule(frames=40, **more)  # two chunks of 20
    batches = [*epoch_of(datamodule, 1), *epoch_of(datamodule, 2)]
    for batch in batches:
        items = len(batch["target"])
        assert sorted(batch["partner"].tolist()) == list(range(items))
        assert batch["band_mask"].shape == batch["frame_mask"].shape == (items, 2)
    assert len({batch["share"].item() for batch in batches}) == len(batches)
    for name, widest, size in (("band_mask", 3, 7), ("frame_mask", 5, 20)):
        bounds = torch.cat([batch[name] for batch in batches])
        widths = bounds[:, 1] - bounds[:, 0]
        assert (widths.min(), widths.max(), bounds.max()) == (0, widest, size)
    plain = epoch_of(make_datamodule(frames=40), 1)
    others = [{name: batch[name] for name in plain[0]} for batch in batches[: len(plain)]]
    assert equal(plain, others)


def test_worker_processes_change_no_bit(make_datamodule: Made) -> None:
    loaded = []
    more = {"balance": 1.0, "mixup": 0.4, "band_mask": 3, "bands": 7}
    for workers in (0, 2):
        datamodule = make_datamodule("phase_vocoder", "epoch", workers=workers, **more)
        datamodule.trainer = SimpleNamespace(current_epoch=1)  # Lightning counts from 0
        loaded.append([*datamodule.train_dataloader(), *datamodule.val_dataloader()])
    assert equal(*loaded)
    training = epoch_of(make_datamodule("phase_vocoder", "epoch", **more), 2)
    assert equal(loaded[0], [*training, *make_datamodule().eval_dataloader("val")])
    # As a worker that is not forked gets it.
    pickled = pickle.loads(pickle.dumps(datamodule.training_batches(2)))
    assert equal([pickled[number] for number in range(len(pickled))], training)


def test_workers_are_those_that_shared_memory_has_space_for(
    make_datamodule: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = list[int]()

    def affordable(workers: int, batch_bytes: int) -> int:
        sizes.append(batch_bytes)
        return workers - 1

    monkeypatch.setattr("lungsound.training.datamodule.affordable_workers", affordable)
    datamodule = make_datamodule(workers=2)
    assert [datamodule.eval_dataloader("val").num_workers for _ in range(2)] == [1, 1]
    largest = max(batch["waveforms"].nbytes for batch in epoch_of(datamodule))
    assert largest <= sizes[0] < 2 * largest
    assert len(sizes) == 1  # free memory shrinks while workers are at work


# --- statistics of normalization ---


@pytest.fixture(scope="module")
def demo_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.mark.parametrize(("scope", "axes"), [("band", (0, 2)), ("global", (0, 1, 2))])
def test_statistics_of_normalization_are_the_training_cycles_alone(
    demo_store: Path, monkeypatch: pytest.MonkeyPatch, scope: str, axes: tuple[int, ...]
) -> None:
    overrides = f"features.normalization={scope}", f"store_dir={demo_store}"
    settings = compose_settings(*SMALL_DEMO, *overrides)
    cycles = build_inputs(settings).cycles
    database = build_database(settings)
    original = np.array(database.store.samples)

    def fitted(changed: pd.DataFrame) -> Features:
        """What is fitted if the waveforms of the cycles `changed` are noise."""
        samples, noise = original.copy(), np.random.default_rng(0).normal(size=len(original))
        for cycle in changed.itertuples():
            part = slice(cycle.start_sample, cycle.end_sample)
            samples[part] = noise[part]
        store = dataclasses.replace(database.store, _samples=samples)
        other = dataclasses.replace(database, store=store)
        monkeypatch.setattr("lungsound.runs.inputs.build_database", lambda _: other)
        return build_components(settings).module.features

    features, train = fitted(cycles[:0]), cycles["set"] == "train"
    others = fitted(cycles[~train])
    assert torch.equal(features.mean, others.mean)
    assert torch.equal(features.std, others.std)
    one_more = fitted(cycles[train][:1])
    assert not torch.isclose(features.mean, one_more.mean, rtol=0, atol=1e-3).any()

    length, segments = 5 * 10_000, []
    for cycle in cycles[train].itertuples():
        waveform = original[cycle.start_sample : cycle.end_sample]
        for start in range(0, len(waveform), length):
            segments.append(completed(waveform, start, "sample", length))
    log_mels = features.log_mel(torch.from_numpy(np.stack(segments))).double().numpy()
    # They are kept in float32.
    np.testing.assert_allclose(features.mean.squeeze(), log_mels.mean(axes), rtol=1e-6)
    np.testing.assert_allclose(features.std.squeeze(), log_mels.std(axes), rtol=1e-6)


@pytest.mark.parametrize("place", ["host", "device"])
@pytest.mark.parametrize("stretch", ["none", "phase_vocoder"])
def test_kept_log_mels_are_those_of_the_batches_waveforms(
    make_datamodule: Made, stretch: str, place: str
) -> None:
    samples = np.random.default_rng(0).standard_normal(len(SAMPLES)).astype(np.float32)
    features = Features(22_000, 100, 50, 8, 0.0, 7500.0, 1e-11, "segment")
    plain, kept = (
        make_datamodule(stretch, frames=9, cache=cache, samples=samples) for cache in ("off", place)
    )
    for datamodule in (plain, kept):
        datamodule.cache_training(features, torch.device("cpu"))
        datamodule.cache_evaluation("val", features, torch.device("cpu"))
    for epoch in (1, 2):
        for batch, other in zip(epoch_of(plain, epoch), epoch_of(kept, epoch), strict=True):
            expected = features(batch.pop("waveforms"), batch.pop("alpha"), batch.pop("f_hi"))
            assert torch.equal(other.pop("log_mels"), expected)
            assert batch.keys() == other.keys()
            assert all(torch.equal(batch[name], other[name]) for name in batch)
    sets = (datamodule.eval_dataloader("val") for datamodule in (plain, kept))
    for batch, other in zip(*sets, strict=True):
        assert torch.equal(other["log_mels"], features(batch["waveforms"]))
        assert torch.equal(other["cycle"], batch["cycle"])


def test_kept_log_mels_are_those_of_the_members_statistics(make_datamodule: Made) -> None:
    datamodule = make_datamodule(frames=9, cache="host")
    features = Features(22_000, 100, 50, 8, 0.0, 7500.0, 1e-11, "global")
    features.std.fill_(1)
    kept = []
    for mean in (0.0, 0.0, 2.0):
        features.mean.fill_(mean)
        datamodule.cache_evaluation("val", features, torch.device("cpu"))
        kept.append(datamodule.eval_log_mels["val"])
    assert kept[0] is kept[1]
    torch.testing.assert_close(kept[2], kept[0] - 2)


def test_log_mels_without_memory_are_named(
    make_datamodule: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    features = Features(22_000, 100, 50, 8, 0.0, 7500.0, 1e-11, "segment")
    datamodule = make_datamodule(frames=9, cache="auto")
    monkeypatch.setattr(log_mels, "free_memory", lambda _: 0)
    datamodule.cache_training(features, torch.device("cpu"))
    assert datamodule.training_log_mels is None
    assert "more than half of the free memory: computed for each batch" in capsys.readouterr().out
    huge = make_datamodule(frames=10**12, cache="host")
    with pytest.raises(TrainingError, match=r"expected memory .* GB on cpu.*trainer\.cache=off"):
        huge.cache_training(features, torch.device("cpu"))


def test_copies_that_are_drawn_in_every_epoch_are_not_kept(make_datamodule: Made) -> None:
    datamodule = make_datamodule(redraw="epoch", frames=9, cache="host")
    features = Features(22_000, 100, 50, 8, 0.0, 7500.0, 1e-11, "segment")
    datamodule.cache_training(features, torch.device("cpu"))
    assert all("waveforms" in batch for batch in epoch_of(datamodule))
