"""The snapshot ensemble beside its controls, from stored predictions, counted again by pandas."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from scipy.special import softmax
from support.runs import compose_config

from lungsound.results.folder import RunFolder
from lungsound.studies.controls import (
    control_rows,
    control_table,
    draw_controls,
    has_controls,
    plot_differences,
    plot_sizes,
)
from lungsound.studies.statistics import corrected_interval
from lungsound.studies.tables import console

LABELS = ("normal", "crackle", "wheeze", "both")
MEMBERS = {"cosine": 3, "one_cosine": 1, "average": 3, "independent_long": 3}
EPOCHS = {"cosine": 6, "one_cosine": 6, "average": 6, "independent_long": 18}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Three splits of four systems; members of more epochs answer better."""
    rows = []
    for seed in range(3):
        for annealing, members in MEMBERS.items():
            folder = tmp_path_factory.mktemp("run")
            run = RunFolder(folder)
            run.write_predictions(predictions(seed, annealing, members))
            epochs = [{"epoch": number, "period": 1} for number in range(1, EPOCHS[annealing] + 1)]
            run.write_history(epochs)
            option = compose_config(f"annealing={annealing}")[0].annealing
            run.write_text("config.yaml", OmegaConf.to_yaml({"annealing": option}))
            row = {"annealing": annealing, "split.seed": seed, "protocol": "random"}
            row |= {"members": members, "folder": str(folder)}
            rows.append({**row, "train_cycles": 300, "val_cycles": 100, "test_cycles": 240})
    return pd.DataFrame(rows)


def predictions(seed: int, annealing: str, members: int) -> pd.DataFrame:
    cycles = 480
    rng = np.random.default_rng(seed)  # the cycles are the split's
    truth, number = rng.integers(0, 4, cycles), np.arange(cycles)
    skill = EPOCHS[annealing] / 6
    rng = np.random.default_rng([seed, *annealing.encode()])
    patient = [f"p{n % 24 // 2}" for n in number]
    keys = {"recording": patient, "patient": patient, "cycle": number}
    keys |= {"start_seconds": 0.0, "end_seconds": 1.0, "label": np.array(LABELS)[truth]}
    keys["set"] = np.where(number % 2 == 0, "val", "test")
    tables = []
    for member in range(1, members + 1):
        logits = rng.normal(size=(cycles, 4)) + skill * np.eye(4)[truth]
        columns = dict(zip([f"p_{label}" for label in LABELS], softmax(logits, 1).T, strict=True))
        tables.append(pd.DataFrame({**keys, "member": member, **columns}))
    return pd.concat(tables, ignore_index=True)


def score_by_pandas(folder: str, members: list[int]) -> float:
    table = pd.read_parquet(Path(folder) / "predictions.parquet")
    rows = table[(table["set"] == "test") & table["member"].isin(members)]
    means = rows.groupby("cycle")[[f"p_{label}" for label in LABELS]].mean()
    truth = rows.groupby("cycle")["label"].first()
    right = means.idxmax(axis=1).str.removeprefix("p_") == truth
    return float((right[truth == "normal"].mean() + right[truth != "normal"].mean()) / 2)


def test_each_system_is_scored_on_its_members_and_counts_its_epochs(runs: pd.DataFrame) -> None:
    rows = control_rows(runs, ["annealing", "split.seed"])
    assert len(rows) == 3 * 6
    members = {"snapshot ensemble": [1, 2, 3], "one model, one cosine": [1],
               "average of last weights": [3], "ensemble of averages": [1, 2, 3],
               "independent, M × epochs": [1, 2, 3]}  # fmt: skip
    epochs = rows.groupby("system")["epochs"].unique()
    assert epochs["independent, M × epochs"].tolist() == [18]
    assert {*np.concatenate(epochs.drop("independent, M × epochs").tolist())} == {6}
    for _, split in rows.groupby("split.seed"):
        by_system = split.set_index("system")
        base = by_system.loc["snapshot ensemble", "score_4"]
        for name, numbers in members.items():
            row = by_system.loc[name]
            assert row["score_4"] == pytest.approx(score_by_pandas(row["folder"], numbers))
            assert row["members"] == len(numbers)
            if name != "snapshot ensemble":
                assert row["d_score_4"] == pytest.approx(row["score_4"] - base)
                assert row["low_score_4"] < row["d_score_4"] < row["high_score_4"]
    single = rows[rows["system"] == "best single member"].iloc[0]
    best = RunFolder(Path(single["folder"])).summary()["single"]["member"]
    assert single["score_4"] == pytest.approx(score_by_pandas(single["folder"], [best]))


def test_the_table_has_means_over_the_splits(runs: pd.DataFrame) -> None:
    rows = control_rows(runs, ["annealing", "split.seed"])
    table = control_table(rows, ["annealing", "split.seed"]).set_index("system")
    assert table["splits"].eq(3).all()
    ceiling = rows[rows["system"] == "independent, M × epochs"]
    row = table.loc["independent, M × epochs"]
    assert row["minus_ensemble_score_4"] == pytest.approx(ceiling["d_score_4"].mean())
    assert row["minus_ensemble_score_4_std"] == pytest.approx(ceiling["d_score_4"].std())
    expected = corrected_interval(ceiling["d_score_4"].tolist(), 400, 240)
    assert row["minus_ensemble_score_4_interval"] == pytest.approx(expected)
    assert (row["above_0_4"], row["below_0_4"]) == (3, 0)
    assert (
        table.loc["best single member", "below_0_4"]
        == (rows.loc[rows["system"] == "best single member", "high_score_4"] < 0).sum()
    )
    assert np.isnan(table.loc["snapshot ensemble", "minus_ensemble_score_4"])


def test_the_table_fits_a_terminal_and_breaks_no_word(runs: pd.DataFrame) -> None:
    keys = ["annealing", "split.seed"]
    text = console(control_table(control_rows(runs, keys), keys), "controls", [])
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    head = lines[: next(number for number, line in enumerate(lines) if "─" in line)]
    words = {word for line in head for word in line.split()}
    assert words <= {"controls", "system", "members", "epochs", "splits", "minus", "first",
                     "4-class", "2-class", "score"}  # fmt: skip


def test_a_split_without_the_ensemble_has_nothing_to_compare_with(runs: pd.DataFrame) -> None:
    partly = runs[(runs["annealing"] != "cosine") | (runs["split.seed"] == 1)]
    rows = control_rows(partly, ["annealing", "split.seed"])
    assert rows["split.seed"].unique().tolist() == [1]
    assert has_controls(runs)
    assert not has_controls(runs[runs["annealing"] == "cosine"])
    assert not has_controls(runs[runs["annealing"] != "cosine"])


def test_an_option_whose_settings_were_changed_is_not_named_by_it(
    runs: pd.DataFrame, tmp_path: Path
) -> None:
    """annealing=average annealing.select=last is an ordinary ensemble."""
    row = runs[runs["annealing"] == "average"].iloc[0].copy()
    row["folder"] = str(shutil.copytree(row["folder"], tmp_path / "run"))
    config = (tmp_path / "run" / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(config.replace("average", "last"))
    cosine = runs[(runs["annealing"] == "cosine") & (runs["split.seed"] == row["split.seed"])]
    rows = control_rows(pd.concat([cosine, row.to_frame().T]), ["annealing", "split.seed"])
    assert rows["system"].tolist() == ["snapshot ensemble", "best single member"]


def test_other_swept_keys_have_figures_of_their_own(runs: pd.DataFrame) -> None:
    keys = ["annealing", "padding", "split.seed"]
    both = [runs.assign(padding=name) for name in ("zero", "sample")]
    rows = control_rows(pd.concat(both), keys)
    rows.loc[rows["padding"] == "zero", "score_4"] = np.nan  # as of another task
    figures = draw_controls(rows, keys, "a title")
    names = ["differences_1", "controls_1", "differences_2", "controls_2"]
    assert list(figures) == names
    assert "padding=zero" in figures["controls_1"].get_suptitle()
    assert [len(figures[name].axes) for name in names] == [1, 1, 2, 2]
    assert list(draw_controls(rows, ["annealing", "split.seed"], "")) == ["differences", "controls"]


def test_figures_have_every_system(runs: pd.DataFrame) -> None:
    rows = control_rows(runs, ["annealing", "split.seed"])
    forest = plot_differences(rows, "a title").axes
    assert [text.get_text() for text in forest[0].get_yticklabels()] == [
        "best single member", "one model, one cosine", "average of last weights",
        "ensemble of averages", "independent, M × epochs",
    ]  # fmt: skip
    assert len(forest) == 2
    sizes = plot_sizes(rows, "a title")
    (legend,) = sizes.legends
    assert len(legend.get_texts()) == 6
    curves = [line for line in sizes.axes[0].lines if len(line.get_xdata()) == 3]
    base = rows[rows["system"] == "snapshot ensemble"]
    firsts = np.mean([score_by_pandas(folder, [1, 2]) for folder in base["folder"]])
    assert curves[0].get_ydata()[1] == pytest.approx(firsts)
