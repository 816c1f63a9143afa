"""`python -m lungsound.tracking`: release 0.1's name of `lungsound send`."""

from lungsound.cli.app import run_former_command

run_former_command("lungsound.tracking")
