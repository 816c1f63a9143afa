"""Initial weights from a file, into any network."""

from math import nan
from pathlib import Path

import pytest
import torch
from support.runs import SMALL_RUN_OVERRIDES, compose_settings
from torch import nn

from lungsound.errors import ConfigError
from lungsound.models.checkpoint import load_checkpoint
from lungsound.runs.inputs import build_network
from lungsound.training.weights import read_weights

EXPECTED = r"expected weights \(safetensors, or a state_dict saved by torch.save\), but got"


def test_a_member_of_a_run_is_loaded_whole(finished_run: Path) -> None:
    network = build_network(compose_settings(*SMALL_RUN_OVERRIDES))
    member = finished_run / "members" / "member-02.safetensors"
    assert load_checkpoint(network, member) == []
    expected = read_weights(member)["network"]
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_what_is_not_loaded_is_listed_and_kept(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    kept = network[1].weight.clone()
    file = {"0.weight": torch.ones(3, 2), "0.bias": torch.ones(3), "1.weight": torch.ones(1, 4),
            "2.bias": torch.ones(()), "epoch": 3}  # fmt: skip
    torch.save(file, tmp_path / "weights.pt")
    assert load_checkpoint(network, tmp_path / "weights.pt") == [
        "1.weight: [1, 4] in the file, [1, 3] in the network",
        "1.bias: none in the file, [1] in the network",
        "2.bias: [] in the file, none in the network",
    ]
    assert torch.equal(network[0].weight, torch.ones(3, 2))
    assert torch.equal(network[1].weight, kept)


def test_names_and_folders_of_others_are_known(tmp_path: Path) -> None:
    network, path = nn.Sequential(nn.Linear(2, 3)), tmp_path / "weights.pt"
    parallel = {"module.0.weight": torch.ones(3, 2), "module.0.bias": torch.ones(3)}
    torch.save({"model_state_dict": parallel, "epoch": 3}, path)
    assert load_checkpoint(network, path) == []
    assert torch.equal(network[0].weight, torch.ones(3, 2))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pt", {"other": torch.ones(1)}, "no layer's fit: 0.weight: none in .* example, other"),
        ("a.pt", {"0.bias": torch.ones(3)}, "no layer's fit: 0.weight: none in .* example, 0.bias"),
        ("a.pt", {"0.weight": torch.full((3, 2), nan)}, "finite weights, but 0.weight has NaN"),
        ("a.pt", {}, "the file has, for example, nothing"),
        ("a.pt", nn.Linear(2, 3), f"{EXPECTED} other objects, such as a whole model"),
        ("a.pt", {"0.weight": nn.Linear(2, 3)}, f"{EXPECTED} other objects"),
        ("a.pt", [torch.ones(1)], f"{EXPECTED} a list$"),
        ("a.pt", None, f"{EXPECTED} (a file of another kind|other objects)"),
        ("a.safetensors", None, f"{EXPECTED} a file of another kind, or a damaged one$"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, content: object, message: str) -> None:
    path = tmp_path / name
    if content is None:
        path.write_bytes(b"no weights")
    else:
        torch.save(content, path)
    with pytest.raises(ConfigError, match=rf"^model\.checkpoint={path}: .*{message}"):
        load_checkpoint(nn.Sequential(nn.Linear(2, 3)), path)
