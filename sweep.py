"""Run a study: python sweep.py [-m] key=2,3,...,10 [plan=true]; each job is a run of train.py."""

import sys

from lungsound.cli.app import main

if __name__ == "__main__":
    main(["sweep", *sys.argv[1:]])
