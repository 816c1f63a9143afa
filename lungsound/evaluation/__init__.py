"""`python -m lungsound.evaluation`: the former name of a command."""
