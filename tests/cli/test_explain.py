"""`lungsound explain`: a figure of where an answer comes from."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from support.commands import run_lungsound

from lungsound import Ensemble
from lungsound.cli.explain_recording import attribute_recording, equal_windows
from lungsound.data.sound import open_sound
from lungsound.errors import ConfigError, StorageError
from lungsound.results import attribution

NOISE = np.random.default_rng(0).uniform(-0.2, 0.2, 20_000)


@pytest.fixture
def breath(tmp_path: Path) -> Path:
    """A recording of 5 s."""
    soundfile.write(tmp_path / "breath.wav", NOISE, 4000)
    return tmp_path / "breath.wav"


def test_a_figure_is_written(
    finished_run: Path, breath: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / "x.png"
    run_lungsound("explain", finished_run, breath, "--label", "wheeze", "--to", figure)
    assert capsys.readouterr().out == f"{figure}\n"
    with Image.open(figure) as image:
        red, _, blue = (band.astype(int) for band in np.moveaxis(np.asarray(image)[..., :3], 2, 0))
    assert (red - blue > 60).sum() > 500  # for
    assert (blue - red > 60).sum() > 500  # against


def test_each_windows_values_sum_to_its_change(
    finished_run: Path, breath: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribution, "STEPS", 300)  # the sum is equal in the limit
    ensemble, sound = Ensemble.load(finished_run), open_sound(breath)
    table = ensemble.predict(sound, cycles=equal_windows(sound.seconds, 2.5)).assign(label="both")
    values = attribute_recording(ensemble, sound, table)
    frames_per_second = ensemble.features.sample_rate / ensemble.features.hop
    half = round(2.5 * frames_per_second)
    found = [values[:, :half].sum(), values[:, half:].sum()]
    shape = (1, 1, len(values), ensemble.segments.chunk_frames)
    baseline = np.mean(
        [one(torch.zeros(shape)).softmax(-1)[0, 3].item() for one in ensemble.members]
    )
    np.testing.assert_allclose(found, table["p_both"] - baseline, atol=1e-3)


def test_what_cannot_be_explained(
    finished_run: Path, breath: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"--label: expected one of normal, .* but got 'stridor'"):
        run_lungsound("explain", finished_run, breath, "--label", "stridor")
    with pytest.raises(ConfigError, match="window: expected seconds above 0"):
        run_lungsound("explain", finished_run, breath, "--window", "-1")
    with pytest.raises(ConfigError, match="--window: expected at least a frame"):
        run_lungsound("explain", finished_run, breath, "--window", "0.001")
    with pytest.raises(ConfigError, match=r"--to: expected a name in \.png"):
        run_lungsound("explain", finished_run, breath, "--to", "x.svg")
    with pytest.raises(StorageError, match=r"cannot be written: .*\(--to\)"):
        run_lungsound("explain", finished_run, breath, "--to", breath / "x.png")
    monkeypatch.delitem(sys.modules, "lungsound.results.attribution", raising=False)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ConfigError, match=r"expected the package captum, .*lungsound\[explain\]"):
        run_lungsound("explain", finished_run, breath)
