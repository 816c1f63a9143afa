"""Networks of timm, from scratch and from weights: against timm itself."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import timm
import torch
from support.commands import run_lungsound
from support.runs import SMALL_RUN_OVERRIDES, compose_config, compose_settings

from lungsound import Ensemble
from lungsound.errors import ConfigError
from lungsound.models.timm_networks import check_timm
from lungsound.results.export import export_onnx, export_torch
from lungsound.results.folder import RunFolder
from lungsound.results.members import load_members
from lungsound.runs.build import build_components
from lungsound.runs.inputs import build_inputs, build_network
from lungsound.runs.naming import run_name
from lungsound.runs.rescore import load_run_config
from lungsound.runs.validation import validate_config

TIMM = (*SMALL_RUN_OVERRIDES, "model=timm", "model.name=test_resnet", "model.width=null")


@pytest.fixture(scope="module")
def color_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of timm's network for three channels and ten classes."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "color.pt"
    torch.save({"state_dict": timm.create_model("test_resnet", num_classes=10).state_dict()}, path)
    return path


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext2", "test_efficientnet"])
@pytest.mark.parametrize("size", [(50, 85), (48, 80), (1, 1)])
def test_the_check_is_right_about_each_size(name: str, size: tuple[int, int]) -> None:
    try:
        sizes = {"img_size": size} if "vit" in name else {}
        network = timm.create_model(name, in_chans=1, num_classes=4, **sizes)
        works = network(torch.zeros(2, 1, *size)).shape == (2, 4)
    except (AssertionError, RuntimeError, ValueError, ZeroDivisionError):
        works = False
    assert (check_timm(name, 4, *size) == "") == works


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "model.name=test_vit",
            r"model\.name=test_vit: expected .* \[50, 85\], .*divisible by .*16",
        ),
        ("model.name=resnet1", r"model\.name: expected one of cnn7, or .* resnet18.* 'resnet1'"),
        ("model.name=test_resnet.x", r"test_resnet\.x: .*tag \(x\)"),
        ("+model.options.depth=3", r"got: .*'depth'.* such as \+model\.options\.img_size"),
        ("+model.options.pretrained=true", "multiple values for .*'pretrained'"),
        (
            "model.checkpoint=/no/file",
            r"model\.checkpoint: expected a file of weights, .*/file'",
        ),
        ("model=cnn7 model.name=resnet18", r"unexpected keyword .*\. Add model=timm"),
        ("model=cnn7 model.pretrained=true", "model.pretrained: expected false for .*cnn7"),
    ],
)
def test_what_timm_cannot_build_is_refused(words: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_settings("experiment=tiny", "model=timm", *words.split())


def test_timm_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lungsound.models.timm_networks", None)
    with pytest.raises(ConfigError, match=r"one of cnn7, or with lungsound\[timm\] installed"):
        compose_settings("experiment=tiny", "model=timm")


def test_initial_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (
        torch.cat([weight.flatten() for weight in build_network(settings).parameters()])
        for settings in (compose_settings(*TIMM, f"seed={seed}") for seed in (0, 0, 1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_checkpoint_of_three_channels_answers_as_timms(
    color_file: Path, decoded_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*TIMM, f"model.checkpoint={color_file}", f"store_dir={decoded_store}")
    network: Any = build_components(compose_settings(*words)).module.network.eval()
    theirs = timm.create_model("test_resnet", num_classes=10).eval()
    theirs.load_state_dict(torch.load(color_file)["state_dict"])
    log_mels = torch.randn(2, 1, 50, 85)
    with torch.no_grad():
        features = network.forward_features(log_mels)
        expected = theirs.forward_features(log_mels.expand(-1, 3, -1, -1))
    np.testing.assert_allclose(features, expected, atol=1e-4)
    printed = capsys.readouterr().out
    assert "Not loaded: fc.weight: [10, 96] in the file, [4, 96] in the network; fc.bias" in printed


@pytest.mark.slow
def test_a_run_from_a_checkpoint_needs_no_file_afterwards(
    run_training: Callable[..., Path], color_file: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.pt"
    weights.write_bytes(color_file.read_bytes())
    few = ("annealing.cycles=1", "annealing.epochs_per_cycle=1", "augment=none")
    run = run_training(tmp_path / "run", *TIMM, f"model.checkpoint={weights}", *few)
    weights.unlink()
    assert load_run_config(RunFolder(run), None).model.name == "test_resnet"  # lungsound score
    ensemble = Ensemble.load(run)
    length = ensemble.segments.length
    waveform = np.random.default_rng(0).normal(0, 0.1, length).astype(np.float32)
    rate = ensemble.features.sample_rate
    answer = ensemble.predict(waveform, rate, cycles=[(0, length / rate)]).filter(like="p_")
    parts = load_members(RunFolder(run))
    (tmp_path / "run.pt2").write_bytes(export_torch(parts))
    exported = torch.export.load(tmp_path / "run.pt2").module()
    np.testing.assert_allclose(exported(torch.from_numpy(waveform)[None]), answer, atol=1e-5)
    assert export_onnx(parts)  # compares onnxruntime's answers with torch's
    soundfile.write(tmp_path / "breath.wav", waveform, rate)
    run_lungsound("explain", run, tmp_path / "breath.wav", "--to", tmp_path / "breath.png")
    assert (tmp_path / "breath.png").exists()


def test_the_key_has_the_checkpoints_content_and_timms_version(
    color_file: Path, decoded_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(*words: str) -> str:
        cfg, choices = compose_config(*TIMM, f"store_dir={decoded_store}", *words)
        settings = validate_config(cfg)
        return run_name(settings, choices, build_inputs(settings))

    copy, other = tmp_path / "copy.pt", tmp_path / "other.pt"
    copy.write_bytes(color_file.read_bytes())
    other.write_bytes(b"other")
    keys = [key(f"model.checkpoint={path}") for path in (color_file, copy, other)]
    assert keys[0] == keys[1]
    assert len({*keys, key(), key("model.pretrained=true")}) == 4
    before = key()
    monkeypatch.setattr(timm, "__version__", "2.0")
    assert key() != before


def test_pretrained_weights_are_timms(decoded_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, asked = timm.create_model, []

    def create(*names: str, pretrained: bool, **options: Any) -> Any:
        network = original(*names, **options)
        asked.append(pretrained)
        if pretrained:
            for parameter in network.parameters():
                parameter.data.fill_(0.5)
        return network

    settings = compose_settings(*TIMM, "model.pretrained=true", f"store_dir={decoded_store}")
    monkeypatch.setattr(timm, "create_model", create)
    network = build_components(settings).module.network
    assert all((weight == 0.5).all() for weight in network.parameters())
    assert asked.count(True) == 1  # not where a finished run is loaded

    def fail(*_: str, pretrained: bool, **__: Any) -> Any:
        if pretrained:
            raise OSError("no network\nat all")
        return network

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(ConfigError, match=r"weights of test_resnet, but got: no network\. Without"):
        build_components(settings)
