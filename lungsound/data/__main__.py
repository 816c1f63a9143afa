"""`python -m lungsound.data`: the former name of a command."""

from lungsound.cli.command import told
from lungsound.cli.data import main

told(main)()
