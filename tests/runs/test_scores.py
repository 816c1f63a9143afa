"""The validation score, which searches maximize, and the guide's search."""

import re
from pathlib import Path

import optuna
import pandas as pd
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from sklearn.metrics import recall_score
from support.runs import ROOT, SMALL_RUN_OVERRIDES

import lungsound
from lungsound.cli.train import run_job
from lungsound.config.overrides import compose_config
from lungsound.errors import ConfigError


def reference_score(run: Path, name: str) -> float:
    """The mean of specificity and four-class sensitivity of the mean over members, by sklearn."""
    table = pd.read_parquet(run / "predictions.parquet")
    table = table[table["set"] == name]
    means = table.groupby(["recording", "cycle", "label"]).mean(numeric_only=True).filter(like="p_")
    truth = means.index.get_level_values("label")
    predicted = means.idxmax(axis=1).str.removeprefix("p_")
    abnormal = truth != "normal"
    specificity = recall_score(truth, predicted, labels=["normal"], average="micro")
    return float(specificity + (truth == predicted)[abnormal].mean()) / 2


def test_a_search_gets_the_validation_score(finished_run: Path) -> None:
    score = lungsound.validation_score(finished_run)
    assert score == pytest.approx(reference_score(finished_run, "val"))
    assert score != pytest.approx(reference_score(finished_run, "test"))
    assert lungsound.validation_score(finished_run, "val/score_4") == score
    assert lungsound.validation_score(finished_run, "specificity") != score


@pytest.mark.parametrize("name", ["test/score_4", "score_7", "test"])
def test_a_search_does_not_get_a_test_score(finished_run: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name}: expected a validation score .*score_4, .*"):
        lungsound.validation_score(finished_run, name)


def test_a_job_returns_the_validation_score_to_hydra(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_copy.parents[1])
    cfg = compose_config(SMALL_RUN_OVERRIDES)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    assert run_job(cfg) == lungsound.validation_score(run_copy)


@pytest.mark.long
def test_the_guides_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (ROOT / "docs" / "own_network.md").read_text()
    (code,) = re.findall(r"```python\n# search\.py.*?\n(.*?)```", guide, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        exec(code.replace("n_trials=20", "n_trials=1"), {"__name__": "search"})
    study = optuna.load_study(storage="sqlite:///search.db", study_name="tiny")
    runs = [path for path in (tmp_path / "outputs").iterdir() if not path.name.startswith(".")]
    scores = sorted(lungsound.validation_score(run) for run in runs)
    assert sorted(trial.value for trial in study.trials if trial.value is not None) == scores
    assert len(scores) == 2
