"""Whether two runs came to the same bits."""

from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, recall_score


def result_bytes(folder: Path) -> dict[str, bytes]:
    """The files of a run that hold what its training came to."""
    names = ("split.csv", "history.jsonl", "predictions.parquet", "scores.json")
    return {name: (folder / name).read_bytes() for name in names}


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Every tensor of every stored snapshot, by the snapshot's file name."""
    trajectories = folder.parents[1] / "store" / "trajectories"
    paths = sorted(trajectories.glob("*/epoch-*.safetensors"))
    assert paths
    return {path.name: load_file(path) for path in paths}


def assert_identical_runs(folder: Path, other: Path) -> None:
    """Bit for bit: weights, history, predictions, scores."""
    mine, theirs = weights(folder), weights(other)
    assert mine.keys() == theirs.keys()
    for name, tensors in mine.items():
        assert tensors.keys() == theirs[name].keys()
        for key, tensor in tensors.items():
            torch.testing.assert_close(tensor, theirs[name][key], rtol=0, atol=0, equal_nan=True)
    assert result_bytes(folder) == result_bytes(other)


def reference_scores(rows: pd.DataFrame) -> dict[str, float]:
    """The scores of predictions by another route: pandas' mean over members, sklearn's recalls."""
    columns = [name for name in rows if str(name).startswith("p_")]
    of_cycle = {"label": "first", **dict.fromkeys(columns, "mean")}
    cycles = rows.groupby(["recording", "cycle"]).agg(of_cycle)
    truth = cycles["label"]
    answer = cycles[columns].idxmax(axis="columns").astype(str).str.removeprefix("p_")
    ill, ill_answer = truth != "normal", answer != "normal"
    specificity = float(recall_score(~ill, ~ill_answer))
    scores = {"specificity": specificity, "sensitivity_2": float(recall_score(ill, ill_answer))}
    if len(columns) == 4:
        abnormal = ["crackle", "wheeze", "both"]
        recall = recall_score(truth, answer, labels=abnormal, average="micro")
        scores["sensitivity_4"] = float(recall)
    for name, sensitivity in list(scores.items())[1:]:
        scores[name.replace("sensitivity", "score")] = (specificity + sensitivity) / 2
    return {**scores, "accuracy": float(accuracy_score(truth, answer))}
