"""Train and score one snapshot ensemble: python train.py [group=option] [key=value]."""

import sys

from lungsound.cli.hydra_commands import train

if __name__ == "__main__":
    train(sys.argv[1:])
