"""`python -m lungsound.evaluation`: release 0.1's name of `lungsound score`."""

from lungsound.cli.app import run_former_command

run_former_command("lungsound.evaluation")
