"""Two machines, that is, two host names, on one folder whose file system has no flock."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import prints_line
from support.studies import finish

pytestmark = pytest.mark.cluster

# A lease of seconds, and no flock in the working folder.
MACHINE = """import errno, fcntl, os
from pathlib import Path
from lungsound.storage import locks
flock, shared = fcntl.flock, Path.cwd()
def refuse(file, operation):
    number = file if isinstance(file, int) else file.fileno()
    if Path(f"/proc/self/fd/{number}").readlink().is_relative_to(shared):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    flock(file, operation)
fcntl.flock, locks.LEASE_S = refuse, 10.0
from lungsound.cli.app import main
main()
"""


def test_the_trajectory_of_a_machine_that_died_goes_on_at_another(
    run_training: Callable[..., Path], decoded_store: Path, empty_mlflow: Path, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shutil.copytree(decoded_store, shared / "store")

    def start(host: str, cycles: int) -> "subprocess.Popen[str]":
        shutil.copy(empty_mlflow, tmp_path / f"{host}.db")
        words = ("train", "experiment=tiny", f"annealing.cycles={cycles}")
        line = [
            sys.executable,
            "-c",
            MACHINE,
            *words,
            f"tracking.uri=sqlite:///{tmp_path / host}.db",
        ]
        name_first = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host]
        return subprocess.Popen(
            [*name_first, *line],
            cwd=shared,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    first = start("node1", 4)
    assert prints_line(first, "epoch 2/4")
    first.kill()
    first.communicate()
    (lease,) = shared.glob("store/trajectories/*.lease")
    assert "host=node1" in lease.read_text()
    second = start("node2", 3)
    assert prints_line(second, "waiting for another process, which holds the lock")
    finish(second)
    assert not lease.exists()
    (run,) = (path.parent for path in shared.glob("outputs/*/SHA256SUMS"))
    assert json.loads((run / "metadata.json").read_text())["epochs_trained"] <= 1
    words = ("experiment=tiny", "annealing.epochs_per_cycle=1", "annealing.cycles=3")
    alone = run_training(tmp_path / "alone", *words)
    for name in ("predictions.parquet", "history.jsonl"):
        assert (run / name).read_bytes() == (alone / name).read_bytes()
