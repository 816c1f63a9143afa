"""From chunk probabilities to cycles, ensembles, confusion matrices and scores; no files."""
