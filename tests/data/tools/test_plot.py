"""A database's figures: they show what is annotated, without overlaps, and are legible in grey."""

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
from support.disk import read_only
from support.figures import check_text_layout

from lungsound.data.labels import FOUR_CLASS, SPRSOUND_SEVEN
from lungsound.data.readers.icbhi import parse_name, read_annotations
from lungsound.data.readers.sprsound import EVENT_LABELS
from lungsound.data.recordings import Recording
from lungsound.data.registry import DATABASES
from lungsound.data.tools.audit import annotated_cycles
from lungsound.data.tools.plot import SHADES, database_figures
from lungsound.errors import DataError

SYNTHETIC = "SYNTHETIC data in the layout of SPRSound 2022"
COUNTS = [3642, 1864, 886, 506]


def draw_cycles(
    cycles: int, patients: int, devices: int, parts: tuple[str, ...] = ()
) -> pd.DataFrame:
    """A table of cycles in which normal is frequent and one event type of a part is missing."""
    rng = np.random.default_rng(cycles)
    types = rng.choice(SPRSOUND_SEVEN.labels, cycles, p=[0.6, 0.1, 0.05, 0.1, 0.05, 0.05, 0.05])
    patient = np.zeros(cycles, int)
    if patients > 1:
        patient = np.sort(rng.integers(0, patients, cycles))
    columns = {
        "patient": [f"{100 + number}" for number in patient],
        "device": [f"Device{number}" for number in patient % devices],
        "part": rng.choice(parts, cycles) if parts else "",
        "label": [EVENT_LABELS[kind] for kind in types],
        "event_type": types if parts else "",
        "seconds": rng.gamma(4, 0.6, cycles),
    }
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def icbhi(real_data: Path) -> pd.DataFrame:
    """The cycles of all 920 annotations of ICBHI 2017."""
    return annotated_cycles(
        Recording(path.stem, path, **parse_name(path.stem), cycles=read_annotations(path)[0])
        for path in sorted((real_data / "icbhi_annotations").glob("*_*_*_*_*.txt"))
    )


@pytest.fixture(scope="module")
def figures(icbhi: pd.DataFrame) -> dict[str, Figure]:
    return database_figures(icbhi, DATABASES["icbhi"], "ICBHI 2017")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("icbhi", (3000, 126, 6)),
        ("sprsound", (7000, 251, 1, ("train", "inter", "intra"))),
        ("icbhi", (9, 1, 1)),
        ("sprsound", (1, 1, 1, ("inter",))),
    ],
    ids=["6 devices", "3 parts", "1 patient", "1 cycle"],
)
def test_figures_have_named_axes_and_no_overlapping_text(name: str, arguments: Any) -> None:
    for figure in database_figures(draw_cycles(*arguments), DATABASES[name], SYNTHETIC).values():
        assert any(text.startswith(SYNTHETIC) for text in check_text_layout(figure))
        assert figure.get_supxlabel() or any(panel.get_xlabel() for panel in figure.axes)
        assert figure.get_supylabel() or all(panel.get_ylabel() for panel in figure.axes)


def test_bars_by_device_show_all_cycles(icbhi: pd.DataFrame, figures: dict[str, Figure]) -> None:
    counts = pd.crosstab(icbhi["device"], icbhi["label"])[list(FOUR_CLASS.labels)]
    assert counts.sum().to_list() == COUNTS
    panels = figures["classes-by-device"].axes
    for panel, (device, row) in zip(panels, counts.iterrows(), strict=True):
        assert [text.get_text() for text in panel.texts] == row.astype(str).to_list()
        widths = [bar.get_width() for bar in panel.patches if isinstance(bar, Rectangle)]
        np.testing.assert_allclose(widths, 100 * row / row.sum())
        assert panel.get_xlim() == (0, 100)
        assert panel.get_title().startswith(f"{device}: {row.sum()} cycles of ")


def test_bars_by_patient_show_all_cycles_the_most_first(
    icbhi: pd.DataFrame, figures: dict[str, Figure]
) -> None:
    upper, lower = (
        [patch.get_data() for patch in panel.patches if isinstance(patch, StepPatch)]
        for panel in figures["classes-by-patient"].axes
    )
    heights = [np.asarray(step.values) - np.asarray(step.baseline) for step in upper]
    assert [int(height.sum()) for height in heights] == COUNTS
    totals = np.sum(heights, axis=0)
    assert totals.tolist() == sorted(icbhi.groupby("patient").size(), reverse=True)
    assert len(totals) == 126
    np.testing.assert_allclose(np.asarray(lower[-1].values), 100)


def test_histograms_show_all_cycles_and_patients(
    icbhi: pd.DataFrame, figures: dict[str, Figure]
) -> None:
    assert len(figures) == 4  # ICBHI has no parts and no event types
    patients = figures["cycles-per-patient"].axes[0].patches
    assert sum(patch.get_height() for patch in patients) == 126
    panels = figures["durations-by-class"].axes
    assert [sum(patch.get_height() for patch in panel.patches) for panel in panels] == COUNTS
    for panel, label in zip(panels, FOUR_CLASS.labels, strict=True):
        median = icbhi.loc[icbhi["label"] == label, "seconds"].median()
        assert panel.lines[0].get_xdata()[0] == pytest.approx(median)
        assert f"median {median:.2f} s" in panel.get_title(loc="right")


def test_parts_and_event_types_are_drawn_if_there_are_any() -> None:
    cycles = draw_cycles(500, 20, 1, ("intra", "train"))
    figures = database_figures(cycles, DATABASES["sprsound"], "SPRSound 2022")
    panels = figures["event-types-by-part"].axes
    assert [panel.get_title().partition(":")[0] for panel in panels] == ["train", "intra"]
    for panel, part in zip(panels, ("train", "intra"), strict=True):
        types = cycles.loc[cycles["part"] == part, "event_type"].tolist()
        counts = [str(types.count(kind)) for kind in SPRSOUND_SEVEN.labels]
        assert [text.get_text() for text in panel.texts] == counts
    assert len(figures["classes-by-part"].axes) == 2
    assert len(figures["durations-by-event-type"].axes) == len(SPRSOUND_SEVEN.labels)


def test_classes_differ_in_lightness() -> None:
    lightness = [float(np.dot(to_rgb(shade), (0.299, 0.587, 0.114))) for shade in SHADES]
    assert all(lighter - darker > 0.1 for lighter, darker in pairwise(lightness))


@pytest.mark.parametrize("synthetic", [False, True])
def test_command_writes_png_files(
    real_data: Path,
    tmp_path: Path,
    synthetic: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "root" / "audio_and_txt_files"
    root.mkdir(parents=True)
    (root / "101_1b1_Al_sc_Meditron.wav").touch()  # names and annotations are enough
    with pytest.raises(DataError, match="expected annotated cycles"):
        run_lungsound("data", "plot", "icbhi", str(root))
    annotation = real_data / "icbhi_annotations" / "101_1b1_Al_sc_Meditron.txt"
    (root / annotation.name).write_bytes(annotation.read_bytes())
    if synthetic:
        (root.parent / "SYNTHETIC.txt").write_text("computed")
    titles: list[str] = []
    savefig = Figure.savefig

    def record_title(figure: Figure, *args: Any, **kwargs: Any) -> None:
        titles.append(figure.get_suptitle())
        savefig(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", record_title)
    run_lungsound("data", "plot", "icbhi", str(root), "--to", str(tmp_path / "to"))
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(paths) == sorted((tmp_path / "to").glob("*.png"))
    assert len(paths) == len(titles) == 4
    assert all("ICBHI 2017" in title for title in titles)
    assert all(title.startswith("SYNTHETIC") == synthetic for title in titles)
    with read_only(tmp_path), pytest.raises(DataError, match=r"cannot be written: .* \(--to\)$"):
        run_lungsound("data", "plot", "icbhi", str(root), "--to", str(tmp_path / "other"))
    for path in paths:
        with Image.open(path) as image:
            assert np.asarray(image.convert("L")).std() > 5, path  # not blank
