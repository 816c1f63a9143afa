"""A database and a protocol of one's own, added as CONTRIBUTING.md says, outside of the package."""

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.metrics import f1_score, recall_score
from support.commands import run_lungsound
from support.runs import ROOT, SMALL_RUN_OVERRIDES, compose_config, compose_settings

from lungsound import Ensemble
from lungsound.data import labels as label_sets
from lungsound.data.registry import DATABASES, DatabaseSpec, register_database
from lungsound.data.splits.protocols import PROTOCOLS, register_protocol
from lungsound.errors import ConfigError
from lungsound.results.folder import RunFolder
from lungsound.runs.inputs import build_inputs
from lungsound.runs.naming import run_name
from lungsound.runs.validation import validate_config
from lungsound.studies.plan import count_items, plan_jobs

GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
LABELS = ("clear", "wheeze", "rhonchus")


def code_block(first_words: str) -> str:
    """The block of the guide that contains `first_words` in its first line."""
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", GUIDE, re.DOTALL)
    (block,) = [block for block in blocks if first_words in block.partition("\n")[0]]
    return str(block)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An importable folder with the guide's code; what it registers is forgotten at the end."""
    for group in ("data", "split"):
        (tmp_path / "conf" / group).mkdir(parents=True)
    for file, first_words in {
        "coughs_reader.py": "readers/coughs.py",
        "device_protocol.py": "splits/device.py",
        "conf/data/coughs.yaml": "Coughs 2030",
        "conf/split/device.yaml": "conf/split/device.yaml",
    }.items():
        (tmp_path / file).write_text(code_block(first_words))
    monkeypatch.syspath_prepend(tmp_path)
    known = list(label_sets.LABEL_SETS)
    yield tmp_path
    label_sets.LABEL_SETS[:] = known
    DATABASES.pop("coughs", None)
    PROTOCOLS.pop("device", None)
    for name in ("coughs_reader", "device_protocol"):
        sys.modules.pop(name, None)


def add_database() -> ModuleType:
    reader = importlib.import_module("coughs_reader")
    spec = DatabaseSpec("coughs", "Coughs 2030", reader.read_coughs, {"label": reader.LABELS})
    register_database(spec)
    return reader


def write_recordings(root: Path, patients: int = 10, cycles: int = 6) -> pd.DataFrame:
    """One recording per patient at 4 kHz: cycles of a second, their labels in turn."""
    root.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for patient in range(patients):
        name = f"{patient:02}_1.wav"
        soundfile.write(root / name, 0.1 * rng.standard_normal(4000 * cycles), 4000)
        for cycle in range(cycles):
            label = LABELS[(patient + cycle) % len(LABELS)]
            rows.append((name, float(cycle), float(cycle + 1), label))
    table = pd.DataFrame(rows, columns=["file", "start", "end", "label"])
    table.to_csv(root / "labels.csv", index=False)
    return table


def test_a_database_of_ones_own_is_trained_and_scored(
    package: Path, run_training: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    add_database()
    annotated = write_recordings(package / "recordings")
    run_lungsound("data", "check", "coughs", package / "recordings")
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row for row in printed if row[:1] == ["rhonchus"]] == [["rhonchus", "20"]]
    overrides = (
        f"hydra.searchpath=[file://{package}/conf]",
        "data=coughs",
        f"data.root={package / 'recordings'}",
        "task.classes=3",
        "augment=none",
    )
    folder = run_training(package / "work", *overrides)
    table = RunFolder(folder).read_predictions()
    assert set(table["label"]) == set(annotated["label"]) == set(LABELS)
    answers = np.array(LABELS)[table[[f"p_{label}" for label in LABELS]].to_numpy().argmax(axis=1)]
    # The last member alone, by pandas.
    tested = (table["set"] == "test") & (table["member"] == 2)
    truth, answers = table["label"][tested], answers[tested]
    normal = truth == "clear"
    specificity = (answers[normal] == "clear").mean()
    scores = RunFolder(folder).summary()["members"][-1]["test"]
    for classes, correct in ((3, answers == truth), (2, answers != "clear")):
        sensitivity = correct[~normal].mean()
        assert scores[f"score_{classes}"] == pytest.approx((specificity + sensitivity) / 2)
    assert RunFolder(folder).summary()["task"] == "coughs"
    (job,) = plan_jobs([*SMALL_RUN_OVERRIDES, *overrides, f"store_dir={package / 'store'}"])
    split = pd.read_csv(folder / "split.csv")
    # Cycles of one second in segments of two chunks of 2 s, without copies.
    assert count_items(job, "train") == 2 * (split["set"] == "train").sum()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of recordings and cycles.csv, of classes that no registry knows."""
    folder = tmp_path_factory.mktemp("own")
    table = write_recordings(folder / "recordings")
    table.columns = ["recording", "start_seconds", "end_seconds", "label"]
    table["set"] = (table.index >= 48).astype(str)
    table["set"] = table["set"].map({"False": "train", "True": "test"})
    table.to_csv(folder / "cycles.csv", sep="\t", index=False)
    return folder


def own_words(own: Path, labels: str = "[clear,wheeze,rhonchus]") -> list[str]:
    words = ["data=table", f"data.root={own / 'recordings'}", f"data.table={own / 'cycles.csv'}"]
    return [*words, f"data.labels={labels}", "task.classes=3", "augment=none", "split=column"]


def test_a_table_of_ones_own_is_trained_and_scored(
    own: Path, tmp_path: Path, run_training: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = RunFolder(run_training(tmp_path, *own_words(own), "annealing.cycles=1"))
    printed = capsys.readouterr().out
    assert "patients are unknown: validation is a fifth of the training recordings\n" in printed
    assert "PATIENTS ARE UNKNOWN" in printed
    split = pd.read_csv(folder.path / "split.csv", dtype=str)
    cycles = pd.read_csv(own / "cycles.csv", sep="\t")
    assert split["label"].tolist() == cycles["label"].tolist()
    assert ((split["set"] == "test") == (cycles["set"] == "test")).all()
    assert split.groupby("recording")["set"].nunique().max() == 1
    table = folder.read_predictions()
    tested = table[table["set"] == "test"]
    answers = np.array(LABELS)[tested[[f"p_{x}" for x in LABELS]].to_numpy().argmax(axis=1)]
    summary = folder.summary()
    assert (summary["labels"], len(tested)) == (list(LABELS), 12)
    f1 = f1_score(tested["label"], answers, labels=LABELS, average="macro")
    assert summary["macro_f1"] == pytest.approx(f1)
    recalls = recall_score(tested["label"], answers, labels=LABELS, average=None)
    assert list(summary["recall"].values()) == pytest.approx(recalls)
    assert f"macro F1 {f1:.3f}; recall: clear {recalls[0]:.3f}, wheeze" in printed
    assert Ensemble.load(folder.path).labels == LABELS
    words = ["--table", own / "cycles.csv", "--labels", ",".join(LABELS)]
    run_lungsound("score", folder.path, "table", own / "recordings", *words)
    rescored = RunFolder(folder.path / "scored-table").read_predictions()
    assert (rescored["set"] == "test").sum() == len(cycles)
    for command in (["data", "check"], ["data", "plot", "--to", tmp_path]):
        run_lungsound(*command, "table", own / "recordings", *words)
    plotted = {path.stem for path in tmp_path.glob("table-*.png")}
    assert plotted == {
        "table-classes-by-device",
        "table-classes-by-part",
        "table-durations-by-class",
    }


def test_the_order_of_the_labels_is_another_training(own: Path, decoded_store: Path) -> None:
    keys = set()
    for labels in ("[clear,wheeze,rhonchus]", "[clear,rhonchus,wheeze]", "[wheeze,clear,rhonchus]"):
        settings = compose_settings(*own_words(own, labels), f"store_dir={decoded_store}")
        keys.add(build_inputs(settings).trajectory.folder.name)
    assert len(keys) == 3


def test_other_patients_are_another_run(own: Path, decoded_store: Path, tmp_path: Path) -> None:
    """They decide intervals and what leaks, and by patient also the split."""
    table = pd.read_csv(own / "cycles.csv", sep="\t")
    number = table["recording"].str[:2].astype(int)
    words = [
        *own_words(own)[:-1],
        f"store_dir={decoded_store}",
        f"data.table={tmp_path}/cycles.csv",
    ]

    def names(split: str, patients: pd.Series | None) -> tuple[str, str]:
        table.assign(patient=patients).to_csv(tmp_path / "cycles.csv", index=False)
        cfg, choices = compose_config(*SMALL_RUN_OVERRIDES, *words, f"split={split}")
        settings = validate_config(cfg)
        inputs = build_inputs(settings)
        return run_name(settings, choices, inputs), inputs.trajectory.folder.name

    found = [names("random", patients) for patients in (None, number, number.clip(upper=8))]
    assert [len(set(column)) for column in zip(*found, strict=True)] == [3, 1]
    found = [names("patient", patients) for patients in (number, number.clip(upper=8), number)]
    assert [len(set(column)) for column in zip(*found, strict=True)] == [2, 2]


def test_a_protocol_of_ones_own_is_trained_with(
    package: Path, run_training: Callable[..., Path]
) -> None:
    register_protocol("device", importlib.import_module("device_protocol").device_split)
    folder = run_training(
        package / "work",
        f"hydra.searchpath=[file://{package}/conf]",
        "split=device",
        "split.fold=1",
        "data.demo_patients=20",
        "data.demo_cycles=200",
        "augment=none",
        "annealing.cycles=1",
    )
    split = pd.read_csv(folder / "split.csv", dtype=str)
    devices = split["recording"].str.rpartition("_")[2].groupby(split["set"]).unique()
    assert len(devices["test"]) == 1
    assert not set(devices["test"]) & (set(devices["train"]) | set(devices["val"]))
    assert (split.groupby("patient")["set"].nunique() == 1).all()


def test_a_protocols_signature_is_checked(package: Path) -> None:
    register_protocol("device", importlib.import_module("device_protocol").device_split)
    search = f"hydra.searchpath=[file://{package}/conf]"
    for override, message in (
        ("split.fold=null", "split.fold: expected a value for split=device"),
        ("split.folds=5", "split.folds: expected none for split=device .*split=patient"),
    ):
        with pytest.raises(ConfigError, match=message):
            compose_settings(search, "split=device", override)
