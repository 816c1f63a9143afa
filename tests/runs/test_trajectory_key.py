"""A trajectory is named after what shapes the weights by intention; the machine is recorded."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.runs import SMALL_RUN_OVERRIDES, compose_config, compose_settings

from lungsound.runs.inputs import build_inputs
from lungsound.runs.machine import describe_machine
from lungsound.runs.naming import run_name
from lungsound.runs.trajectory_key import code_without_comments, trajectory_key_fields
from lungsound.runs.validation import validate_config
from lungsound.training.history import machine_changes, parse_history

SOURCE = '''
"""A module."""
def rate(epoch):
    """A rate."""
    return 2 * epoch
class Schedule:
    """A class."""
    start = "a value"
'''


def test_comments_and_docstrings_do_not_change_the_code() -> None:
    commented = SOURCE.replace("A rate.", "Another sentence.").replace(
        "return", "# Why.\n    return"
    )
    undocumented = SOURCE.replace('    """A rate."""\n', "").replace('"""A module."""\n', "")
    code = code_without_comments(SOURCE)
    assert code_without_comments(commented) == code_without_comments(undocumented) == code
    assert code_without_comments(SOURCE.replace("a value", "another")) != code
    assert code_without_comments(SOURCE.replace("2 *", "3 *")) != code


def test_another_machine_names_the_same_run(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login node, with other threads and without the GPU, plans the same folders."""
    store = f"store_dir={finished_run.parents[1] / 'store'}"
    cfg, choices = compose_config(*SMALL_RUN_OVERRIDES, store)
    settings = validate_config(cfg)
    machine = describe_machine(settings)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(torch, "__version__", "3.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert run_name(settings, choices, build_inputs(settings)) == finished_run.name
    assert describe_machine(settings) == "a GPU, threads: 64, torch 3.0" != machine


@pytest.mark.parametrize("key", ["balance", "mixup", "band_mask", "frame_mask"])
def test_a_setting_that_is_off_names_no_new_path(finished_run: Path, key: str) -> None:
    store = f"store_dir={finished_run.parents[1] / 'store'}"
    paths = []
    for value in (0, 1):
        settings = compose_settings(*SMALL_RUN_OVERRIDES, store, f"augment.{key}={value}")
        inputs = build_inputs(settings)
        paths.append(inputs.trajectory.folder)
        fields = trajectory_key_fields(settings, inputs.database, inputs.cycles, inputs.annealing)
        assert (key in fields["augment"]) == (value == 1)
    assert paths[0] != paths[1]


def test_a_path_that_goes_on_elsewhere_is_marked(
    run_training: Callable[..., Path], finished_run: Path, tmp_path: Path,
    trained_epochs: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr("lungsound.runs.train.describe_machine", lambda _: "a GPU")
        one = run_training(tmp_path, "annealing.cycles=1")
    assert "valid, not bit-equal" not in capsys.readouterr().out
    two = run_training(tmp_path)
    assert trained_epochs == [1, 2, 3, 4]
    here = f"cpu, threads: {torch.get_num_threads()}, torch {torch.__version__}"
    change = f"epochs 1-2 were made on a GPU; from here on {here}: valid, not bit-equal to one made"
    assert capsys.readouterr().out.count(change) == 1
    machines = [json.loads(line)["machine"] for line in (two / "history.jsonl").open()]
    assert machines == ["a GPU", "a GPU", here, here]
    recorded = [json.loads((run / "metadata.json").read_text())["machine"]
                for run in (one, two, finished_run)]  # fmt: skip
    mixed = f"not bit-equal to one made on one machine: epochs 1-2: a GPU; epochs 3-4: {here}"
    assert recorded == ["a GPU", mixed, here]


def test_a_history_without_machines_can_be_read() -> None:
    line = b'{"epoch": 1, "period": 1, "val/loss": 0.5}\n'
    history = parse_history(line)
    assert machine_changes(history) == [("epochs 1-1", "an unknown machine")]
    for wrong in (b'"machine": 7', b'"val/loss": "low"'):
        with pytest.raises(ValueError, match="line 1: expected"):
            parse_history(line.replace(b'"val/loss": 0.5', wrong))
