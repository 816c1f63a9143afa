"""One hour of audio through an ensemble of 8, against 8 times one member's network alone.

python benchmarks/members.py

The ensemble: `Ensemble.load(run).predict(file, window=9, hop=9)` of a WAV file of an hour at 44.1
kHz: weights, decoding, resampling, log-mels and the table included. Alone: one member's network,
without gradients, on the prepared log-mels of as many chunks, 64 at a time as the ensemble has
them; its time is multiplied by 8. Full width gets six minutes of audio. The runs are of
a small demo database.
"""

import io
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from rows import Row, print_section, time_in_turn

from lungsound.config.overrides import compose_run
from lungsound.ensemble import BATCH_SEGMENTS, Ensemble
from lungsound.runs.run import run

MEMBERS, ROUNDS = 8, 3
RATE, WINDOW = 44_100, 9


class Case(NamedTuple):
    name: str
    width: float
    minutes: int


CASES = (Case("full", 1.0, 6), Case("a quarter", 0.25, 60), Case("an eighth", 0.125, 60))
SMALL = ("experiment=tiny", "segment=2x4.5s", "annealing.cycles=8", "annealing.epochs_per_cycle=1")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        measured = [measure(case, Path(folder)) for case in CASES]
    rows, lines = zip(*measured, strict=True)
    print_section(
        "One hour of audio through an ensemble",
        rows,
        f"The fastest of {ROUNDS} rounds:\n",
        "| width | minutes | s of the ensemble | s of one member alone |\n|---:|---:|---:|---:|",
        *lines,
    )


def measure(case: Case, folder: Path) -> tuple[Row, str]:
    """Return the row of a width, and a line of its seconds."""
    file, run_folder = folder / f"{case.minutes}.wav", train(case.width, folder)
    samples = np.random.default_rng(0).standard_normal(60 * RATE * case.minutes, np.float32)
    soundfile.write(file, 0.1 * samples, RATE)
    network = Ensemble.load(run_folder).members[0]
    chunks = torch.randn(60 * case.minutes // WINDOW * 2, 1, 50, 193)  # two of each 9 s segment

    @torch.no_grad()
    def one_member() -> None:
        for batch in torch.split(chunks, 2 * BATCH_SEGMENTS):
            network(batch)

    def ensemble() -> None:
        Ensemble.load(run_folder).predict(file, window=WINDOW, hop=WINDOW)

    seconds = time_in_turn({"ensemble": ensemble, "one": one_member}, ROUNDS)
    pairs = zip(seconds["ensemble"], seconds["one"], strict=True)
    ratios = [whole / (MEMBERS * one) for whole, one in pairs]
    what = f"{case.minutes} minutes through {MEMBERS} members of {case.name} width"
    least = f"{min(seconds['ensemble']):.1f} | {min(seconds['one']):.2f}"
    row = Row(what, f"{MEMBERS} × one member's network", ratios, "<= 1.1")
    return row, f"| {case.width:g} | {case.minutes} | {least} |"


def train(width: float, folder: Path) -> Path:
    """Train a run of 8 members, and return its folder."""
    places = [f"output_dir={folder}/{width}", f"store_dir={folder}/store"]
    tracking = f"tracking.uri=sqlite:///{folder}/mlflow.db"
    with redirect_stdout(io.StringIO()):
        return run(*compose_run([*SMALL, f"model.width={width}", *places, tracking]))


if __name__ == "__main__":
    main()
