"""Run a study: python sweep.py [-m] key=2,3,...,10 [plan=true]; each job is a run of train.py."""

import sys

from lungsound.cli.hydra_commands import sweep

if __name__ == "__main__":
    sweep(sys.argv[1:])
