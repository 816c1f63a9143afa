"""tracking.json: what a sync of a folder to MLflow needs besides the folder's files."""

import json
import uuid
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from lungsound.errors import CorruptFileError
from lungsound.results.folder import RunFolder
from lungsound.storage.files import corrupt_file_on_error, read_file, write_file
from lungsound.tracking.client import validate_tracking_uri
from lungsound.tracking.contents import origin_tags

STATE_FILENAME = "tracking.json"
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class TrackingState:
    """The content of tracking.json. `id` is the folder's own, and a tag of its MLflow run."""

    uri: str
    experiment: str
    id: str
    tags: dict[str, str]
    study: str = ""  # the id of the first study that has the run
    status: Status = "RUNNING"
    error: str = ""  # the traceback, if the work failed or was killed
    weights: list[str] = field(default_factory=list)  # the members' files, if they are sent
    counts: dict[str, int] = field(default_factory=dict)  # of a study's jobs
    failed: dict[str, str] = field(default_factory=dict)  # job -> traceback, if it has no folder
    name: str = ""  # of the MLflow run; the folder's if it is empty
    log_model: bool = False  # the ensemble is sent as a model
    synced: bool = False  # MLflow has everything, the final status included


def start_tracking(
    folder: Path,
    uri: str,
    experiment: str,
    tags: dict[str, str],
    name: str,
    study: Path | None = None,
) -> TrackingState:
    """Return the state of a folder when work on it starts.

    An earlier id is kept, the tags of the command that began the work, and the study. Writes
    nothing. Raises LungsoundError if `uri` can never work.
    """
    previous = read_state(folder)
    study_state = None if study is None else read_state(study)
    identity = previous.id if previous else uuid.uuid4().hex
    parent_id = previous.study if previous else ""
    if study_state is not None and not parent_id:
        parent_id = study_state.id
    tags = {**(previous.tags if previous else origin_tags()), **tags}
    status: Status = "FINISHED" if RunFolder(folder).is_complete else "RUNNING"
    address = validate_tracking_uri(uri)
    return TrackingState(address, experiment, identity, tags, parent_id, status, name=name)


def read_state(folder: Path) -> TrackingState | None:
    """Return the stored state; None if there is no valid one."""
    path = folder / STATE_FILENAME
    try:
        content = read_file(path)
        with corrupt_file_on_error(path):
            return TypeAdapter(TrackingState).validate_json(content, strict=True)
    except (FileNotFoundError, CorruptFileError):
        return None


def write_state(folder: Path, state: TrackingState) -> None:
    """Write tracking.json."""
    write_file(folder / STATE_FILENAME, json.dumps(asdict(state), indent=2).encode())


def reset_run_folder(folder: RunFolder) -> None:
    """Empty the run's folder.

    Keeps tracking.json unless MLflow already has the final status, so that a run left RUNNING is
    reused and closed.
    """
    state = read_state(folder.path)
    folder.clear(keep="" if state is not None and state.synced else STATE_FILENAME)


def resolve_status(folder: Path, state: TrackingState) -> TrackingState:
    """Return the state of a folder without a running process: FINISHED if it is complete."""
    if RunFolder(folder).is_complete:
        return replace(state, status="FINISHED", error="")
    return replace(state, status="KILLED") if state.status == "RUNNING" else state
