"""Initial weights from a file, into any network."""

from pathlib import Path

import pytest
import torch
from support.runs import SMALL_RUN_OVERRIDES, compose_settings
from torch import nn

from lungsound.errors import ConfigError
from lungsound.models.checkpoint import load_checkpoint
from lungsound.runs.inputs import build_network
from lungsound.training.weights import read_weights


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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pt", {"other": torch.ones(1)}, "none fits: 0.weight: none in the file, .3, 2. in"),
        ("a.pt", {"0.weight": nn.Linear(2, 3)}, "without code, but got Unpick"),
        ("a.pt", [torch.ones(1)], "expected weights in safetensors, or "),
        ("a.pt", None, "expected weights in safetensors, or "),
        ("a.safetensors", None, "expected weights in safetensors, or "),
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
