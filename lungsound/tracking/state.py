"""tracking.json: what MLflow is to be told of a folder besides its files, so that it can be told at
any time.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from lungsound.errors import CorruptFileError
from lungsound.results.folder import RunFolder, folder_lock_path
from lungsound.storage.files import corrupt_file_on_error, read_file, write_file
from lungsound.storage.locks import try_lock
from lungsound.tracking.client import check_address

FILE = "tracking.json"
STATUSES = ("RUNNING", "FINISHED", "FAILED", "KILLED")


@dataclass(frozen=True)
class Record:
    """`id` is the folder's own, and a tag of its MLflow run on whatever server that is."""

    uri: str
    experiment: str
    id: str
    tags: dict[str, str]
    study: str = ""  # the id of the study that the run belongs to
    status: str = "RUNNING"  # or what it ended as, see STATUSES
    error: str = ""  # the traceback of what ended it
    weights: tuple[str, ...] = ()  # the members' files, where they are wanted in MLflow
    counts: dict[str, int] = field(default_factory=dict)  # of a study's jobs
    failed: dict[str, str] = field(
        default_factory=dict
    )  # a study's jobs that failed before they were runs: traceback
    told: bool = False  # whether MLflow has all of it, its end too
    lost: bool = False  # whether nobody knows the id any more that the folder had before this one

    def __post_init__(self) -> None:
        """A stranger's file may hold anything."""
        texts = [self.uri, self.experiment, self.id, self.study, self.error, *self.weights]
        for table in (self.tags, self.failed):
            texts += [*table, *table.values()]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("expected text in every place but the counts")
        if self.status not in STATUSES or not all(
            isinstance(count, int) for count in self.counts.values()
        ):
            raise ValueError(f"expected one of {', '.join(STATUSES)}, and whole numbers")


def begin(
    folder: Path, uri: str, experiment: str, tags: dict[str, str], study: Path | None = None
) -> Record:
    """The record of a folder that is worked on from now; it keeps the id that it has. Not written
    yet.

    A folder that holds something and no record had one: it is written first. Raises LungsoundError
    where nothing can ever answer at `uri`.
    """
    address, earlier, its_study = (
        check_address(uri),
        read_record(folder),
        read_record(study) if study else None,
    )
    identity = earlier.id if earlier else uuid.uuid4().hex
    under = its_study.id if its_study else earlier.study if earlier else ""
    lost = earlier.lost if earlier else folder.is_dir() and any(folder.iterdir())
    return Record(address, experiment, identity, tags, under, lost=lost)


def read_record(folder: Path) -> Record | None:
    """None where there is none, or it is damaged or not ours."""
    path = folder / FILE
    try:
        content = read_file(path)
        with corrupt_file_on_error(path):
            stored = json.loads(content)
            return Record(**{**stored, "weights": tuple(stored["weights"])})
    except (FileNotFoundError, CorruptFileError):
        return None


def write_record(folder: Path, record: Record) -> None:
    write_file(folder / FILE, json.dumps(asdict(record), indent=2).encode())


def begin_anew(folder: RunFolder) -> None:
    """Empty a run's folder. What is made there next is another MLflow run, unless MLflow may have
    one that is RUNNING: of a start that was killed, and that nobody else would end. Its record is
    there all the time, damaged or not.
    """
    known = read_record(folder.path)
    folder.clear(keep="" if known is not None and known.told else FILE)


def settled(folder: Path, record: Record) -> Record:
    """The record of a folder on which nobody works: what is still RUNNING there was killed."""
    if RunFolder(folder).is_complete:
        return replace(record, status="FINISHED", error="")
    return replace(record, status="KILLED") if record.status == "RUNNING" else record


@contextmanager
def held_if_free(folder: Path) -> Iterator[bool]:
    """Whether nobody works on the folder, and nobody will inside. Raises StorageError where that
    cannot be known.
    """
    with try_lock(folder_lock_path(folder)) as acquired:
        yield acquired
