"""Initial weights must not know the test set under a sentence that denies it."""

from pathlib import Path

import pytest
from support.runs import SMALL_RUN_OVERRIDES, compose_settings

from lungsound.errors import ConfigError
from lungsound.runs.inputs import RunInputs, build_inputs
from lungsound.studies.leakage import leakage_line

UNKNOWN = "Initial weights of {}: what they were trained on is unknown."


def inputs(store: Path, *overrides: str) -> RunInputs:
    return build_inputs(compose_settings(*SMALL_RUN_OVERRIDES, f"store_dir={store}", *overrides))


def test_a_member_that_was_trained_on_a_test_cycle_is_refused(
    finished_run: Path, decoded_store: Path
) -> None:
    member = f"model.checkpoint={finished_run / 'members' / 'member-01.safetensors'}"
    same = inputs(decoded_store, member)  # the run's own split
    assert same.leakage_sentence == inputs(decoded_store).leakage_sentence
    with pytest.raises(ConfigError, match=r"that know no cycle of test, .* trained on \d+ of the"):
        inputs(decoded_store, member, "split=patient")
    split = f"split.file={finished_run / 'split.csv'}"  # as the message says
    assert inputs(decoded_store, member, "split=file", split).leakage == same.leakage


def test_other_weights_are_named_as_unknown(finished_run: Path, decoded_store: Path) -> None:
    member = finished_run / "members" / "member-01.safetensors"
    copy = decoded_store.parent / "copy.safetensors"
    copy.write_bytes(member.read_bytes())
    found = inputs(decoded_store, f"model.checkpoint={copy}", "split=patient")
    sentence = found.leakage_sentence
    assert sentence.endswith(f"in training or validation. {UNKNOWN.format(copy)}")
    assert leakage_line([found.leakage], [sentence]).endswith(UNKNOWN.format(copy))
    words = ("model=timm", "model.name=test_resnet", "model.width=null", "model.pretrained=true")
    assert inputs(decoded_store, *words).leakage_sentence.endswith(
        UNKNOWN.format("timm's test_resnet")
    )
