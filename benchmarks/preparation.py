"""Preparing a real database, against decoding and resampling it file by file with librosa.

python benchmarks/preparation.py [SPRSOUND]

SPRSOUND is the database's folder; without it, the one in LUNGSOUND_REAL_DATA. Preparing reads and
checks the annotations, hashes every recording with events, decodes it, looks for silence, resamples
it to 22 000 Hz (soxr HQ), writes a new store, and makes the table of cycles. Against it:
`librosa.load(file, sr=22000)` of the same files, which is soundfile and soxr HQ too, and no more.
Memory is the process's highest after preparing, above what it had after its imports.
"""

import os
import resource
import sys
import tempfile
from pathlib import Path

import librosa
from rows import Row, print_section, seconds_of

from lungsound.data.database import Database, open_database
from lungsound.data.registry import DATABASES

REAL_DATA = os.environ.get("LUNGSOUND_REAL_DATA", "../shared/data")
RATE = 22_000
ROUNDS = 3


def highest_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def prepare(root: Path) -> Database:
    with tempfile.TemporaryDirectory() as store:
        return open_database(DATABASES["sprsound"], root, RATE, Path(store), skip_bad=False)


def load_each(root: Path) -> None:
    recordings, _, _ = DATABASES["sprsound"].read(root)
    for recording in recordings:
        if recording.cycles:
            librosa.load(recording.audio, sr=RATE)


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else f"{REAL_DATA}/sprsound")
    before = highest_mib()
    database = prepare(root)
    more = highest_mib() - before
    ours, theirs = [], []
    for _ in range(ROUNDS):
        theirs.append(seconds_of(lambda: load_each(root)))
        ours.append(seconds_of(lambda: prepare(root)))
    ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
    minutes = sum(stored["seconds"] for stored in database.store.recordings.values()) / 60
    print_section(
        "Preparing SPRSound once",
        [Row("preparing SPRSound", "librosa.load of each file", ratios, ">= 5")],
        f"{database.recordings} recordings with {len(database.cycles)} events, "
        f"{minutes:.0f} minutes, to 22 kHz: {min(ours):.1f} s on {os.cpu_count()} cores, "
        f"{more:.0f} MiB above the {before:.0f} MiB of the imports; librosa: {min(theirs):.1f} s.",
    )


if __name__ == "__main__":
    main()
