"""What a Trainer sets for the whole process: how a GPU rounds, and that a CPU stays as it is."""

from collections.abc import Iterator
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from support.runs import compose_settings

from lungsound.runs import build


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Each test leaves the process's arithmetic as it was."""
    word = torch.get_float32_matmul_precision()
    convolutions = torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(word)
    torch.backends.cudnn.allow_tf32 = convolutions


def arithmetic() -> tuple[str, bool, bool]:
    """torch's word, TF32 in matrix products, TF32 in convolutions."""
    word = torch.get_float32_matmul_precision()
    return word, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    ("word", "tf32"), [(None, False), ("highest", False), ("high", True), ("medium", True)]
)
@pytest.mark.parametrize("before", ["highest", "medium"])
def test_a_gpu_multiplies_float32_as_the_key_says(
    monkeypatch: pytest.MonkeyPatch, word: str | None, tf32: bool, before: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    torch.set_float32_matmul_precision(before)  # what another run of this process may have left
    torch.backends.cudnn.allow_tf32 = before != "highest"
    build.set_float32(compose_settings(*([f"trainer.matmul_precision={word}"] if word else [])))
    assert arithmetic() == (word or "highest", tf32, tf32)


@pytest.mark.parametrize("before", ["highest", "medium"])
def test_on_a_cpu_the_key_changes_nothing(before: str) -> None:
    torch.set_float32_matmul_precision(before)
    build.build_trainer(compose_settings("trainer=cpu", "trainer.matmul_precision=medium"), 1)
    assert arithmetic()[0] == "highest"  # with "medium" a CPU may multiply in bfloat16


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_trainer_gets_deterministic_on_a_gpu_alone(
    monkeypatch: pytest.MonkeyPatch, deterministic: bool
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(pl, "Trainer", lambda **arguments: given.update(arguments))
    word = f"trainer.deterministic={str(deterministic).lower()}"
    build.build_trainer(compose_settings("trainer=cpu", word), 1)
    assert given["deterministic"] is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    build.build_trainer(compose_settings(word), 1)
    assert (given["accelerator"], given["deterministic"]) == ("gpu", deterministic)
