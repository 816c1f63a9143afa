"""Changes the package one constant or wire at a time and runs the tests that ought to notice.

mutants.py [--write] [--only WORD]   each mutant in a fresh copy of the package; survivors are
listed, and `--write` puts the figures into docs/reliability.md
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
COPIED = ("lungsound", "conf", "tests", "pyproject.toml")
TIMEOUT_S = 600


class Mutant(NamedTuple):
    """`old`, which occurs once in `file`, becomes `new`; `tests` are pytest's arguments."""

    file: str
    old: str
    new: str
    tests: str


SIGNAL = "lungsound/signal"
FEATURES = "tests/signal/test_features.py"
VTLP = "tests/signal/test_vtlp.py"
SEGMENTS = "tests/signal/test_segments.py"
CHUNKS = "tests/signal/test_chunks.py"
COPIES = "tests/signal/test_copies.py"
STRETCH = "tests/signal/test_stretch.py"
SCHEDULE = "tests/training/test_schedule.py"
LOSSES = "tests/training/test_losses.py"
DATAMODULE = "tests/training/test_datamodule.py"
CNN7 = "tests/models/test_cnn7.py"
SCORES = "tests/scoring/test_scores.py"
WIRES = "tests/runs/test_wires.py"
MODULE = "lungsound/training/module.py"
BUILD = "lungsound/runs/build.py"
NETWORKS = "lungsound/models/registry.py"
MUTANTS = [
    # The signal.
    Mutant(f"{SIGNAL}/spectrum.py", "2 / (sample_rate * window", "1 / (sample_rate * window",
           FEATURES),
    Mutant(f"{SIGNAL}/spectrum.py", "power[..., 0] /= 2", "power[..., 0] /= 1", FEATURES),
    Mutant(f"{SIGNAL}/spectrum.py", "hann_window(n_fft,", "hamming_window(n_fft,", FEATURES),
    Mutant(f"{SIGNAL}/spectrum.py", "(samples - n_fft) // hop + 1", "samples // hop", CHUNKS),
    Mutant(f"{SIGNAL}/mel.py", 'mel_scale="htk"', 'mel_scale="slaney"', FEATURES),
    Mutant(f"{SIGNAL}/mel.py", "norm=None", 'norm="slaney"', FEATURES),
    Mutant(f"{SIGNAL}/mel.py", "/ 2595) - 1)", "/ 2590) - 1)", FEATURES),
    Mutant(f"{SIGNAL}/mel.py", "torch.minimum(rise, fall)", "torch.maximum(rise, fall)", FEATURES),
    Mutant(f"{SIGNAL}/vtlp.py", "f_hi * alpha.clamp(max=1)", "f_hi * alpha", VTLP),
    Mutant(f"{SIGNAL}/vtlp.py", "sample_rate / 2", "sample_rate / 3", VTLP),
    Mutant(f"{SIGNAL}/features.py", '"segment": (1, 2)', '"segment": (2,)', FEATURES),
    Mutant(f"{SIGNAL}/features.py", '"band": (0, 2)', '"band": (0, 1, 2)', FEATURES),
    Mutant(f"{SIGNAL}/features.py", ".add_(self.floor).log10_()", ".add_(self.floor).log_()",
           FEATURES),
    Mutant(f"{SIGNAL}/features.py", ".add_(self.floor)", ".add_(1e-12)", FEATURES),
    Mutant(f"{SIGNAL}/features.py", "(alpha == 1)", "(alpha != 1)", FEATURES),
    Mutant(f"{SIGNAL}/segments.py", "np.resize(cycle,", "np.resize(piece,", SEGMENTS),
    Mutant(f"{SIGNAL}/segments.py", "-(-samples // length)", "samples // length + 1", SEGMENTS),
    Mutant(f"{SIGNAL}/segments.py", "(length - 1) // len(piece)", "length // len(piece)", SEGMENTS),
    Mutant(f"{SIGNAL}/chunks.py", "chunk * size - roll", "chunk * size + roll", CHUNKS),
    Mutant(f"{SIGNAL}/chunks.py", "return frames // chunks", "return -(-frames // chunks)", CHUNKS),
    Mutant(f"{SIGNAL}/copies.py", '("wheeze", "both")', '("wheeze",)', COPIES),
    Mutant(f"{SIGNAL}/copies.py", "range(warps + 1)", "range(warps)", COPIES),
    Mutant(f"{SIGNAL}/copies.py", '"roll", key, copy, segment, epoch', '"roll", key, copy, segment',
           COPIES),
    Mutant(f"{SIGNAL}/copies.py", '"vtlp", key, copy, epoch', '"vtlp", key, epoch', COPIES),
    Mutant(f"{SIGNAL}/stretch.py", "round(samples / rate)", "round(samples * rate)", STRETCH),
    Mutant(f"{SIGNAL}/stretch.py", "waveform, rate, 1.0", "waveform, 1.0, rate", STRETCH),
    # Loss, schedule and choice.
    Mutant("lungsound/training/losses.py", "one_minus_p**gamma", "one_minus_p ** (2 * gamma)",
           LOSSES),
    Mutant("lungsound/training/losses.py", "* log_p).mean()", "* log_p).sum()", LOSSES),
    Mutant("lungsound/training/schedule.py", "((t - 1) %", "(t %", SCHEDULE),
    Mutant("lungsound/training/schedule.py", "self.total_epochs // self.cycles",
           "-(-self.total_epochs // self.cycles)", SCHEDULE),
    Mutant("lungsound/training/schedule.py", "else exact_score(value)", "else value", SCHEDULE),
    Mutant("lungsound/training/schedule.py", "return -value if", "return value if", SCHEDULE),
    # The network.
    Mutant("lungsound/models/cnn7.py", '"inputs": (1, 2, 1, 2, 1, 2, 1)',
           '"inputs": (1, 2, 1, 2, 1, 1, 2)', CNN7),
    Mutant("lungsound/models/cnn7.py", "nn.BatchNorm2d, momentum=1 - bn_momentum",
           "nn.BatchNorm2d, momentum=bn_momentum", CNN7),
    Mutant("lungsound/models/cnn7.py", "xavier_uniform_", "xavier_normal_", CNN7),
    Mutant("lungsound/models/cnn7.py", ".mean((-2, -1))", ".amax((-2, -1))",
           f"{WIRES} -k segment.chunks"),
    Mutant("lungsound/models/cnn7.py", "nn.ReLU(inplace=True),", "nn.Tanh(),",
           f"{WIRES} -k adam_eps"),
    # Scores.
    Mutant("lungsound/scoring/scores.py", "truth * classes + predicted",
           "predicted * classes + truth", SCORES),
    Mutant("lungsound/scoring/scores.py", "sum(defined) / len(defined)", "sum(defined) / 2",
           SCORES),
    Mutant("lungsound/scoring/probabilities.py", "sums / chunks[:, None]", "sums", SCORES),
    Mutant("lungsound/scoring/probabilities.py", "members.double().mean(0)",
           "members.double().amax(0)", SCORES),
    Mutant("lungsound/scoring/biocas.py", "average = total / 2", "average = total",
           "tests/scoring/test_biocas.py"),
    Mutant("lungsound/results/summary.py", "else exact_score(score)", "else Fraction(score)",
           "tests/results/test_summary.py"),
    # What a batch is.
    Mutant("lungsound/training/batches.py", 'epoch if self.redraw == "epoch" else 0', "0",
           DATAMODULE),
    Mutant("lungsound/training/batches.py", "if not self.is_warped[copy]:", "if True:",
           DATAMODULE),
    Mutant("lungsound/training/batches.py", "if not self.augmentation.roll:", "if False:",
           DATAMODULE),
    Mutant("lungsound/training/batches.py", "len(items) - edges[-1] == 1", "False", DATAMODULE),
    # The module's wires.
    Mutant(MODULE, 'group["lr"] = self', 'group["rate"] = self', f"{WIRES} -k rate_of_eq_1"),
    Mutant(MODULE, "learning_rate(self.current_epoch + 1)",
           "learning_rate(max(self.current_epoch, 1))", f"{WIRES} -k rate_of_eq_1"),
    Mutant(MODULE, "2 * self.l2", "self.l2", f"{WIRES} -k adam_eps"),
    Mutant(MODULE, 'batch["waveforms"], batch["alpha"], batch["f_hi"]', 'batch["waveforms"]',
           f"{WIRES} -k adam_eps"),
    Mutant(MODULE, 'log_mels, batch["roll"],', 'log_mels, 0 * batch["roll"],',
           f"{WIRES} -k adam_eps"),
    Mutant(MODULE, 'batch["chunk"], self.chunks', '0 * batch["chunk"], self.chunks',
           f"{WIRES} -k adam_eps"),
    Mutant(MODULE, "update(torch.softmax(logits.float(), 1), cycle)", "update(logits, cycle)",
           f"{WIRES} -k not_of_logits"),
    Mutant(MODULE, 'return logits, batch["cycle"].repeat_interleave(self.chunks)',
           'return logits, batch["cycle"].repeat(self.chunks)', f"{WIRES} -k by_hand"),
    Mutant(MODULE, 'batch["target"].repeat_interleave(self.chunks)',
           'batch["target"].repeat(self.chunks)', f"{WIRES} -k by_hand"),
    Mutant(MODULE, "batch_size=len(target)", "batch_size=1", f"{WIRES} -k by_hand"),
    Mutant(MODULE, "return torch.softmax(logits.float(), 1)",
           "return torch.softmax(2 * logits.float(), 1)", f"{WIRES} -k members_have"),
    Mutant("lungsound/training/snapshots.py", 'continue_from == "best"', 'continue_from == "first"',
           f"{WIRES} -k best_weights"),
    Mutant("lungsound/training/snapshots.py", 'trainer.optimizers[0].param_groups[0]["lr"]',
           "self.annealing.learning_rate(epoch)", f"{WIRES} -k own_rate"),
    Mutant("lungsound/runs/train.py", "snapshot_path(epoch) for epoch in members",
           "snapshot_path(parts.annealing.last_epoch(1)) for epoch in members",
           f"{WIRES} -k runs_members"),
    Mutant("lungsound/runs/predict.py", "stored = evaluate_member(trainer, parts, path,",
           "stored = evaluate_member(trainer, parts, folder.member_paths()[0],",
           "tests/results/test_predictions.py"),
    Mutant(NETWORKS, "own = getattr(network, \"l2_parameters\", None)",
           "own = None", "tests/models/test_registry.py -k l2"),
    # From the configuration to the objects.
    Mutant(BUILD, "settings.loss.gamma,", "1.0,",
           f"{WIRES} -k loss.gamma"),
    Mutant(BUILD, "model.l2,", "0.001,", f"{WIRES} -k model.l2"),
    Mutant(BUILD, "model.adam_eps,", "1e-7,", f"{WIRES} -k adam_eps"),
    Mutant(NETWORKS, "CNN7(classes, width, table1,", 'CNN7(classes, width, "inputs",',
           f"{WIRES} -k table1"),
    Mutant(NETWORKS, "table1, bn_momentum, bn_eps", "table1, 0.99, bn_eps",
           f"{WIRES} -k bn_momentum"),
    Mutant(NETWORKS, "bn_momentum, bn_eps, seed)", "bn_momentum, 1e-3, seed)",
           f"{WIRES} -k bn_eps"),
    Mutant(NETWORKS, "return CNN7(classes, width,", "return CNN7(classes, 0.0625,",
           f"{WIRES} -k model.width"),
    Mutant(BUILD, "settings.padding.mode", '"sample"', f"{WIRES} -k padding"),
    Mutant(BUILD, "settings.padding.mode, frames,", "settings.padding.mode, frames // 2,",
           f"{WIRES} -k adam_eps"),
    Mutant(BUILD, '"roll": settings.features.roll', '"roll": True', f"{WIRES} -k features.roll"),
    Mutant(BUILD, 'make_rng(settings.seed, "weights")', 'make_rng(0, "weights")',
           f"{WIRES} -k adam_eps"),
    Mutant("lungsound/data/database.py", "annotated.fold_to(labels)", "[0] * len(annotated)",
           f"{WIRES} -k classes"),
    Mutant("conf/augment/light.yaml", "crackle: 1", "crackle: 0", f"{WIRES} -k options"),
]  # fmt: skip


def is_noticed(mutant: Mutant) -> bool:
    """Whether a test fails on the mutant. Raises ValueError if it cannot be applied."""
    with tempfile.TemporaryDirectory(prefix="mutant") as name:
        folder = Path(name)
        for part in COPIED:
            if (ROOT / part).is_dir():  # lungsound/conf is a link to conf
                shutil.copytree(ROOT / part, folder / part, symlinks=True)
            else:
                shutil.copy(ROOT / part, folder / part)
        text = (folder / mutant.file).read_text()
        if text.count(mutant.old) != 1:
            raise ValueError(f"{mutant.file}: expected {mutant.old!r} once: mend mutants.py")
        (folder / mutant.file).write_text(text.replace(mutant.old, mutant.new))
        code = run_tests(folder, mutant.tests)
    if code not in (0, 1):
        raise ValueError(f"{mutant.file}: {mutant.new!r}: pytest ended with {code}")
    return code == 1


def run_tests(folder: Path, tests: str) -> int:
    """pytest's exit code in `folder`; a test that never ends has noticed, too."""
    process = multiprocessing.get_context("fork").Process(target=_run_pytest, args=(folder, tests))
    process.start()
    process.join(TIMEOUT_S)
    if process.is_alive():
        process.kill()
        process.join()
        return 1
    return process.exitcode if process.exitcode is not None else 3


def _run_pytest(folder: Path, tests: str) -> None:
    import pytest

    os.chdir(folder)
    sys.path[:] = [str(folder), str(folder / "tests"), *sys.path[2:]]
    with open(folder / "log", "w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests.split(maxsplit=2)])
    os._exit(int(code))


def preload() -> None:
    """Import the large libraries once, and none of ours: each mutant's process is a fork."""
    import hydra  # noqa: F401
    import librosa  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import mlflow  # noqa: F401
    import pytorch_lightning  # noqa: F401
    import scipy.signal  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import torchaudio  # noqa: F401
    import torchmetrics  # noqa: F401

    assert "lungsound" not in sys.modules


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="", help="mutants whose file or text has this word")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    preload()
    begin, survivors = time.monotonic(), []
    chosen = [mutant for mutant in MUTANTS if arguments.only in " ".join(mutant)]
    for mutant in chosen:
        start, noticed = time.monotonic(), is_noticed(mutant)
        state = "noticed" if noticed else "SURVIVED"
        print(f"{state} {time.monotonic() - start:4.0f} s  {mutant.file}: {mutant.new}", flush=True)
        if not noticed:
            survivors.append(f"{mutant.file}: `{mutant.new}`")
    minutes = (time.monotonic() - begin) / 60
    figures = f"{len(chosen)} mutants in {minutes:.0f} minutes, survived: {len(survivors)}"
    print(figures, *survivors, sep="\n")
    if arguments.write:
        from robustness.reliability import update_row

        update_row("make mutants", "; ".join([figures, *survivors]))
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
