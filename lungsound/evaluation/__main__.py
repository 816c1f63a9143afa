"""`python -m lungsound.evaluation`: the former name of a command."""

from lungsound.cli.command import told
from lungsound.cli.score import main

told(main)()
