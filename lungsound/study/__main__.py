"""`python -m lungsound.study`: the former name of a command."""

from lungsound.cli.command import told
from lungsound.studies.study import main

told(main)()
