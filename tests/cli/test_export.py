"""`lungsound export`: one file that answers as the ensemble, without this package."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from support.commands import run_lungsound, run_python

from lungsound import Ensemble
from lungsound.errors import ConfigError, StorageError
from lungsound.results import export as export_module
from lungsound.results.card import model_card
from lungsound.results.folder import RunFolder

ALONE = """
import sys, torch
torch.export.load(sys.argv[1]).module()(torch.rand(3, int(sys.argv[2])))
print([name for name in sys.modules if name.partition(".")[0] in ("lungsound", "torchaudio")])
"""


@pytest.mark.slow
def test_the_file_answers_as_the_ensemble(finished_run: Path, tmp_path: Path) -> None:
    file, extra = tmp_path / "ensemble.pt2", {"lungsound.json": ""}
    run_lungsound("export", finished_run, "--to", file)
    exported = torch.export.load(file, extra_files=extra).module()
    facts, ensemble = json.loads(extra["lungsound.json"]), Ensemble.load(finished_run)
    rate, length = facts["sample_rate"], facts["samples"]
    assert (facts["labels"], facts["padding"]) == (list(ensemble.labels), "sample")
    waveforms = np.random.default_rng(0).normal(0, 0.1, (3, length)).astype(np.float32)
    for count in (1, 3):  # any batch
        answers = exported(torch.from_numpy(waveforms[:count]))
        for waveform, answer in zip(waveforms, answers, strict=False):
            table = ensemble.predict(waveform, rate, cycles=[(0, length / rate)])
            np.testing.assert_allclose(table.filter(like="p_").to_numpy()[0], answer, atol=1e-5)
    done = run_python("-c", ALONE, str(file), str(length))
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_the_card_has_the_runs_scores_and_its_leak(finished_run: Path, tmp_path: Path) -> None:
    run_lungsound("export", finished_run, "--to", tmp_path / "ensemble.pt2")
    card, results = (
        (tmp_path / "ensemble.pt2.card.md").read_text(),
        RunFolder(finished_run).read_json("scores.json"),
    )
    assert results["leak"] in card
    assert "SYNTHETIC: no patient was recorded" in card
    assert "Not for diagnosis" in card
    test = results["scores"]["ensemble"][-1]["test"]
    assert f"| score 4 | {test['score_4']:.3f} | - |" in card
    assert f"No intervals by patient: {results['intervals']['problem']}." in card
    intervals = {"score_4": [0.25, 0.5]}
    with_intervals = {**results["intervals"], "problem": "", "ensemble": intervals}
    run = RunFolder(Path(shutil.copytree(finished_run, tmp_path / "run")))
    (run.path / "SHA256SUMS").unlink()
    run.write_json("scores.json", {**results, "intervals": with_intervals})
    assert f"| score 4 | {test['score_4']:.3f} | 0.250 to 0.500 |" in model_card(run)


@pytest.mark.slow
def test_onnx_answers_as_torch(finished_run: Path, tmp_path: Path) -> None:
    """Also where the audio lies below `features.floor`."""
    file, ensemble = tmp_path / "ensemble.onnx", Ensemble.load(finished_run)
    run_lungsound("export", finished_run, "--to", file)
    session = onnxruntime.InferenceSession(file)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["lungsound"])
    rate, length = facts["sample_rate"], facts["samples"]
    assert (facts["labels"], facts["padding"]) == (list(ensemble.labels), "sample")
    noise = np.random.default_rng(1).normal(0, 0.1, (3, length)) * [[1], [1e-3], [1e-6]]
    for waveforms in (noise[:1].astype(np.float32), noise.astype(np.float32)):  # any batch
        (answers,) = session.run(None, {"waveforms": waveforms})
        for waveform, answer in zip(waveforms, answers, strict=True):
            table = ensemble.predict(waveform, rate, cycles=[(0, length / rate)])
            np.testing.assert_allclose(table.filter(like="p_").to_numpy()[0], answer, atol=1e-5)


def test_onnx_that_answers_otherwise_is_refused(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "MAX_ERROR", 0.0)
    words = ("--format", "onnx", "--to", tmp_path / "x.onnx")
    with pytest.raises(ConfigError, match=r"expected torch's .* differs by .*--format torch"):
        run_lungsound("export", finished_run, *words)
    assert not (tmp_path / "x.onnx").exists()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"expected the package onnxruntime.*lungsound\[export\]"):
        run_lungsound("export", finished_run, *words)


def test_what_cannot_be_exported(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--to: expected a name in \.pt2 .* but got x\.onnx"):
        run_lungsound("export", finished_run, "--format", "torch", "--to", "x.onnx")
    with pytest.raises(ConfigError, match="expected the folder of a finished run"):
        run_lungsound("export", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"x\.pt2 cannot be written: .*\(--to\)"):
        run_lungsound("export", finished_run, "--to", tmp_path / "file" / "x.pt2")
