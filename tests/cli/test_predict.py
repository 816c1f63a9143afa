"""`lungsound predict`: a table and a figure per recording; what cannot be used is named."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image
from support.commands import run_lungsound

from lungsound import Ensemble
from lungsound.errors import ConfigError, DataError, Interrupted, StorageError

NOISE = np.random.default_rng(0).uniform(-0.2, 0.2, 20_000)
TABLE = "predictions.csv"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Recordings of 5 s: one, one below, and a broken one between them."""
    (tmp_path / "mine" / "below").mkdir(parents=True)
    soundfile.write(tmp_path / "mine" / "a $1$.wav", NOISE, 4000)
    soundfile.write(tmp_path / "mine" / "below" / "a.flac", np.stack([NOISE] * 2, axis=1), 4000)
    (tmp_path / "mine" / "b.mp3").write_text("no audio")
    (tmp_path / "mine" / "notes.txt").write_text("no recording")
    return tmp_path / "mine"


@pytest.mark.filterwarnings("ignore:.*mixed down")
def test_a_broken_file_is_named_and_the_others_go_on(
    finished_run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, missing = tmp_path / "out", tmp_path / "missing.wav"
    (tmp_path / "empty").mkdir()
    words = (folder, folder / "a $1$.wav", missing, tmp_path / "empty", "--out", out)
    with pytest.raises(SystemExit) as end:
        run_lungsound("predict", finished_run, *words)
    assert end.value.code == 1
    printed = capsys.readouterr()
    assert [line.split(": ")[1] for line in printed.err.splitlines()] == [
        str(tmp_path / "empty"), str(folder / "b.mp3"), str(missing)
    ]  # fmt: skip
    assert "2 channels mixed down to one" in printed.out
    assert "trained on SYNTHETIC demo" in printed.out
    names = ["mine/a $1$.wav", "mine/below/a.flac"]
    table = pd.read_csv(out / TABLE)
    assert table["recording"].drop_duplicates().tolist() == names
    figures = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert figures == [f"{name}.png" for name in names]
    for figure in figures:
        with Image.open(out / figure) as image:
            assert len(image.convert("L").getcolors()) > 50
    ensemble = Ensemble.load(finished_run)
    for name, rows in table.groupby("recording"):
        expected = ensemble.predict(folder.parent / name)
        pd.testing.assert_frame_equal(
            rows.drop(columns="recording").reset_index(drop=True), expected, atol=1e-6
        )


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_known_cycles_of_a_table(
    finished_run: Path, folder: Path, tmp_path: Path, separator: str
) -> None:
    lines = [
        "label,recording,end_seconds,start_seconds", "x,a,2.5,1", "y,a,4,3.5", r"z,.\a $1$,1.5,0"
    ]  # fmt: skip
    text = "\n".join(lines).replace(",", separator)
    (tmp_path / "cycles.csv").write_text(text)
    words = (folder / "below", folder / "a $1$.wav", "--cycles", tmp_path / "cycles.csv")
    run_lungsound("predict", finished_run, *words, "--out", tmp_path)
    table = pd.read_csv(tmp_path / TABLE)
    times = table[["recording", "start_seconds", "end_seconds"]].to_numpy().tolist()
    assert times == [
        ["below/a.flac", 1.0, 2.5], ["below/a.flac", 3.5, 4.0], ["a $1$.wav", 0.0, 1.5]
    ]  # fmt: skip


def test_a_recording_without_cycles_is_named(
    finished_run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "cycles.csv"
    table.write_text("recording,start_seconds,end_seconds\nb,0,1\n")
    with pytest.raises(SystemExit):
        run_lungsound("predict", finished_run, folder / "below", "--cycles", table)
    assert capsys.readouterr().err == (
        f"note: {table}: 1 of 1 recordings have no file: b\n"
        f"error: a.flac: expected its cycles in {table}, but no line names 'a'\n"
    )


def test_a_name_of_two_recordings_is_refused(
    finished_run: Path, folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "cycles.csv"
    (folder / "a $1$.wav").rename(folder / "a.wav")
    table.write_text("recording,start_seconds,end_seconds\na,0,1\n")
    with pytest.raises(DataError, match=r"one recording 'a', but got a\.wav, below/a\.flac"):
        run_lungsound("predict", finished_run, folder, "--cycles", table)
    table.write_text(
        "recording,start_seconds,end_seconds\na.wav,0,1\nbelow/a.flac,0,1\na.flac,1,2\n"
    )
    with pytest.raises(SystemExit):  # of b.mp3
        run_lungsound("predict", finished_run, folder, "--cycles", table, "--out", tmp_path)
    found = pd.read_csv(tmp_path / TABLE)["recording"].tolist()
    assert found == ["a.wav", "below/a.flac", "below/a.flac"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "line 1: expected the columns recording, start_seconds, end_seconds"),
        ("recording,start_seconds\na,1\n", "end_seconds missing"),
        ("recording,start_seconds,end_seconds\na,1,2\na,2,1\na,x,2\n", r"line 3.*\n.*line 4"),
        (None, r"\(--cycles\): cannot be read"),
        (b"\xff\xff", "expected a table as text in UTF-8"),
        ("recording,start_seconds,end_seconds\na,1," + "9" * 200_000, "expected cells"),
    ],
)
def test_a_table_of_cycles_that_cannot_be_read(
    tmp_path: Path, text: str | bytes | None, fault: str
) -> None:
    table = tmp_path / "cycles.csv"
    if text is not None:
        table.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=f"{table}[^\n]*(?s:.*){fault}"):
        run_lungsound("predict", "run", "x.wav", "--cycles", table)


def test_a_wrong_window_is_refused_before_any_recording(
    finished_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="window: expected seconds above 0"):
        run_lungsound("predict", finished_run, folder, "--window", "0")
    assert capsys.readouterr().err == ""


def test_results_that_cannot_be_written(finished_run: Path, folder: Path) -> None:
    out = folder / "notes.txt"
    with pytest.raises(StorageError, match=rf"{out}/.*png cannot be written: .*\(--out\)"):
        run_lungsound("predict", finished_run, folder / "below", "--out", out)


def test_every_figure_lies_below_out(
    finished_run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`..` in a path, one file under two names, and a name that is too long for a figure's."""
    (folder / "a $1$.wav").rename(folder / f"{'x' * 245}.wav")
    words = (folder / "below" / "a.flac", folder / "below" / ".." / "below" / "a.flac")
    long_name, out = folder / f"{'x' * 245}.wav", tmp_path / "mine" / "below" / "out"
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit):
        run_lungsound("predict", finished_run, long_name, *words, "--out", out)
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert new == {out / TABLE, out / "below" / "a.flac.png"}
    printed = capsys.readouterr()
    assert f"1 of 2 recordings: {out / TABLE}" in printed.out
    assert "too long" in printed.err


def test_a_file_in_another_folder_keeps_its_figure_below_out(
    finished_run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "below")
    before = set(tmp_path.rglob("*.png"))
    words = (Path("a.flac"), Path("../a $1$.wav"), "--out", Path("results"))
    run_lungsound("predict", finished_run, *words)
    new = set(tmp_path.rglob("*.png")) - before
    results = folder / "below" / "results"
    assert new == {results / "a $1$.wav.png", results / "below" / "a.flac.png"}


def test_an_interrupted_command_keeps_what_it_has(
    finished_run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lungsound.cli import predict_recordings

    opened = predict_recordings.open_sound

    def interrupt(path: Path) -> object:
        if path.name == "b.mp3":
            raise Interrupted(2, "now")
        return opened(path)

    monkeypatch.setattr(predict_recordings, "open_sound", interrupt)
    with pytest.raises(Interrupted):
        run_lungsound("predict", finished_run, folder, "--out", tmp_path / "out")
    assert set(pd.read_csv(tmp_path / "out" / TABLE)["recording"]) == {"a $1$.wav"}
