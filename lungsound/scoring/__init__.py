"""Chunk probabilities to cycles, ensembles, confusion matrices and scores. Pure arithmetic."""
