"""The folder of a run: predictions, scores, figures and report."""
