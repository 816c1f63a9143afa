"""tracking.json, which may be edited, corrupt or of release 0.1."""

import json
from pathlib import Path
from typing import Any

import pytest

from lungsound.storage.files import write_file
from lungsound.tracking.state import read_state

RELEASE_0_1 = {
    "uri": "sqlite:////home/user/mlflow.db", "experiment": "lungsound", "id": "0123abcd",
    "tags": {"data": "SYNTHETIC"}, "study": "", "status": "FINISHED", "error": "",
    "weights": ["/home/user/store/trajectories/0/epoch-0002.pt"], "counts": {}, "failed": {},
    "told": True, "lost": False,
}  # fmt: skip


def test_a_state_of_release_0_1_is_read(tmp_path: Path) -> None:
    (tmp_path / "tracking.json").write_text(json.dumps(RELEASE_0_1))
    state = read_state(tmp_path)
    assert state
    assert {"told", "lost"} == RELEASE_0_1.keys() - vars(state).keys()
    for name in RELEASE_0_1.keys() & vars(state).keys():
        assert getattr(state, name) == RELEASE_0_1[name]


@pytest.mark.parametrize(
    "wrong",
    [
        {"uri": 5}, {"id": None}, {"study": []}, {"tags": {"data": 1}}, {"tags": ["data"]},
        {"failed": {"job": {}}}, {"status": "DONE"}, {"counts": {"jobs": "1"}}, {"weights": [1]},
    ],
)  # fmt: skip
def test_other_types_are_no_state(wrong: dict[str, Any], tmp_path: Path) -> None:
    write_file(tmp_path / "tracking.json", json.dumps({**RELEASE_0_1, **wrong}).encode())
    assert read_state(tmp_path) is None


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"id": 1}', b"not JSON", b'{"weights": 3}'])
def test_other_content_is_no_state(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tracking.json").write_bytes(content)
    assert read_state(tmp_path) is None
