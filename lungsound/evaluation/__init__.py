"""From a run's predictions to scores, figures and reports; everything here can be made again without training."""
