"""`lungsound show`: a figure of an annotated recording, and a cycle as a wav."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from support.commands import run_lungsound

from lungsound.errors import DataError, StorageError

NAME = "101_1b1_Al_sc_Meditron"
NOISE = np.random.default_rng(0).uniform(-0.2, 0.2, 20_000)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """An ICBHI database of one recording of 5 s, with two cycles and a blank line between them."""
    (tmp_path / "icbhi").mkdir()
    soundfile.write(tmp_path / "icbhi" / f"{NAME}.wav", NOISE, 4000)
    (tmp_path / "icbhi" / f"{NAME}.txt").write_text("0.5\t2\t0\t0\n\n2\t4.25\t1\t0\n")
    return tmp_path / "icbhi"


def test_a_recording_and_one_cycle(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run_lungsound("show", "icbhi", database, f"{NAME}.wav", "2", "--to", out)
    figure, wav = out / f"{NAME}.png", out / f"{NAME}-2.wav"
    assert set(capsys.readouterr().out.splitlines()) == {str(figure), str(wav)}
    samples, rate_hz = soundfile.read(wav)
    assert rate_hz == 4000
    np.testing.assert_allclose(samples, NOISE[8000:17_000], rtol=0, atol=2**-15)
    with Image.open(figure) as image:
        assert len(image.convert("L").getcolors()) > 50


def test_what_cannot_be_shown(database: Path) -> None:
    with pytest.raises(DataError, match=f"102.*: expected one of the 1 recordings .* {NAME}"):
        run_lungsound("show", "icbhi", database, NAME.replace("101", "102"))
    with pytest.raises(DataError, match=f"{NAME}: expected one of its cycles 0, 2, but got 1"):
        run_lungsound("show", "icbhi", database, NAME, "1")
    with pytest.raises(StorageError, match=r"cannot be written: .*\(--to\)"):
        run_lungsound("show", "icbhi", database, NAME, "--to", database / f"{NAME}.txt")
    (database / f"{NAME}.wav").write_bytes(b"")
    with pytest.raises(DataError, match=rf"{NAME}\.wav: empty"):
        run_lungsound("show", "icbhi", database, NAME)
