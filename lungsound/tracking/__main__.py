"""`python -m lungsound.tracking`: the former name of a command."""

from lungsound.cli.command import told
from lungsound.cli.send import main

told(main)()
