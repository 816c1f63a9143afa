"""`python -m lungsound.study`: the former name of a command."""
