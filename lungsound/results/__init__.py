"""A run's folder: predictions, scores, figures, report."""
