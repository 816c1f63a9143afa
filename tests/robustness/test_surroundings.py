"""The same result whatever is around a run: how members are evaluated, and in which process."""

import copy
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support.results import assert_identical_runs
from support.runs import ROOT, SMALL_RUN_OVERRIDES, compose_settings

from lungsound.config.schema import Config
from lungsound.results.folder import RunFolder
from lungsound.runs.build import RunComponents, build_components
from lungsound.runs.predict import predict_members
from lungsound.training.weights import read_weights

# Probabilities by float32 (24 bits: 6e-8) through eight layers of a trained network are 8e-7 away
# from float64's, as measured here (two cores, AVX2). Threads and batches only sum in another order:
# they are no farther from float64 than one of them is, 8e-7 to 6e-7, and 7e-7 from each other.
# Twelve times that is room for other processors.
TOLERANCE = 1e-5
PLACE = ["recording", "cycle", "member"]
Members = tuple[Config, RunComponents, list[Path], pd.DataFrame]


@pytest.fixture(scope="module")
def members(finished_run: Path) -> Members:
    """The settings and the components of `finished_run`, its weights and its predictions."""
    store_dir = f"store_dir={finished_run.parents[1] / 'store'}"
    settings = compose_settings(*SMALL_RUN_OVERRIDES, store_dir)
    parts, folder = build_components(settings), RunFolder(finished_run)
    return settings, parts, folder.member_paths(), folder.read_predictions()


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def probabilities(table: pd.DataFrame) -> np.ndarray[Any, Any]:
    """[rows, K], by recording, cycle and member."""
    return table.sort_values(PLACE).filter(regex="^p_").to_numpy()


def in_float64(parts: RunComponents, weights: list[Path]) -> pd.DataFrame:
    """Each cycle's mean over its chunks, by plain loops and a network that computes in float64."""
    rows = []
    for member, path in enumerate(weights, start=1):
        parts.module.load_snapshot(read_weights(path))
        network = copy.deepcopy(parts.module.network).double().eval()
        for name in ("val", "test"):
            chunks: dict[int, list[torch.Tensor]] = defaultdict(list)
            for batch in parts.datamodule.eval_dataloader(name):
                log_mels = parts.module.eval_inputs(batch).double()
                for place, cycle in enumerate(batch["cycle"].tolist()):
                    with torch.no_grad():
                        chunks[cycle] += torch.softmax(network(log_mels[place].unsqueeze(1)), 1)
            table = parts.datamodule.cycles[name][["recording", "cycle"]]
            for number, names in enumerate(table.to_numpy().tolist()):
                means = torch.stack(chunks[number]).mean(0)
                rows.append([*names, member, *means.tolist()])
    return pd.DataFrame(rows, columns=[*PLACE, "p_0", "p_1", "p_2", "p_3"])


def test_the_order_of_evaluation_changes_no_bit(
    members: Members,
) -> None:
    settings, parts, weights, stored = members
    again = predict_members(settings, parts, weights[::-1], ("test", "val"))
    again["member"] = len(weights) + 1 - again["member"]
    columns = list(stored.columns)
    again = again[columns].sort_values(PLACE, ignore_index=True)
    expected = stored.sort_values(PLACE, ignore_index=True)
    pd.testing.assert_frame_equal(again, expected, check_exact=True)


@pytest.mark.parametrize(("count", "batch_size"), [(1, 1), (2, 32), (3, 7)])
def test_threads_and_batches_of_evaluation_change_the_last_digits_alone(
    members: Members, threads: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch, count: int, batch_size: int,
) -> None:  # fmt: skip
    settings, parts, weights, stored = members
    reference = probabilities(in_float64(parts, weights))
    np.testing.assert_allclose(probabilities(stored), reference, rtol=0, atol=TOLERANCE)
    assert np.ptp(reference, axis=0).min() > 1000 * TOLERANCE  # of probabilities that differ
    threads(count)
    monkeypatch.setattr(parts.datamodule, "batch_size", batch_size)
    again = probabilities(predict_members(settings, parts, weights, ("val", "test")))
    np.testing.assert_allclose(again, reference, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(again, probabilities(stored), rtol=0, atol=TOLERANCE)


# Folders listed backwards, whoever lists them, and files that nobody else may read; then the
# command.
ELSEWHERE = """
import os, runpy, sys
listdir, scandir = os.listdir, os.scandir
class Backwards:
    def __init__(self, *args):
        with scandir(*args) as entries:
            self.entries = iter(sorted(entries, key=lambda entry: str(entry.name), reverse=True))
    __iter__ = __enter__ = lambda self: self
    __next__ = lambda self: next(self.entries)
    __exit__ = close = lambda self, *_: None
os.listdir = lambda *args: sorted(listdir(*args), reverse=True)
os.scandir = Backwards
os.umask(0o077)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.long
def test_another_process_in_other_surroundings(
    finished_run: Path, empty_mlflow: Path, tmp_path: Path
) -> None:
    """Other hashes, time zone, locale, folder, order of directories, umask and variables of
    Lightning and SLURM: the same bits.
    """
    here = tmp_path / "another folder"
    here.mkdir()
    shutil.copy(empty_mlflow, here / "mlflow.db")
    surroundings = {
        "PYTHONHASHSEED": "4711", "TZ": "Pacific/Kiritimati", "LC_ALL": "C",
        "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONOPTIMIZE": "1",
        "PL_TRAINER_LIMIT_TRAIN_BATCHES": "1", "PL_TRAINER_GRADIENT_CLIP_VAL": "0.1",
        "PL_GLOBAL_SEED": "5", "PL_SEED_WORKERS": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "1",
    }  # fmt: skip
    words = [
        str(ROOT / "train.py"),
        *SMALL_RUN_OVERRIDES,
        "trainer.cache=off",
        "trainer.num_workers=1",
    ]
    command = [sys.executable, "-c", f"import sys; sys.argv = {words!r}\n{ELSEWHERE}"]
    environment = {**os.environ, **surroundings}
    ended = subprocess.run(command, cwd=here, env=environment, capture_output=True)
    assert ended.returncode == 0, ended.stderr.decode(errors="replace")
    (run,) = here.glob("outputs/demo-*")
    assert_identical_runs(run, finished_run)
