"""A database's figures: what is drawn is what the annotations say, nothing overlaps, and they read
in grey.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch
from PIL import Image
from support.commands import run_lungsound
from support.figures import check_text_layout

from lungsound.data.labels import FOUR_CLASS, SPRSOUND_SEVEN
from lungsound.data.readers.icbhi import parse_name, read_annotations
from lungsound.data.readers.sprsound import EVENT_LABELS
from lungsound.data.recordings import Recording
from lungsound.data.registry import DATABASES, DatabaseSpec
from lungsound.data.tools.audit import annotated_cycles
from lungsound.data.tools.plot import SHADES, classes_by, database_figures
from lungsound.errors import DataError

SYNTHETIC = "SYNTHETIC data in the layout of SPRSound 2022"


def drawn_cycles(
    cycles: int, patients: int, devices: int, parts: tuple[str, ...] = ()
) -> pd.DataFrame:
    """A table of cycles in which normal is frequent and one event type of a part is missing."""
    draws = np.random.default_rng(cycles)
    types = draws.choice(SPRSOUND_SEVEN.labels, cycles, p=[0.6, 0.1, 0.05, 0.1, 0.05, 0.05, 0.05])
    patient = (
        np.sort(draws.integers(0, patients, cycles)) if patients > 1 else np.zeros(cycles, int)
    )
    return pd.DataFrame(
        {
            "patient": [f"{100 + number}" for number in patient],
            "device": [f"Device{number}" for number in patient % devices],
            "part": draws.choice(parts, cycles) if parts else "",
            "label": [EVENT_LABELS[kind] for kind in types],
            "event_type": types if parts else "",
            "seconds": draws.gamma(4, 0.6, cycles),
        }
    )


@pytest.fixture(scope="module")
def icbhi(real_data: Path) -> pd.DataFrame:
    """The cycles of all 920 annotations of ICBHI 2017."""
    return annotated_cycles(
        Recording(path.stem, path, **vars(parse_name(path.stem)), cycles=read_annotations(path)[0])
        for path in sorted((real_data / "icbhi_annotations").glob("*_*_*_*_*.txt"))
    )


TABLES = {
    "4 devices": lambda: drawn_cycles(3000, 126, 4),
    "6 devices": lambda: drawn_cycles(3000, 126, 6),
    "3 parts": lambda: drawn_cycles(7000, 251, 1, ("train", "inter", "intra")),
    "1 patient": lambda: drawn_cycles(9, 1, 1),
    "1 cycle": lambda: drawn_cycles(1, 1, 1, ("inter",)),
}


def spec_of(name: str) -> DatabaseSpec:
    return DATABASES["sprsound" if name in ("3 parts", "1 cycle") else "icbhi"]


@pytest.mark.parametrize("name", TABLES)
def test_no_text_overlaps_or_leaves_a_figure(name: str) -> None:
    for figure in database_figures(TABLES[name](), spec_of(name), SYNTHETIC).values():
        assert any(text.startswith(SYNTHETIC) for text in check_text_layout(figure))


@pytest.mark.parametrize("name", TABLES)
def test_every_axis_is_named(name: str) -> None:
    for figure in database_figures(TABLES[name](), spec_of(name), SYNTHETIC).values():
        assert figure.get_supxlabel() or any(panel.get_xlabel() for panel in figure.axes)
        assert figure.get_supylabel() or all(panel.get_ylabel() for panel in figure.axes)


def widths(figure: Figure, panel: int) -> list[float]:
    return [
        patch.get_width() for patch in figure.axes[panel].patches if isinstance(patch, Rectangle)
    ]


def test_bars_and_counts_by_device_are_the_databases(icbhi: pd.DataFrame) -> None:
    figure = classes_by(icbhi, "device", FOUR_CLASS, "ICBHI 2017")
    devices = ("AKGC417L", "Litt3200", "LittC2SE", "Meditron")
    counts = icbhi.groupby(["device", "label"]).size()
    assert counts.groupby("label").sum().loc[list(FOUR_CLASS.labels)].to_list() == [
        3642,
        1864,
        886,
        506,
    ]
    for number, device in enumerate(devices):
        expected = counts[device].loc[list(FOUR_CLASS.labels)].to_list()
        texts = [text.get_text() for text in figure.axes[number].texts]
        assert texts == [str(count) for count in expected]
        np.testing.assert_allclose(widths(figure, number), 100 * np.array(expected) / sum(expected))
        assert figure.axes[number].get_title().startswith(f"{device}: {sum(expected)} cycles of ")


def test_bars_by_patient_hold_every_cycle_the_most_first(icbhi: pd.DataFrame) -> None:
    figure = database_figures(icbhi, DATABASES["icbhi"], "ICBHI 2017")["classes-by-patient"]
    upper, lower = (
        [patch.get_data() for patch in panel.patches if isinstance(patch, StepPatch)]
        for panel in figure.axes
    )
    heights = [np.asarray(step.values) - np.asarray(step.baseline) for step in upper]
    assert [int(height.sum()) for height in heights] == [3642, 1864, 886, 506]
    totals = np.sum(heights, axis=0)
    assert totals.tolist() == sorted(icbhi.groupby("patient").size(), reverse=True)
    assert len(totals) == 126
    np.testing.assert_allclose(np.asarray(lower[-1].values), 100)


def test_histograms_hold_every_cycle_and_patient(icbhi: pd.DataFrame) -> None:
    figures = database_figures(icbhi, DATABASES["icbhi"], "ICBHI 2017")
    assert len(figures) == 4  # ICBHI has no parts and no event types
    patients = figures["cycles-per-patient"].axes[0].patches
    assert sum(patch.get_height() for patch in patients) == 126
    durations = figures["durations-by-class"].axes
    assert [sum(patch.get_height() for patch in panel.patches) for panel in durations] == [
        3642,
        1864,
        886,
        506,
    ]
    for panel, label in zip(durations, FOUR_CLASS.labels, strict=True):
        median = icbhi.loc[icbhi["label"] == label, "seconds"].median()
        assert panel.lines[0].get_xdata()[0] == pytest.approx(median)
        assert f"median {median:.2f} s" in panel.get_title(loc="right")


def test_parts_and_event_types_are_drawn_where_there_are_some() -> None:
    cycles = drawn_cycles(500, 20, 1, ("intra", "train"))
    figures = database_figures(cycles, DATABASES["sprsound"], "SPRSound 2022")
    panels = figures["event-types-by-part"].axes
    assert [panel.get_title().partition(":")[0] for panel in panels] == ["train", "intra"]
    for panel, part in zip(panels, ("train", "intra"), strict=True):
        chosen = cycles.loc[cycles["part"] == part, "event_type"]
        assert [text.get_text() for text in panel.texts] == [
            str((chosen == kind).sum()) for kind in SPRSOUND_SEVEN.labels
        ]
    assert len(figures["classes-by-part"].axes) == 2
    assert len(figures["durations-by-event-type"].axes) == len(SPRSOUND_SEVEN.labels)


def test_classes_differ_in_lightness() -> None:
    lightness = [float(np.dot(to_rgb(shade), (0.299, 0.587, 0.114))) for shade in SHADES]
    assert all(lighter - darker > 0.1 for lighter, darker in pairwise(lightness))


@pytest.mark.parametrize("synthetic", [False, True])
def test_the_command_writes_png_into_the_folder(
    real_data: Path,
    tmp_path: Path,
    synthetic: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, source = tmp_path / "root" / "audio_and_txt_files", real_data / "icbhi_annotations"
    root.mkdir(parents=True)
    for name in ("101_1b1_Al_sc_Meditron", "104_1b1_Al_sc_Litt3200"):
        (root / f"{name}.txt").write_bytes((source / f"{name}.txt").read_bytes())
        (root / f"{name}.wav").touch()  # names and annotations are enough
    if synthetic:
        (root.parent / "SYNTHETIC.txt").write_text("computed")
    titles: list[str] = []
    saved = Figure.savefig

    def note(figure: Figure, *args: Any, **kwargs: Any) -> None:
        titles.append(figure.get_suptitle())
        saved(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", note)
    run_lungsound("data", "plot", "icbhi", str(root), "--to", str(tmp_path / "to"))
    printed = capsys.readouterr().out.splitlines()
    assert sorted(map(Path, printed)) == sorted((tmp_path / "to").glob("*.png"))
    assert len(printed) == len(titles) == 4
    assert all(
        title.startswith("SYNTHETIC") == synthetic and "ICBHI 2017" in title for title in titles
    )
    for path in printed:
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 5, path  # drawn, not blank


def test_nothing_annotated_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "101_1b1_Al_sc_Meditron.wav").touch()
    with pytest.raises(DataError, match="expected annotated cycles"):
        run_lungsound("data", "plot", "icbhi", str(tmp_path))
