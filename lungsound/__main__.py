"""`python -m lungsound`: the `lungsound` command."""

from lungsound.cli.app import main

main()
