"""Train and score one snapshot ensemble: python train.py [group=option] [key=value]."""

import sys

from lungsound.cli.app import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
