"""The registry of databases: one entry has all that is specific to a database.

A new database is a reader (a function from its folder to `ReadResult`) and an entry here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lungsound.data.labels import (
    FOUR_CLASS,
    SPRSOUND_SEVEN,
    LabelSet,
    own_label_set,
    register_label_set,
)
from lungsound.data.readers import icbhi, icbhi_files, sprsound
from lungsound.data.readers.table import read_table
from lungsound.data.recordings import ReadResult
from lungsound.data.splits.official import (
    column_split,
    official_icbhi,
    official_sprsound,
    sprsound_train_part,
)
from lungsound.data.splits.protocols import PROTOCOLS, Protocol
from lungsound.errors import DataError

ALL_PARTS = "all"  # the whole database, in `DatabaseSpec.published`
# The value in `DatabaseSpec.published` of what the source names without a count, such as a device.
NAMED = "named"
# Later commits of SPRSound's repository keep the same recordings under other names:
# BioCAS2022/train2022_wav and so on.
SPRSOUND_COMMIT = "45b0d5d435ff320c46585762fa1090afd0ebb318"


@dataclass(frozen=True)
class DownloadSource:
    """Where a database's archive comes from, and how its folder is recognized in it.

    `sha256`: checksum of the archive at `url`; None if none was published. `expected`: the content
    of the archive, for messages.
    """

    url: str
    page: str
    expected: str
    is_database: Callable[[Path], bool]
    sha256: str | None = None


@dataclass(frozen=True)
class DatabaseSpec:
    """A database: its name (`data.name`), its reader, its classes and its own protocols.

    `label_sets`: column of the table of cycles (`label`, `event_type`) -> its annotated classes,
    the finest first; `label` is required. `protocols`: those that only this database has.
    `published`: part -> the counts that its publishers give. `gapless`: its cycles are breaths that
    follow each other up to a recording's end. `min_longest_seconds`: every published file has a
    longer cycle, and twice as long if its cycles end in the first half of the audio.
    """

    name: str
    title: str
    read: Callable[[Path], ReadResult]
    label_sets: Mapping[str, LabelSet]
    protocols: Mapping[str, Protocol] = field(default_factory=dict)
    published: Mapping[str, Mapping[str, int | str]] = field(default_factory=dict)
    download: DownloadSource | None = None
    create: Callable[[Path, int, int, int], Path] | None = None
    gapless: bool = False
    min_longest_seconds: float = 0.05

    @property
    def all_protocols(self) -> dict[str, Protocol]:
        return {**PROTOCOLS, **self.protocols}

    @property
    def tasks(self) -> tuple[LabelSet, ...]:
        """The label sets that a model can be trained for, the finest first."""
        chains = (labels.chain for labels in self.label_sets.values())
        return tuple(dict.fromkeys(labels for chain in chains for labels in chain))

    def task(self, classes: int) -> LabelSet:
        """Return the label set with this number of classes. Raises DataError if there is none."""
        for labels in self.tasks:
            if len(labels) == classes:
                return labels
        sizes = ", ".join(str(len(labels)) for labels in self.tasks)
        raise DataError(f"{self.title} has tasks of {sizes} classes, but not of {classes}")

    def annotation(self, labels: LabelSet) -> tuple[str, LabelSet]:
        """Return the column of the table of cycles that has the classes `labels`, and its classes.

        Raises DataError if the annotations do not have these classes.
        """
        for column, annotated in reversed(list(self.label_sets.items())):
            if labels in annotated.chain:
                return column, annotated
        raise DataError(f"The classes {', '.join(labels.labels)} are not annotated in {self.title}")


def register_database(spec: DatabaseSpec) -> None:
    """Make a database available as `data.name=NAME`."""
    DATABASES[spec.name] = spec
    for labels in spec.tasks:
        register_label_set(labels)


def _create_demo(store_dir: Path, seed: int, patients: int, cycles: int) -> Path:
    from lungsound.data.synthetic.database import demo_root  # here: it imports this module

    return demo_root(store_dir, seed, patients, cycles)


ICBHI = DatabaseSpec(
    name="icbhi",
    title="ICBHI 2017",
    read=icbhi.read_icbhi,
    label_sets={"label": FOUR_CLASS},
    protocols={"official": official_icbhi, "official_clean": partial(official_icbhi, clean=True)},
    # Rocha et al. 2018; the rates are those of the published files.
    published={
        ALL_PARTS: {
            "recordings": 920, "patients": 126, "cycles": 6898,
            "normal": 3642, "crackle": 1864, "wheeze": 886, "both": 506, "minutes": 330,
            **dict.fromkeys(["44100 Hz", "10000 Hz", "4000 Hz", "24 bits", "16 bits"], NAMED),
            **dict.fromkeys(["AKGC417L", "LittC2SE", "Litt3200", "Meditron"], NAMED),
        },
    },
    download=DownloadSource(
        url="https://bhichallenge.med.auth.gr/sites/default/files/ICBHI_final_database/"
        "ICBHI_final_database.zip",
        page=icbhi_files.SOURCE,
        expected="recordings such as 101_1b1_Al_sc_Meditron.wav, each with its .txt beside it",
        is_database=icbhi_files.has_icbhi_recordings,
    ),
    gapless=True,
    min_longest_seconds=0.25,  # the shortest is 1.342 s; in minutes, none is 0.28 s
)  # fmt: skip
# The synthetic database has ICBHI's layout, class shares and cycle lengths.
DEMO = DatabaseSpec(
    name="demo",
    title="SYNTHETIC demo",
    read=icbhi.read_icbhi,
    label_sets=ICBHI.label_sets,
    create=_create_demo,
)
SPRSOUND = DatabaseSpec(
    name="sprsound",
    title="SPRSound 2022",
    read=sprsound.read_sprsound,
    label_sets={"event_type": SPRSOUND_SEVEN, "label": FOUR_CLASS},
    protocols={
        "official": official_sprsound,
        "official_clean": partial(official_sprsound, clean=True),
        "train_part": sprsound_train_part,
    },
    # Totals and the inter part's recordings as published (IEEE DataPort, the database's
    # repository); train and intra counted from the published annotations; inter's children and
    # events are the totals less these (intra's children are train's).
    published={
        "train": {
            "recordings": 1949, "patients": 251, "cycles": 6656, "Normal": 5159,
            "Fine Crackle": 912, "Coarse Crackle": 49, "Wheeze": 452, "Rhonchi": 39, "Stridor": 15,
            "Wheeze+Crackle": 30, "minutes": 352,
        },
        "inter": {"recordings": 355, "patients": 41, "cycles": 1429},
        "intra": {
            "recordings": 379, "patients": 162, "cycles": 1004, "Normal": 688,
            "Fine Crackle": 175, "Coarse Crackle": 14, "Wheeze": 108, "Rhonchi": 14, "Stridor": 2,
            "Wheeze+Crackle": 3,
        },
        ALL_PARTS: {
            "recordings": 2683, "patients": 292, "cycles": 9089,
            **dict.fromkeys(["8000 Hz", "16 bits", "Yunting"], NAMED),
        },
    },
    # No checksum: GitHub packs the archive on demand and does not guarantee the same bytes.
    download=DownloadSource(
        url=f"{sprsound.SOURCE}/archive/{SPRSOUND_COMMIT}.zip",
        page=f"{sprsound.SOURCE} (commit {SPRSOUND_COMMIT[:7]}; later ones rename its folders)",
        expected=f"{', '.join(sprsound.ALL_FOLDERS)} in one folder",
        is_database=sprsound.has_all_folders,
    ),
    min_longest_seconds=0.14,  # the shortest is 0.149 s, the next 0.289 s
)  # fmt: skip


def find_database(
    name: str, table: Path | str | None = None, labels: Sequence[str] | None = None
) -> DatabaseSpec:
    """Return a registered database; for `table`, that of this file, of these classes or ICBHI's.

    Raises ValueError as `own_label_set` does.
    """
    if name != "table":
        return DATABASES[name]
    classes = own_label_set(labels) if labels else FOUR_CLASS
    read = partial(read_table, table=Path(table or "cycles.csv"), labels=classes.labels)
    protocols = {"column": column_split}
    return DatabaseSpec(name, "own recordings", read, {"label": classes}, protocols)


DATABASES: dict[str, DatabaseSpec] = {
    spec.name: spec for spec in (DEMO, ICBHI, SPRSOUND, find_database("table"))
}
