"""`python -m lungsound.study`: release 0.1's name of `lungsound study`."""

from lungsound.cli.app import run_former_command

run_former_command("lungsound.study", "study")
