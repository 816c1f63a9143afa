"""What preparing a real database costs.

python benchmarks/preparation.py [SPRSOUND] >> benchmarks/results.md

Reads SPRSound's annotations, decodes and resamples every recording with events to 22 000 Hz into a
new store, and makes the table of cycles: all that happens once before a first training. SPRSOUND is
the folder; without it, the one in LUNGSOUND_REAL_DATA. Memory is the process's highest, above what
it had after its imports.
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from lungsound.data.database import open_database

REAL_DATA = os.environ.get("LUNGSOUND_REAL_DATA", "../shared/data")


def highest_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else f"{REAL_DATA}/sprsound")
    before, start = highest_mib(), time.perf_counter()
    with tempfile.TemporaryDirectory() as store:
        database = open_database("sprsound", root, 22_000, Path(store), skip_bad=False)
    seconds, more = time.perf_counter() - start, highest_mib() - before
    minutes = sum(stored["seconds"] for stored in database.store.recordings.values()) / 60
    print("\n# Preparing SPRSound once\n")
    print(
        f"{database.recordings} recordings with {len(database.cycles)} events, "
        f"{minutes:.0f} minutes, to 22 kHz:"
    )
    print(
        f"{seconds:.1f} s on {os.cpu_count()} cores, {more:.0f} MiB above the {before:.0f} MiB "
        "of the imports."
    )


if __name__ == "__main__":
    main()
