"""`python -m lungsound.data`: release 0.1's name of `lungsound data`."""

from lungsound.cli.app import run_former_command

run_former_command("lungsound.data", "data")
